"""The goal posterior: a log-linear pool of what the NLU, the outcomes and the rephrase pairs say.

    log p(g | u) = w_nlu * log p_nlu(g | u) + w_outcome * outcome + w_pair * messages + w_prior * log prior(g) + const

over each utterance's few candidate goals, kept as a list in the utterance's row, so that one round is two joins and a
sum. `OTHER_GOAL` stands for every goal that is no candidate. A pair that is a rephrase with probability p sends, both
ways, the likelihood ratio `p * belief(g) / chance(g) + (1 - p)`: a goal is never copied, and a linked utterance that
means none of the candidates says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.graph.candidates import LEAST, SOURCES, Candidates, Heard, Prior, Readings, own_candidates, with_messages
from selflearn.graph.people import count_people
from selflearn.graph.weights import PoolWeights
from selflearn.lakehouse.tables import OTHER_GOAL
from selflearn.ragged import Floats, Ints, places
from selflearn.settings import Graph

_MOST_CERTAIN_PAIR = 0.99
_COINCIDENCE = 0.05
"""Least chance that two unrelated turns of a session share a goal: people come back to what they asked."""

_CANDIDATE = "goal: string, p_nlu: double, " + ", ".join(f"{source}: double" for source in SOURCES)
_SAID = {
    **dict.fromkeys(("utterance_id", "locale", "context", "text"), "string"),
    **dict.fromkeys(("n_turns", "friction"), "double"),
}
BELIEFS = _SAID | {
    "users": "array<bigint>",
    "goals": f"array<struct<{_CANDIDATE}, posterior: double, chance: double, is_top: boolean>>",
}
POOLED = _SAID | {
    "n_users": "bigint",
    "n_pairs": "double",
    "goals": f"array<struct<{_CANDIDATE}, n_users_behind: bigint>>",
}

_Pass = Callable[[pa.RecordBatch], dict[str, pa.Array]]


def own_beliefs(utterances: DataFrame, settings: Graph, weights: PoolWeights, prior: Prior) -> DataFrame:
    """What each utterance's own readings and outcomes make of it, before any message; columns of `BELIEFS`.

    `utterances` are those of a `Window`.
    """

    def beliefs(batch: pa.RecordBatch) -> dict[str, pa.Array]:
        readings, n_turns = batch.column("readings"), batch.column("n")
        goal, *sums = _fields(readings, "goal", "p_sum", "n_outcomes", "outcome_sum")
        own = own_candidates(
            Readings(_offsets(readings), goal, *map(_numbers, sums)),
            _numbers(n_turns),
            batch.column("locale").to_pylist(),
            prior,
            settings.max_candidate_goals,
        )
        posterior, rank = own.posterior(weights)
        chance = np.maximum(np.exp(own.evidence[:, SOURCES.index("prior_evidence")]), _COINCIDENCE)
        is_top = (rank == 1) & (own.goal != OTHER_GOAL)
        return {"n_turns": n_turns, "goals": _lists(own, posterior=posterior, chance=chance, is_top=is_top)}

    return _by_batch(utterances, beliefs, BELIEFS)


def pool_evidence(beliefs: DataFrame, edges: DataFrame, settings: Graph, prior: Prior) -> DataFrame:
    """Evidence of every source for every candidate goal of every utterance, one round of messages included.

    `edges` has columns of `tables.GRAPH_EDGES`; returns columns of `POOLED`. `n_users_behind` counts the people who
    said the utterance, or one linked to it that by itself most probably means the goal.
    """

    def pooled(batch: pa.RecordBatch) -> dict[str, pa.Array]:
        heard, users, locale = batch.column("heard"), batch.column("users"), batch.column("locale").to_pylist()
        goal, gain, senders = _fields(heard, "goal", "gain", "users")
        messages = Heard(_offsets(heard), goal, _numbers(gain), _n_behind(heard, users, senders))
        n_rephrases = _numbers(batch.column("n_rephrases"))
        own = read_candidates(batch)
        found = with_messages(own, messages, n_rephrases, locale, prior, settings.max_candidate_goals)
        n_users = count_people(_rows(users), users.flatten().to_numpy(), len(batch))
        n_behind = np.where(np.isnan(found.n_users_behind), n_users[found.utterance], found.n_users_behind)
        goals = _lists(found, n_users_behind=n_behind.astype(np.int64))
        return {"goals": goals, "n_users": pa.array(n_users)}

    nobody = F.array().cast("array<struct<goal: string, gain: double, users: array<bigint>>>")
    linked = beliefs.join(_heard(edges, beliefs), "utterance_id", "left").withColumns(
        {
            "n_pairs": F.coalesce("n_pairs", F.lit(0.0)),
            "n_rephrases": F.coalesce("n_rephrases", F.lit(0.0)),
            "heard": F.coalesce("heard", nobody),
        }
    )
    return _by_batch(linked, pooled, POOLED)


def read_candidates(batch: pa.RecordBatch) -> Candidates:
    """The candidates in the list column `goals` of `BELIEFS` or `POOLED`."""
    goals = batch.column("goals")
    goal, *known = _fields(goals, "goal", "p_nlu", *SOURCES)
    p_nlu, *evidence = map(_numbers, known)
    utterance = np.repeat(np.arange(len(batch)), np.diff(_offsets(goals)))
    has_behind = goals.type.value_type.get_field_index("n_users_behind") >= 0
    behind = _numbers(_fields(goals, "n_users_behind")[0]) if has_behind else np.full(len(utterance), np.nan)
    names = goal.to_numpy(zero_copy_only=False)
    return Candidates(len(batch), utterance, names, p_nlu, np.column_stack(evidence), behind)


def _heard(edges: DataFrame, beliefs: DataFrame) -> DataFrame:
    """What each utterance's links say: `utterance_id, n_pairs, n_rephrases` and `heard`, a list of `goal, gain, users`.

    The belief in `OTHER_GOAL`, of which every utterance has one, says nothing: it counts the links.
    """
    p = F.least("p_rephrase", F.lit(_MOST_CERTAIN_PAIR)).alias("p")
    source, target = F.col("source_utterance"), F.col("target_utterance")
    ways = [
        edges.select(to.alias("utterance_id"), sender.alias("from_id"), F.col("n_pairs").alias("n"), p)
        for to, sender in ((source, target), (target, source))
    ]
    sender = beliefs.select(F.col("utterance_id").alias("from_id"), "users", "goals")
    is_link = F.col("goal") == OTHER_GOAL
    odds = F.col("p") / (1 - F.col("p"))
    gain = F.col("n") * F.log1p(odds * F.col("posterior") / F.col("chance"))
    messages = (
        ways[0]
        .unionByName(ways[1])
        .join(sender, "from_id")
        .select("utterance_id", "n", "p", "users", F.inline("goals"))
        .where(is_link | (F.col("posterior") > LEAST))
        .withColumn("users", F.when(F.col("is_top"), F.col("users")))
        # One shuffle for both sums.
        .repartition("utterance_id")
        .groupBy("utterance_id", "goal")
        .agg(
            F.sum("n").alias("n"),
            F.sum(F.col("n") * F.col("p")).alias("n_rephrases"),
            F.sum(gain).alias("gain"),
            F.when(F.bool_or("is_top"), F.flatten(F.collect_list("users"))).alias("users"),
        )
    )
    return messages.groupBy("utterance_id").agg(
        F.max(F.when(is_link, F.col("n"))).alias("n_pairs"),
        F.max(F.when(is_link, F.col("n_rephrases"))).alias("n_rephrases"),
        F.collect_list(F.when(~is_link, F.struct("goal", "gain", "users"))).alias("heard"),
    )


def _n_behind(heard: pa.ListArray, users: pa.ListArray, senders: pa.ListArray) -> Floats:
    """People who said each message's utterance or sent it, NaN where nobody did who most probably means its goal."""
    of_message, place = places(_offsets(users), _rows(heard))
    own = users.flatten().to_numpy()[of_message]
    sent = senders.flatten().to_numpy()
    message = np.concatenate([np.repeat(np.arange(len(senders)), np.diff(place)), _rows(senders)])
    counts = count_people(message, np.concatenate([own, sent]), len(senders)).astype(np.float64)
    return np.where(senders.is_valid(), counts, np.nan)


def _by_batch(rows: DataFrame, step: _Pass, schema: Mapping[str, str]) -> DataFrame:
    """Rows of the schema, batch by batch: columns that the step does not make are the batch's own."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            made = step(batch)
            columns = [made[name] if name in made else batch.column(name) for name in schema]
            yield pa.RecordBatch.from_arrays(columns, list(schema))

    return rows.mapInArrow(run, ", ".join(f"{name} {kind}" for name, kind in schema.items()))


def _lists(candidates: Candidates, **more: np.ndarray) -> pa.ListArray:
    """The candidates as a list for each utterance."""
    columns = {
        "goal": pa.array(candidates.goal, pa.string()),
        "p_nlu": candidates.p_nlu,
        **dict(zip(SOURCES, candidates.evidence.T, strict=True)),
        **more,
    }
    structs = pa.StructArray.from_arrays([pa.array(column) for column in columns.values()], list(columns))
    return pa.ListArray.from_arrays(pa.array(candidates.offsets, pa.int32()), structs)


def _offsets(lists: pa.ListArray) -> Ints:
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return np.asarray(offsets - offsets[0])


def _rows(lists: pa.ListArray) -> Ints:
    """The row of each element of all lists."""
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return np.repeat(np.arange(len(lists)), counts)


def _fields(lists: pa.ListArray, *names: str) -> list[pa.Array]:
    structs = lists.flatten()
    return [structs.field(name) for name in names]


def _numbers(column: pa.Array) -> Floats:
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
