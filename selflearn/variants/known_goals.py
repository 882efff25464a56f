"""Utterances whose goal is known, and the links that this alone makes: exact variants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from selflearn.ragged import Floats, Ints

MIN_P_GOAL = 0.8
"""A reading is taken for the goal where it is right with this probability: it looked sure, and the act worked."""
LINKS_PER_UTTERANCE = 3
"""An utterance is linked to so many of its goal's most said ones: all pairs of a goal grow with their square."""
KNOWN = "locale string, utterance_id string, context string, n double, users array<bigint>, goal string, p_goal double"
MOST_AT_HAND = 250_000
"""Utterances of which a few columns are small beside a worker's memory."""
_OF_GOAL = ("group", "goal")
_P_LAUNCH = 0.99
_LEAST = 1e-3


def known_goals(utterances: DataFrame, launch: DataFrame | None) -> DataFrame:
    """Utterances with their goal, null where it is not known, and its probability; rows of `KNOWN`.

    The goal is what the launch set says, else the reading that the assistant acted on most, where the log-odds of the
    NLU's probability and of how those turns went on (damped, as in the pool) make it probable enough.

    Args:
        utterances: those of a `graph.Window`.
        launch: `LAUNCH_COLUMNS`; sentences that it gives several goals count as unknown to it.
    """
    read = utterances.select("locale", "utterance_id", "context", "n", "users", "readings").mapInArrow(_read, KNOWN)
    if launch is None:
        return read
    taught = (
        launch.groupBy("utterance_id")
        .agg(F.count_distinct("goal").alias("n_goals"), F.min("goal").alias("taught"))
        .where("n_goals = 1")
        .drop("n_goals")
    )
    is_taught = F.col("taught").isNotNull()
    both = read.join(F.broadcast(taught), "utterance_id", "left").withColumns(
        {
            "goal": F.coalesce("taught", "goal"),
            "p_goal": F.when(is_taught, F.lit(_P_LAUNCH)).otherwise(F.col("p_goal")),
        }
    )
    return both.select(*read.columns)


def exact_variants(known: DataFrame, across_locales: bool) -> DataFrame:
    """Pairs of utterances with one goal that at least two users said between them.

    Returns `left_locale, right_locale, left_utterance, right_utterance, p_same_goal`: the probability that both goals
    are right. Each utterance is linked to the `LINKS_PER_UTTERANCE` of its goal that most people said.
    """
    grouped = known.where(F.col("goal").isNotNull()).withColumn("group", _group(across_locales))
    # Goals begin alike; hashes are told apart at their first bytes.
    most_said_first = Window.partitionBy("hash", *_OF_GOAL).orderBy(F.desc("n"), "utterance_id")
    ranked = grouped.withColumn("hash", F.xxhash64(*_OF_GOAL)).withColumn("rank", F.row_number().over(most_said_first))
    ranked = ranked.select("hash", *_OF_GOAL, "locale", "utterance_id", "users", "p_goal", "rank")
    hubs = ranked.where(F.col("rank") <= LINKS_PER_UTTERANCE).select(
        "hash",
        *_OF_GOAL,
        *(F.col(name).alias(f"hub_{name}") for name in ("locale", "utterance_id", "users", "p_goal", "rank")),
    )
    n_people = F.size(F.array_union("users", "hub_users"))
    pairs = ranked.join(hubs, ["hash", *_OF_GOAL]).where((F.col("rank") > F.col("hub_rank")) & (n_people >= 2))
    is_left = F.col("utterance_id") < F.col("hub_utterance_id")

    def end(name: str, left: bool) -> Column:
        return F.when(is_left if left else ~is_left, F.col(name)).otherwise(F.col(f"hub_{name}"))

    return pairs.select(
        end("locale", True).alias("left_locale"),
        end("locale", False).alias("right_locale"),
        end("utterance_id", True).alias("left_utterance"),
        end("utterance_id", False).alias("right_utterance"),
        (F.col("p_goal") * F.col("hub_p_goal")).alias("p_same_goal"),
    )


def at_hand(utterances: DataFrame) -> DataFrame:
    """A few columns of utterances; where there are not too many sent to every worker, so that pairs need not travel."""
    return F.broadcast(utterances) if utterances.count() <= MOST_AT_HAND else utterances


def count_exact(known: DataFrame, across_locales: bool) -> tuple[int, int]:
    """Utterances of known goals, and pairs of one goal that the cap leaves out."""
    most = LINKS_PER_UTTERANCE
    of_goal = known.where(F.col("goal").isNotNull()).groupBy(_group(across_locales).alias("group"), "goal")
    sizes = of_goal.agg(F.count(F.lit(1)).alias("n"))
    beyond = F.greatest(F.col("n") - most, F.lit(0))
    # Whoever ranks below the most said ones is linked to these alone.
    found = sizes.agg(F.sum("n").alias("n"), F.sum(beyond * (beyond - 1) / 2).alias("over")).first()
    return (int(found["n"] or 0), int(found["over"] or 0)) if found else (0, 0)


def _group(across_locales: bool) -> Column:
    return F.lit("") if across_locales else F.col("locale")


def _read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        goal, p_goal = _acted_on(batch.column("readings"), batch.column("n").to_numpy())
        kept = [batch.column(name) for name in ("locale", "utterance_id", "context", "n", "users")]
        yield pa.RecordBatch.from_arrays(
            [*kept, goal, p_goal], ["locale", "utterance_id", "context", "n", "users", "goal", "p_goal"]
        )


def _acted_on(readings: pa.ListArray, n_turns: Floats) -> tuple[pa.Array, pa.Array]:
    """The goal that each utterance was acted on most, null where it is not known, and its probability."""
    starts = readings.offsets.to_numpy().astype(np.int64)
    listed = readings.flatten()
    coded = listed.field("goal").dictionary_encode()
    names, code = coded.dictionary, coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    utterance = np.repeat(np.arange(len(readings)), np.diff(starts))
    key, place = np.unique(utterance * max(1, len(names)) + code, return_inverse=True)
    p_sum, n_acted, log_odds = (
        np.bincount(place, weights=listed.field(name).to_numpy(zero_copy_only=False), minlength=len(key))
        for name in ("p_sum", "n_outcomes", "outcome_sum")
    )
    owner, goal = np.divmod(key, max(1, len(names)))
    top = _last_of_each(owner, np.lexsort((goal, n_acted, owner)))
    top = top[n_acted[top] > 0]
    p = np.clip(p_sum[top] / n_turns[owner[top]], _LEAST, 1 - _LEAST)
    score = np.log(p / (1 - p)) - log_odds[top] / np.sqrt(np.maximum(n_acted[top], 1.0))
    probability = 1 / (1 + np.exp(-score))
    # What was read now so, now so, is not known by either.
    share = n_acted[top] / np.bincount(owner, weights=n_acted, minlength=len(readings))[owner[top]]
    sure = (probability >= MIN_P_GOAL) & (share >= MIN_P_GOAL)
    found = np.full(len(readings), -1)
    found[owner[top[sure]]] = goal[top[sure]]
    p_goal = np.full(len(readings), np.nan)
    p_goal[owner[top[sure]]] = probability[sure]
    is_unknown = found < 0
    return names.take(pa.array(found, mask=is_unknown)), pa.array(p_goal, mask=is_unknown)


def _last_of_each(owner: Ints, order: Ints) -> Ints:
    """Of elements in order, sorted by owner first, the last of each owner."""
    owners = owner[order]
    is_last = np.ones(len(order), dtype=bool)
    is_last[:-1] = owners[1:] != owners[:-1]
    return order[is_last]
