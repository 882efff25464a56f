"""Friction: the probability that a turn failed its user, from the turn itself and from what came next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from selflearn.detect.latent_class import LevelModel
from selflearn.detect.scoring import log_odds, sigmoid, weight_sum, with_weights
from selflearn.detect.signals import PAIR_SIGNAL_NAMES, Signal
from selflearn.lakehouse import tables

_YES = (0.5,)

FRICTION_SIGNALS: tuple[Signal, ...] = (
    Signal("confidence", "own", (0.3, 0.5, 0.7, 0.9, 0.99), "probability of the top reading"),
    Signal("unread", "own", _YES, "no reading, or the fallback"),
    Signal("recognition", "own", (0.05, 0.22, 0.5, 0.74, 0.9), "the recogniser's confidence"),
    Signal("trouble", "outcome", _YES, "error or cancellation"),
    Signal("completed", "outcome", _YES, "the assistant reports that it did what it read"),
    Signal("feedback", "outcome", (-0.5, 0.5), "thumbs down, nothing, thumbs up"),
    Signal("said_again", "outcome", (0.1, 0.25, 0.5, 0.75), "probability that a later turn says it again"),
    Signal("interrupted", "outcome", _YES, "the user cut into the answer"),
    Signal("asked_again", "outcome", (0.5, 1.5), "the assistant asked the same again"),
    Signal("went_on", "outcome", _YES, "the session went on within the gap"),
)
_OUTCOMES = [k for k, signal in enumerate(FRICTION_SIGNALS) if signal.group == "outcome"]
_UNREAD_CONFIDENCE = 0.1
_TROUBLE_FRICTION = 0.9
_ACCEPTED_DOUBT = 0.25
"""Share of the doubt that is left where the user went on and said nothing again."""


def turn_levels(turns: DataFrame, scored_pairs: DataFrame) -> DataFrame:
    """Friction levels and seed of every turn: `turn_date, turn_id, levels, seed`.

    `scored_pairs` has `source_turn_id`, `source_turn_index`, `target_turn_index`, `signals` and `p_rephrase`.
    """
    follow_up = scored_pairs.groupBy(F.col("source_turn_id").alias("turn_id")).agg(
        F.max("p_rephrase").alias("said_again"),
        F.max(_of_next("prompt_repeated")).alias("asked_again"),
        F.lit(1.0).alias("went_on"),
    )
    seen = turns.select(
        "turn_date",
        "turn_id",
        F.col("nlu_score").alias("confidence"),
        (F.coalesce("fallback", F.lit(False)) | F.col("goal").isNull()).cast("double").alias("unread"),
        F.col("asr_score").alias("recognition"),
        (F.coalesce("error", F.lit(False)) | F.coalesce("cancelled", F.lit(False))).cast("double").alias("trouble"),
        F.col("completed").cast("double").alias("completed"),
        F.col("feedback").cast("double").alias("feedback"),
        F.col("barge_in").cast("double").alias("interrupted"),
    )
    joined = seen.join(follow_up, "turn_id", "left").fillna(0.0, ["said_again", "went_on"])
    levels = F.array(*(level(F.col(signal.name), signal) for signal in FRICTION_SIGNALS))
    return joined.select("turn_date", "turn_id", levels.alias("levels"), _seed().alias("seed"))


def score_turns(levelled: DataFrame, models: Mapping[date, LevelModel]) -> DataFrame:
    """Friction of every turn, columns of `tables.TURN_OUTCOMES`.

    `outcome_log_odds` is the part of the log-odds of failure that what happened afterwards contributes: the
    log-likelihood ratio with which the turn speaks against its own reading.
    """
    levels = F.col("levels")
    return (
        with_weights(levelled, models)
        .select(
            "turn_date",
            "turn_id",
            sigmoid(log_odds(levels, F.col("seed"), len(FRICTION_SIGNALS))).alias("p_friction"),
            (F.col("model.slope") * weight_sum(levels, _OUTCOMES)).alias("outcome_log_odds"),
        )
        .select(*tables.TURN_OUTCOMES.schema.fieldNames())
    )


def level(value: Column, signal: Signal) -> Column:
    """Level of a value: 0 where it is missing, else 1 + edges reached; the Spark twin of `signals.levels`."""
    reached = F.lit(1)
    for edge in signal.edges:
        reached = reached + (value >= F.lit(edge)).cast("int")
    return F.coalesce(reached, F.lit(0)).cast("tinyint")


def _of_next(signal: str) -> Column:
    value = F.get("signals", F.lit(PAIR_SIGNAL_NAMES.index(signal)))
    return F.when(F.col("target_turn_index") == F.col("source_turn_index") + 1, value)


def _seed() -> Column:
    """Doubt in recognition and reading, weighed by whether it was said again; at least .9 after visible trouble."""
    confidence = F.when(F.col("unread") > 0, _UNREAD_CONFIDENCE).otherwise(F.coalesce("confidence", F.lit(1.0)))
    doubt = 1 - confidence * F.coalesce("recognition", F.lit(1.0))
    seed = doubt * (F.col("said_again") + (1 - F.col("said_again")) * _ACCEPTED_DOUBT)
    went_wrong = (
        (F.col("unread") > 0)
        | (F.col("trouble") > 0)
        | (F.coalesce("feedback", F.lit(0.0)) < 0)
        | (F.coalesce("completed", F.lit(1.0)) < 1)
    )
    return F.when(went_wrong, F.greatest(seed, F.lit(_TROUBLE_FRICTION))).otherwise(seed)
