"""Level patterns counted in Spark, models fitted on the driver, scores applied in Spark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from selflearn.detect.latent_class import SEED_FLOOR, LevelModel, Patterns, fit, shipped_model
from selflearn.detect.signals import Signal
from selflearn.lakehouse import tables

MAX_SAMPLED_PER_DAY = 30_000
_EXPONENT_LIMIT = 500


def daily_sampling(rows: DataFrame) -> DataFrame:
    """Of how many rows of a day one is taken, so that about `MAX_SAMPLED_PER_DAY` are: `turn_date, one_in`."""
    return rows.groupBy("turn_date").agg(F.ceil(F.count(F.lit(1)) / F.lit(MAX_SAMPLED_PER_DAY)).alias("one_in"))


def sample(rows: DataFrame, key: str, sampling: DataFrame) -> DataFrame:
    """The rows of each day that the hash of `key` chooses.

    The sample, and so a model fitted on it, is a function of the day alone.
    """
    is_chosen = F.pmod(F.xxhash64(key), F.col("one_in")) == 0
    return rows.join(F.broadcast(sampling), "turn_date").where(is_chosen).drop("one_in")


def count_patterns(levelled: DataFrame, model: str) -> DataFrame:
    """Counted level patterns per day, columns of `tables.LEVEL_PATTERNS`; `levelled` has `levels` and `seed`."""
    return (
        levelled.groupBy("turn_date", F.array_join("levels", "").alias("pattern"))
        .agg(F.count(F.lit(1)).alias("n"), _exact_sum("seed").alias("seed_sum"))
        .withColumn("model", F.lit(model))
        .select(*tables.LEVEL_PATTERNS.schema.fieldNames())
    )


def _exact_sum(column: str) -> Column:
    """Sum in billionths, which does not depend on the order of the rows: the same rows, the same model."""
    return F.sum(F.round(F.col(column) * 1e9).cast("long")) / 1e9


def fit_daily(
    name: str,
    patterns: pd.DataFrame,
    signals: Sequence[Signal],
    days: Sequence[date],
    window_days: int,
    steps: int,
) -> dict[date, LevelModel]:
    """One model per day, of the patterns of that day and the `window_days - 1` before it.

    `patterns` has the columns of `tables.LEVEL_PATTERNS`. A day's model never depends on a later day, so that
    daily runs and one run over a range give the same scores.
    """
    models = {}
    for day in days:
        in_window = (patterns["turn_date"] > day - timedelta(days=window_days)) & (patterns["turn_date"] <= day)
        summed = patterns[in_window].groupby("pattern", sort=True)[["n", "seed_sum"]].sum()
        models[day] = fit(name, _to_patterns(summed, len(signals)), signals, steps, shipped_model(name))
    return models


def _to_patterns(summed: pd.DataFrame, n_signals: int) -> Patterns:
    digits = np.frombuffer("".join(summed.index).encode("ascii"), dtype=np.int8) - ord("0")
    counts = summed["n"].to_numpy(dtype=np.float64)
    return Patterns(digits.reshape(-1, n_signals).astype(np.int8), counts, summed["seed_sum"].to_numpy() / counts)


def models_as_rows(spark: SparkSession, models: Iterable[Mapping[date, LevelModel]]) -> DataFrame:
    """The models as rows of `tables.DETECTORS`."""
    rows = [(day, model.name, model.to_json()) for by_day in models for day, model in by_day.items()]
    return spark.createDataFrame(rows, tables.DETECTORS.schema)


def with_weights(rows: DataFrame, models: Mapping[date, LevelModel]) -> DataFrame:
    """Add the day's model as the struct column `model`, for `log_odds`."""
    content = [(day, model.weights(), model.offset, model.slope, model.seed_weight) for day, model in models.items()]
    weights = rows.sparkSession.createDataFrame(
        content,
        "turn_date date, weights array<array<double>>, offset double, slope double, seed_weight double",
    )
    return rows.join(
        F.broadcast(weights.select("turn_date", F.struct("weights", "offset", "slope", "seed_weight").alias("model"))),
        "turn_date",
    )


def log_odds(levels: Column, seed: Column, n_signals: int) -> Column:
    """Log-odds under the row's `model` (see `with_weights`); the Spark twin of `LevelModel.log_odds`."""
    clipped = F.least(F.greatest(seed, F.lit(SEED_FLOOR)), F.lit(1 - SEED_FLOOR))
    logit = F.log(clipped / (1 - clipped))
    total = weight_sum(levels, range(n_signals))
    return F.col("model.offset") + F.col("model.slope") * total + F.col("model.seed_weight") * logit


def weight_sum(levels: Column, signals: Sequence[int] | range) -> Column:
    """Sum of the weights of the given signals' levels under the row's `model`."""
    total = F.lit(0.0)
    for signal in signals:
        total = total + F.get(F.get(F.col("model.weights"), F.lit(signal)), F.get(levels, F.lit(signal)).cast("int"))
    return total


def sigmoid(log_odds: Column) -> Column:
    """Probability of the given log-odds."""
    clipped = F.least(F.greatest(log_odds, F.lit(-_EXPONENT_LIMIT)), F.lit(_EXPONENT_LIMIT))
    return 1 / (1 + F.exp(-clipped))
