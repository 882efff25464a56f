"""Rephrase pairs: which later turn says again what an earlier one failed to get."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.detect.latent_class import LevelModel
from selflearn.detect.scoring import log_odds, sigmoid, with_weights
from selflearn.detect.signals import PAIR_SIGNALS
from selflearn.lakehouse import tables

_LEAST_FRICTION = 1e-6


def score_pairs(signals: DataFrame, models: Mapping[date, LevelModel]) -> DataFrame:
    """`signals` (columns of `tables.PAIR_SIGNALS`) with `p_rephrase` under the day's model."""
    p_rephrase = sigmoid(log_odds(F.col("levels"), F.col("seed"), len(PAIR_SIGNALS)))
    return with_weights(signals, models).withColumn("p_rephrase", p_rephrase).drop("model")


def rephrase_pairs(scored: DataFrame, outcomes: DataFrame) -> DataFrame:
    """Columns of `tables.REPHRASE_PAIRS`: a rephrase is `p_same_goal * p_friction_source`."""
    source = outcomes.select(F.col("turn_id").alias("source_turn_id"), F.col("p_friction").alias("p_friction_source"))
    p_same_goal = F.least(F.lit(1.0), F.col("p_rephrase") / F.greatest("p_friction_source", F.lit(_LEAST_FRICTION)))
    return (
        scored.join(source, "source_turn_id")
        .withColumn("p_same_goal", p_same_goal)
        .select(*tables.REPHRASE_PAIRS.schema.fieldNames())
    )
