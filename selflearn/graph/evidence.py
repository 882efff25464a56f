"""Evidence: what one day says about each utterance, each reading of it and each pair of utterances.

All sums are additive over days and users' sketches merge, so a window adds days up and never reads turns again.
A user counts once per edge and day, however often they spoke.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from selflearn.lakehouse import tables
from selflearn.settings import Graph

SKETCH_LG_K = 8
"""Log2 of the registers of a distinct-user sketch: exact for a few dozen users, about 6 % off beyond."""


def evidence(turns: DataFrame, outcomes: DataFrame, pairs: DataFrame, settings: Graph) -> DataFrame:
    """One row per day and edge, columns of `tables.EVIDENCE`; `turns` are those of `cap_users`.

    - `utterance`: `n` users who said it, `friction_sum` of their failures, the sketch of who they were;
    - `reading`: target is a goal the NLU considered; `p_sum` its probability, and where it was the top reading
      and the assistant acted on it, `outcome_sum` the log-odds that this failed;
    - `pair`: target is the utterance that said it again, `p_sum` the probability that it did.
    """
    said = _shared(_with_outcomes(turns, outcomes))
    parts = (_utterances(said), _readings(said), _pairs(pairs, settings))
    columns = tables.EVIDENCE.schema.fieldNames()
    first, *rest = (part.select(*columns) for part in parts)
    for part in rest:
        first = first.unionByName(part)
    return first


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


def _with_outcomes(turns: DataFrame, outcomes: DataFrame) -> DataFrame:
    """Turns and their outcomes, partitioned by utterance: one shuffle for the join and for all sums."""
    of_turn = outcomes.select("utterance_id", "turn_id", "p_friction", "outcome_log_odds")
    return turns.repartition("utterance_id").join(of_turn.repartition("utterance_id"), ["utterance_id", "turn_id"])


def _shared(said: DataFrame) -> DataFrame:
    """Turns with the `share` that each has in its user's one vote for its utterance and day."""
    same_user = Window.partitionBy("utterance_id", "turn_date", "user_id")
    return said.withColumns(
        {
            "fallback": F.coalesce("fallback", F.lit(False)),
            "share": 1 / F.count(F.lit(1)).over(same_user),
        }
    )


def _utterances(said: DataFrame) -> DataFrame:
    return (
        said.groupBy(F.col("utterance_id").alias("source_utterance"), "turn_date", "locale")
        .agg(
            F.min("context").alias("context"),
            F.min("text").alias("text"),
            F.sum("share").alias("n"),
            F.sum(F.col("share") * F.col("p_friction")).alias("friction_sum"),
            F.hll_sketch_agg("user_id", F.lit(SKETCH_LG_K)).alias("users"),
        )
        .withColumns(
            {
                "kind": F.lit("utterance"),
                "target": F.lit(""),
                "p_sum": F.col("n"),
                "n_outcomes": F.lit(0.0),
                "outcome_sum": F.lit(0.0),
            }
        )
    )


def _readings(said: DataFrame) -> DataFrame:
    reading = said.withColumn("reading", F.explode(_considered())).withColumns(
        {
            "target": F.col("reading.goal"),
            "acted": (F.col("reading.goal") == F.col("goal")) & ~F.col("fallback"),
        }
    )
    acted_share = F.when(F.col("acted"), F.col("share")).otherwise(0.0)
    return (
        reading.groupBy(F.col("utterance_id").alias("source_utterance"), "target", "turn_date", "locale")
        .agg(
            F.sum("share").alias("n"),
            F.sum(F.col("share") * F.col("reading.score")).alias("p_sum"),
            F.sum(acted_share * F.col("p_friction")).alias("friction_sum"),
            F.sum(acted_share).alias("n_outcomes"),
            F.sum(acted_share * F.col("outcome_log_odds")).alias("outcome_sum"),
        )
        .withColumns(
            {
                "kind": F.lit("reading"),
                "context": F.lit(None).cast("string"),
                "text": F.lit(None).cast("string"),
                "users": F.lit(None).cast("binary"),
            }
        )
    )


def _considered() -> Column:
    """The NLU's alternatives with probabilities that sum to one at most; the top reading where it gave none."""

    def known(reading: Column) -> Column:
        return F.greatest(F.coalesce(reading["score"], F.lit(0.0)), F.lit(0.0))

    alternatives = F.coalesce("nlu_alternatives", F.array())
    total = F.aggregate(alternatives, F.lit(0.0), lambda sum_, reading: sum_ + known(reading))
    scaled = F.transform(
        alternatives,
        lambda reading: F.struct(
            reading["goal"].alias("goal"), (known(reading) / F.greatest(total, F.lit(1.0))).alias("score")
        ),
    )
    only = F.array(F.struct(F.col("goal").alias("goal"), F.coalesce("nlu_score", F.lit(1.0)).alias("score")))
    return F.when(F.size(alternatives) > 0, scaled).when(F.col("goal").isNotNull(), only)


def _pairs(pairs: DataFrame, settings: Graph) -> DataFrame:
    is_edge = F.col("source_utterance") != F.col("target_utterance")
    per_user = (
        pairs.where(is_edge & (F.col("p_rephrase") >= settings.min_pair_probability))
        .groupBy("source_utterance", F.col("target_utterance").alias("target"), "user_id", "turn_date", "locale")
        .agg(F.max("p_rephrase").alias("p"), F.max("p_friction_source").alias("friction"))
    )
    return (
        per_user.groupBy("source_utterance", "target", "turn_date", "locale")
        .agg(
            F.count(F.lit(1)).cast("double").alias("n"),
            F.sum("p").alias("p_sum"),
            F.sum("friction").alias("friction_sum"),
            F.hll_sketch_agg("user_id", F.lit(SKETCH_LG_K)).alias("users"),
        )
        .withColumns(
            {
                "kind": F.lit("pair"),
                "context": F.lit(None).cast("string"),
                "text": F.lit(None).cast("string"),
                "n_outcomes": F.lit(0.0),
                "outcome_sum": F.lit(0.0),
            }
        )
    )
