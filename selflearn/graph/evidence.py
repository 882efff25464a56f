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
    """One row per day and edge, columns of `tables.EVIDENCE`.

    - `utterance`: `n` users who said it, `friction_sum` of their failures, the sketch of who they were;
    - `reading`: target is a goal the NLU considered; `p_sum` its probability, and where it was the top reading
      and the assistant acted on it, `outcome_sum` the log-odds that this failed;
    - `pair`: target is the utterance that said it again, `p_sum` the probability that it did.
    """
    said = _once_per_user(turns.join(outcomes.drop("turn_date"), "turn_id"), settings)
    parts = (_utterances(said), _readings(said), _pairs(turns, pairs, settings))
    columns = tables.EVIDENCE.schema.fieldNames()
    first, *rest = (part.select(*columns) for part in parts)
    for part in rest:
        first = first.unionByName(part)
    return first


def _once_per_user(turns: DataFrame, settings: Graph) -> DataFrame:
    same_user = Window.partitionBy("turn_date", "utterance_id", "user_id")
    earlier = same_user.orderBy("ts", "turn_id")
    return (
        turns.select(
            "turn_date",
            "locale",
            "utterance_id",
            "context",
            "text",
            "user_id",
            "ts",
            "turn_id",
            "goal",
            F.coalesce("fallback", F.lit(False)).alias("fallback"),
            "nlu_score",
            "nlu_alternatives",
            "p_friction",
            "outcome_log_odds",
        )
        .withColumn("nth", F.row_number().over(earlier))
        .where(F.col("nth") <= settings.max_turns_per_user)
        .withColumn("share", 1 / F.count(F.lit(1)).over(same_user))
    )


def _utterances(said: DataFrame) -> DataFrame:
    return (
        said.groupBy("turn_date", "locale", F.col("utterance_id").alias("source_utterance"))
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
        reading.groupBy("turn_date", "locale", F.col("utterance_id").alias("source_utterance"), "target")
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


def _pairs(turns: DataFrame, pairs: DataFrame, settings: Graph) -> DataFrame:
    ends = turns.select("turn_id", "utterance_id")
    source = turns.select(
        F.col("turn_id").alias("source_turn_id"),
        F.col("utterance_id").alias("source_utterance"),
        "locale",
        "user_id",
    )
    target = ends.select(F.col("turn_id").alias("target_turn_id"), F.col("utterance_id").alias("target"))
    edges = (
        pairs.where(F.col("p_rephrase") >= settings.min_pair_probability)
        .select("turn_date", "source_turn_id", "target_turn_id", "p_rephrase", "p_friction_source")
        .join(source, "source_turn_id")
        .join(target, "target_turn_id")
        .where(F.col("source_utterance") != F.col("target"))
    )
    per_user = edges.groupBy("turn_date", "locale", "source_utterance", "target", "user_id").agg(
        F.max("p_rephrase").alias("p"), F.max("p_friction_source").alias("friction")
    )
    return (
        per_user.groupBy("turn_date", "locale", "source_utterance", "target")
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
