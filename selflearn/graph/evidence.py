"""Evidence: what one day says about each utterance, each reading of it and each pair of utterances.

All sums are additive over days and users' sketches merge, so a window adds days up and never reads turns again.
A user counts once per edge and day, however often they spoke.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from selflearn.graph.people import person, sketch
from selflearn.graph.tally import ORDER, TALLY, tally_turns
from selflearn.lakehouse import tables
from selflearn.settings import Graph


def evidence(turns: DataFrame, outcomes: DataFrame, pairs: DataFrame, settings: Graph) -> DataFrame:
    """One row per day and edge, columns of `tables.EVIDENCE`; `turns` are those of `cap_users`.

    - `utterance`: `n` users who said it, `friction_sum` of their failures, `gave_up_sum` of those
      they left it at, the sketch of who they were;
    - `reading`: target is a goal the NLU considered; `p_sum` its probability, and where it was the top reading
      and the assistant acted on it, `outcome_sum` the log-odds that this failed;
    - `pair`: target is the utterance that said it again, `p_sum` the probability that it did;
    - `merge`: target is the goal that both readings of such a pair make together, `p_sum` the probability that it is
      meant;
    - `rewrite`: target is the rewrite under which the utterance was served. What became of such turns is said of the
      rewrite alone: they are in no other row.
    """
    columns = tables.EVIDENCE.schema.fieldNames()
    treated = turns.where(F.col("rewrite_id").isNotNull())
    # Where nothing is rewritten, no pair has to be looked up among the turns.
    is_any_treated = not treated.isEmpty()
    if is_any_treated:
        turns, pairs = turns.where(F.col("rewrite_id").isNull()), _organic(pairs, treated)
    said = _utterances_and_readings(turns, outcomes).select(*columns)
    probable = pairs.where(F.col("p_rephrase") >= settings.min_pair_probability)
    merged = probable.where("merged_goal IS NOT NULL AND p_merged > 0")
    p_merge = F.col("p_rephrase") * F.col("p_merged")
    again = _said_again(probable, "pair", F.col("target_utterance"), F.col("p_rephrase")).unionByName(
        _said_again(merged, "merge", F.col("merged_goal"), p_merge)
    )
    rows = said.unionByName(again.select(*columns))
    return rows.unionByName(_rewrites(treated, outcomes).select(*columns)) if is_any_treated else rows


def cap_users(turns: DataFrame, settings: Graph) -> tuple[DataFrame, int]:
    """Turns, of which no user has many more than `max_turns_per_user` on a day, and how many lie beyond that.

    Of a user with more, about that many are chosen by their ids' hash.
    """
    most = settings.max_turns_per_user
    per_user = turns.groupBy("turn_date", "user_id").agg(F.count(F.lit(1)).alias("n_turns"))
    talkers = per_user.where(F.col("n_turns") > most)
    over = talkers.agg(F.coalesce(F.sum(F.col("n_turns") - most), F.lit(0)).alias("n")).first()
    if over is None or not over["n"]:
        return turns, 0
    is_chosen = F.col("n_turns").isNull() | (F.pmod(F.xxhash64("turn_id"), F.col("n_turns")) < most)
    capped = turns.join(F.broadcast(talkers), ["turn_date", "user_id"], "left").where(is_chosen)
    return capped.select(*turns.columns), int(over["n"])


def _utterances_and_readings(turns: DataFrame, outcomes: DataFrame) -> DataFrame:
    of_turn = outcomes.select(*_in_order(), "p_friction", "p_gave_up", "outcome_log_odds")
    said = turns.select(
        *_in_order(),
        "locale",
        "context",
        "text",
        "goal",
        "nlu_score",
        F.col("nlu_alternatives.goal").alias("goals"),
        F.col("nlu_alternatives.score").alias("goal_scores"),
        (~F.coalesce("fallback", F.lit(False))).alias("is_acted_on"),
    )
    # All of an utterance must stay in one partition, as the session sees to; the sort is the join's own.
    joined = said.repartition("utterance_id").join(of_turn.repartition("utterance_id"), list(ORDER))
    return joined.sortWithinPartitions(*ORDER).mapInArrow(tally_turns, TALLY)


def _in_order() -> list[Column]:
    known = {name: F.col(name) for name in ORDER} | {"person": person(F.col("user_id"))}
    return [column.alias(name) for name, column in known.items()]


def _said_again(pairs: DataFrame, kind: str, target: Column, p: Column) -> DataFrame:
    """Each person's surest pair of an utterance, target and day, added up over people."""
    per_user = (
        pairs.where(F.col("source_utterance") != F.col("target_utterance"))
        .groupBy("source_utterance", target.alias("target"), "user_id", "turn_date", "locale")
        .agg(F.max(p).alias("p"), F.max("p_friction_source").alias("friction"))
    )
    return (
        per_user.groupBy("source_utterance", "target", "turn_date", "locale")
        .agg(
            F.count(F.lit(1)).cast("double").alias("n"),
            F.sum("p").alias("p_sum"),
            F.sum("friction").alias("friction_sum"),
            F.lit(0.0).alias("gave_up_sum"),
            sketch(person(F.col("user_id"))).alias("users"),
        )
        .withColumns(_without_readings(kind))
    )


def _organic(pairs: DataFrame, treated: DataFrame) -> DataFrame:
    """Pairs of which neither turn was served under a rewrite."""
    for end in ("source_turn_id", "target_turn_id"):
        pairs = pairs.join(treated.select(F.col("turn_id").alias(end)), end, "left_anti")
    return pairs


def _rewrites(treated: DataFrame, outcomes: DataFrame) -> DataFrame:
    per_user = (
        treated.join(outcomes.select("turn_id", "p_friction", "p_gave_up"), "turn_id")
        .groupBy("turn_date", "locale", "utterance_id", "rewrite_id", "user_id")
        .agg(F.avg("p_friction").alias("friction"), F.avg("p_gave_up").alias("gave_up"))
    )
    return (
        per_user.groupBy(
            "turn_date",
            "locale",
            F.col("utterance_id").alias("source_utterance"),
            F.col("rewrite_id").alias("target"),
        )
        .agg(
            F.count(F.lit(1)).cast("double").alias("n"),
            F.count(F.lit(1)).cast("double").alias("p_sum"),
            F.sum("friction").alias("friction_sum"),
            F.sum("gave_up").alias("gave_up_sum"),
            sketch(person(F.col("user_id"))).alias("users"),
        )
        .withColumns(_without_readings("rewrite"))
    )


def _without_readings(kind: str) -> dict[str, Column]:
    """What a row has besides its sums where it is about no reading."""
    words, none = F.lit(None).cast("string"), F.lit(0.0)
    return {"kind": F.lit(kind), "context": words, "text": words, "n_outcomes": none, "outcome_sum": none}
