"""From a window of evidence to graph tables: each utterance's goal posterior, and who stands behind it."""

from __future__ import annotations

from datetime import date

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.graph.pool import posterior
from selflearn.graph.weights import MAX_ANCHORS, PoolWeights
from selflearn.graph.window import Window
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import Land, not_landed
from selflearn.lakehouse.tables import OTHER_GOAL


def anchor_candidates(evidence: DataFrame, launch: DataFrame) -> pd.DataFrame:
    """Evidence rows of the utterances that stand in the launch set, with `is_right` by the launch set's goal.

    Utterances that the launch set gives several goals are left out; at most `MAX_ANCHORS`, by their id.
    """
    known = (
        launch.groupBy("utterance_id")
        .agg(F.count_distinct("goal").alias("n_goals"), F.min("goal").alias("launch_goal"))
        .where("n_goals = 1")
    )
    anchors = (
        evidence.select("utterance_id")
        .distinct()
        .join(known, "utterance_id")
        .orderBy("utterance_id")
        .limit(MAX_ANCHORS)
    )
    rows = evidence.join(F.broadcast(anchors), "utterance_id").withColumn(
        "is_right", F.col("goal") == F.col("launch_goal")
    )
    columns = (
        "utterance_id",
        "nlu_evidence",
        "outcome_evidence",
        "pair_evidence",
        "prior_evidence",
        "is_right",
    )
    return rows.select(*columns, "goal").toPandas().sort_values(["utterance_id", "goal"])


def graph_nodes(
    evidence: DataFrame, window: Window, weights: PoolWeights, as_of: date, land: Land = not_landed
) -> DataFrame:
    """Columns of `tables.GRAPH_NODES`: every candidate goal of every utterance, with its posterior and support."""
    nodes = land(posterior(evidence, weights))
    said = window.utterances.select(
        "locale",
        "utterance_id",
        "context",
        "text",
        F.col("n").alias("n_turns"),
        "friction",
        F.hll_sketch_estimate("users").alias("n_users"),
    )
    behind = _users_behind(nodes, window)
    return (
        nodes.join(said, ["utterance_id", "locale"])
        .join(behind, ["utterance_id", "locale", "goal"], "left")
        .withColumns(
            {
                "as_of": F.lit(as_of),
                "n_users_behind": F.coalesce("n_users_behind", "n_users"),
            }
        )
        .select(*tables.GRAPH_NODES.schema.fieldNames())
    )


def graph_edges(window: Window, as_of: date) -> DataFrame:
    """Columns of `tables.GRAPH_EDGES`."""
    return window.pairs.select(
        F.lit(as_of).alias("as_of"),
        "locale",
        "source_utterance",
        "target_utterance",
        F.col("n").alias("n_pairs"),
        F.least("p", F.lit(1.0)).alias("p_rephrase"),
        F.hll_sketch_estimate("users").alias("n_users"),
    )


def _users_behind(nodes: DataFrame, window: Window) -> DataFrame:
    """Distinct people who said the utterance, or one linked to it that most probably means the same goal."""
    top = nodes.where((F.col("rank") == 1) & (F.col("goal") != OTHER_GOAL)).select("locale", "utterance_id", "goal")
    links = window.pairs.select(
        "locale", F.col("source_utterance").alias("utterance_id"), "target_utterance"
    ).unionByName(
        window.pairs.select(
            "locale",
            F.col("target_utterance").alias("utterance_id"),
            F.col("source_utterance").alias("target_utterance"),
        )
    )
    users = window.utterances.select("locale", "utterance_id", "users")
    linked = (
        links.distinct()
        .join(top, ["utterance_id", "locale"])
        .join(top.withColumnRenamed("utterance_id", "target_utterance"), ["target_utterance", "locale", "goal"])
        .join(users.withColumnRenamed("utterance_id", "target_utterance"), ["target_utterance", "locale"])
        .select("locale", "utterance_id", "goal", "users")
    )
    own = linked.select("locale", "utterance_id", "goal").distinct().join(users, ["utterance_id", "locale"])
    return (
        linked.unionByName(own.select(*linked.columns))
        .groupBy("utterance_id", "locale", "goal")
        .agg(F.hll_sketch_estimate(F.hll_union_agg("users")).alias("n_users_behind"))
    )
