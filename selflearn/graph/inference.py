"""From pooled evidence to graph tables: anchors for the weights, goal posteriors, edges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType

from selflearn.graph.candidates import Candidates
from selflearn.graph.columns import BY_PEOPLE, fields, numbers, read_candidates
from selflearn.graph.people import n_people
from selflearn.graph.refit import Refit, Said
from selflearn.graph.significance import with_chance_z
from selflearn.graph.weights import MAX_ANCHORS, SOURCES, PoolWeights
from selflearn.graph.window import Window, goal_id, n_votes
from selflearn.lakehouse import tables
from selflearn.lakehouse.tables import OTHER_GOAL

_CLEAR = 0.5
_WORTH_LISTING = 0.05


def anchor_candidates(pooled: DataFrame, launch: DataFrame) -> pd.DataFrame:
    """Evidence for the goals of utterances that stand in the launch set, with `is_right` by the launch set's goal.

    Utterances that the launch set gives several goals are left out; at most `MAX_ANCHORS`, by their id.
    """
    known = (
        launch.groupBy("utterance_id")
        .agg(F.count_distinct("goal").alias("n_goals"), goal_id(F.min("goal")).alias("launch_goal"))
        .where("n_goals = 1")
    )
    anchors = (
        pooled.select("utterance_id", "text", "context", "fold", "goals")
        .join(F.broadcast(known), "utterance_id")
        .orderBy("utterance_id")
        .limit(MAX_ANCHORS)
    )
    rows = anchors.select("utterance_id", "text", "context", "fold", "launch_goal", F.inline("goals")).withColumn(
        "is_right", F.col("goal") == F.col("launch_goal")
    )
    columns = ["utterance_id", "text", "context", "fold", *SOURCES, "is_right", "goal"]
    return rows.select(*columns).toPandas().sort_values(["utterance_id", "goal"])


def outcome_candidates(pooled: DataFrame) -> pd.DataFrame:
    """Evidence for the goals of utterances that have outcomes; of at most `MAX_ANCHORS`, by their id."""
    seen = F.exists("goals", lambda goal: goal["outcome_evidence"] != 0)
    some = (
        pooled.select("utterance_id", "text", "context", "fold", "goals")
        .where(seen)
        .orderBy("utterance_id")
        .limit(MAX_ANCHORS)
    )
    rows = some.select("utterance_id", "text", "context", "fold", F.inline("goals"))
    return (
        rows.select("utterance_id", "text", "context", "fold", *SOURCES, "before_evidence", "goal")
        .toPandas()
        .sort_values(["utterance_id", "goal"])
    )


def graph_nodes(
    pooled: DataFrame, names: DataFrame, weights: PoolWeights, as_of: date, refit: Refit | None = None
) -> DataFrame:
    """Columns of `tables.GRAPH_NODES`: every candidate goal of every utterance, with its posterior and support.

    `posterior_without_one` is what the posterior would be without what any one person did: what changes it to another
    goal's favour rests on that person.

    `names` are the `goal_names`. If the refit learnt with vectors, `pooled` has each text's `vector`, null where it is
    not known.
    """
    schema = tables.GRAPH_NODES.schema
    columns = [field.name for field in schema]
    by_id = [StructField("goal_id", LongType()) if field.name == "goal" else field for field in schema]

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            candidates = read_candidates(batch)
            if refit is not None:
                nlu = candidates.evidence[:, SOURCES.index("nlu_evidence")]
                evidence = refit.evidence(_said(batch, refit.dimension), candidates.utterance, candidates.goal, nlu)
                candidates.evidence[:, SOURCES.index("refit_evidence")] = evidence
            posterior, rank = candidates.posterior(weights)
            rest, _ = _without_one(batch, candidates).posterior(weights)
            (merged,) = fields(batch.column("goals"), "merge_evidence")
            of_utterance = batch.take(pa.array(candidates.utterance))
            made = {
                "as_of": pa.repeat(pa.scalar(as_of), len(rank)),
                "goal_id": pa.array(candidates.goal),
                "rank": pa.array(rank, pa.int32()),
                "posterior": pa.array(posterior),
                "posterior_without_one": pa.array(rest),
                "p_nlu": pa.array(candidates.p_nlu),
                "merge_evidence": merged,
                "n_users_behind": pa.array(candidates.n_users_behind.astype(np.int64)),
                **{name: pa.array(column) for name, column in zip(SOURCES, candidates.evidence.T, strict=True)},
            }
            found = [field.name for field in by_id]
            yield pa.RecordBatch.from_arrays([made[n] if n in made else of_utterance.column(n) for n in found], found)

    return pooled.mapInArrow(run, StructType(by_id)).join(names, "goal_id").select(*columns)


def _said(batch: pa.RecordBatch, dimension: int) -> Said:
    texts, contexts = batch.column("text").to_pylist(), batch.column("context").to_pylist()
    folds = batch.column("fold").to_numpy()
    if not dimension:
        return Said(texts, contexts, folds)
    vectors = np.zeros((len(texts), dimension))
    lists = batch.column("vector")
    is_known = lists.is_valid().to_numpy(zero_copy_only=False)
    vectors[is_known] = lists.drop_null().flatten().to_numpy().reshape(-1, dimension)
    return Said(texts, contexts, folds, vectors)


def _without_one(batch: pa.RecordBatch, candidates: Candidates) -> Candidates:
    evidence = candidates.evidence.copy()
    for source in BY_PEOPLE:
        (without,) = fields(batch.column("goals"), f"{source}_without_one")
        evidence[:, SOURCES.index(source)] = numbers(without)
    return replace(candidates, evidence=evidence)


def ambiguous_utterances(nodes: DataFrame) -> DataFrame:
    """Columns of `tables.AMBIGUOUS_UTTERANCES`: utterances of which no goal is more probable than all others together.

    Listed are goals with a probability of `_WORTH_LISTING`, the most probable first, where there are several of them.
    `nodes` has rows of `tables.GRAPH_NODES` of one day.
    """
    unclear = nodes.where((F.col("rank") == 1) & (F.col("posterior") <= _CLEAR)).select("locale", "utterance_id")
    worth_listing = (F.col("posterior") >= _WORTH_LISTING) & (F.col("goal") != OTHER_GOAL)
    listed = nodes.where(worth_listing).join(unclear, ["locale", "utterance_id"], "left_semi")
    ranked = F.sort_array(F.collect_list(F.struct("rank", "goal", "posterior")))
    believed = F.transform(ranked, lambda of: F.struct(of["goal"].alias("goal"), of["posterior"].alias("posterior")))
    return (
        listed.groupBy("as_of", "locale", "utterance_id", "context", "text", "n_users")
        .agg(believed.alias("goals"))
        .where(F.size("goals") > 1)
        .select(*tables.AMBIGUOUS_UTTERANCES.schema.fieldNames())
    )


def graph_edges(window: Window, as_of: date) -> DataFrame:
    """Columns of `tables.GRAPH_EDGES`; `n_votes` are the pairs that count."""
    return with_chance_z(window.pairs).select(
        F.lit(as_of).alias("as_of"),
        "locale",
        "source_utterance",
        "target_utterance",
        F.col("n").alias("n_pairs"),
        F.least("p", F.lit(1.0)).alias("p_rephrase"),
        n_people(F.col("users")).alias("n_users"),
        n_votes().alias("n_votes"),
        "chance_z",
    )
