"""Training an encoder on the tables of a lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as RowWindow
from pyspark.sql import functions as F

import selflearn
from selflearn.errors import DataError
from selflearn.graph import cap_users
from selflearn.lakehouse import tables
from selflearn.lakehouse.schema import Table
from selflearn.lakehouse.store import Lakehouse, versions
from selflearn.settings import Settings
from selflearn.turns import read_launch_set
from selflearn.variants.calibration import N_LEFT_OUT
from selflearn.variants.corpus import SEVERAL, Corpus
from selflearn.variants.training import TrainedEncoder, require_torch, train_encoder

MAX_FRICTION = 0.2
"""A turn that more probably failed did not reach its goal."""
LEAST_REPHRASE = 0.8
MAX_PER_GOAL = 100
"""Sentences of one goal: of the frequent ones there are enough."""
MAX_SENTENCES = 200_000
MAX_PAIRS = 100_000
MAX_TEXTS = 500_000

_READ = (tables.TURNS, tables.TURN_OUTCOMES, tables.REPHRASE_PAIRS)


def train_on_lake(
    lake: Lakehouse, settings: Settings, days: Sequence[date] | None, seed: int = 0
) -> tuple[TrainedEncoder, Mapping[str, Any]]:
    """Train on what was said on some days, or on all there are, and on the launch set where the settings name one.

    Returns the encoder, and what it was trained on.

    Raises:
        DataError: the lake has no such turns, or too little to learn from.
        InfrastructureError: the extra `encoder` is not installed.
    """
    require_torch()
    corpus = read_corpus(lake, settings, days)
    provenance = {
        "selflearn": selflearn.__version__,
        "settings_fingerprint": settings.fingerprint(),
        "tables": dict(versions(lake, _READ)),
        "days": None if days is None else [min(days).isoformat(), max(days).isoformat()],
        "is_launch_set_read": settings.launch is not None,
    }
    return train_encoder(corpus, seed), provenance


def read_corpus(lake: Lakehouse, settings: Settings, days: Sequence[date] | None) -> Corpus:
    """What the lake holds to train on; of more than the limits allow, a part chosen by hash.

    A sentence reached its goal where the assistant acted on its reading and the turn hardly failed. Turns that were
    served under a rewrite are left out: what worked there was the rewrite.
    """
    turns, outcomes, pairs = (_of_days(lake, table, days) for table in _READ)
    turns, _ = cap_users(turns, settings.graph)
    reached = _reached(turns, outcomes)
    texts = turns.select("normalised_text").distinct()
    if settings.launch:
        launch = read_launch_set(lake.spark, settings.launch, settings.turns.mask_personal_data)
        known = launch.select("normalised_text", "goal", F.lit(SEVERAL).cast("long").alias("speaker"))
        reached = reached.unionByName(known)
        texts = texts.unionByName(launch.select("normalised_text")).distinct()
    # What the calibration of goal variants is measured on, no encoder may know.
    is_left_out = F.crc32("goal") % N_LEFT_OUT == 0
    sentences = _at_most(
        _capped(_once(reached.where(~is_left_out))), MAX_SENTENCES, "normalised_text", "goal"
    ).toArrow()
    rephrased = _at_most(_rephrased(turns, pairs), MAX_PAIRS, "source_text", "target_text").toArrow()
    said = _at_most(texts, MAX_TEXTS, "normalised_text").toArrow()["normalised_text"].to_pylist()
    if not said:
        raise DataError(f"table turns of {lake.root} has no turns of these days", "ingest them first (`selflearn run`)")
    own = sentences["normalised_text"].to_pylist()
    told = list(zip(rephrased["source_text"].to_pylist(), rephrased["target_text"].to_pylist(), strict=True))
    return Corpus(
        texts=sorted({*said, *own}),
        sentences=own,
        goals=sentences["goal"].to_pylist(),
        speakers=sentences["speaker"].to_numpy().astype(np.int64),
        rephrased=told,
    )


def _of_days(lake: Lakehouse, table: Table, days: Sequence[date] | None) -> DataFrame:
    return lake.read(table) if days is None else lake.read(table, turn_date=days)


def _reached(turns: DataFrame, outcomes: DataFrame) -> DataFrame:
    """Sentences that reached a goal, once for each speaker at least: `normalised_text, goal, speaker`."""
    is_acted_on = F.col("goal").isNotNull() & ~F.coalesce("fallback", F.lit(False)) & F.col("rewrite_id").isNull()
    worked = outcomes.where(F.col("p_friction") <= MAX_FRICTION).select("turn_date", "turn_id")
    speaker = F.xxhash64("user_id").alias("speaker")
    return turns.where(is_acted_on).join(worked, ["turn_date", "turn_id"]).select("normalised_text", "goal", speaker)


def _once(reached: DataFrame) -> DataFrame:
    """Each sentence and goal once."""
    first, last = F.min("speaker"), F.max("speaker")
    speaker = F.when(first == last, first).otherwise(F.lit(SEVERAL).cast("long")).alias("speaker")
    return reached.groupBy("normalised_text", "goal").agg(speaker)


def _capped(sentences: DataFrame) -> DataFrame:
    of_goal = RowWindow.partitionBy("goal").orderBy(F.xxhash64("normalised_text"), "normalised_text")
    numbered = sentences.withColumn("nth", F.row_number().over(of_goal))
    return numbered.where(F.col("nth") <= MAX_PER_GOAL).drop("nth")


def _rephrased(turns: DataFrame, pairs: DataFrame) -> DataFrame:
    """Confident pairs, once each: `source_text, target_text`."""
    sure = pairs.where(F.col("p_rephrase") >= LEAST_REPHRASE).select("source_turn_id", "target_turn_id")
    for end in ("source", "target"):
        said = turns.select(F.col("turn_id").alias(f"{end}_turn_id"), F.col("normalised_text").alias(f"{end}_text"))
        sure = sure.join(said, f"{end}_turn_id")
    return sure.where(F.col("source_text") != F.col("target_text")).select("source_text", "target_text").distinct()


def _at_most(rows: DataFrame, limit: int, *columns: str) -> DataFrame:
    """That many rows, in the order of their hash: whatever the partitions, the same ones."""
    order: list[Column | str] = [F.xxhash64(*columns), *columns]
    return rows.orderBy(*order).limit(limit)
