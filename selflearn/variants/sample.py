"""What of a log an encoder is trained on."""

from __future__ import annotations

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as RowWindow
from pyspark.sql import functions as F

from selflearn.errors import DataError
from selflearn.variants.calibration import N_LEFT_OUT
from selflearn.variants.corpus import SEVERAL, Corpus

MAX_FRICTION = 0.2
"""A turn that more probably failed did not reach its goal."""
LEAST_REPHRASE = 0.8
MAX_PER_GOAL = 100
"""Sentences of one goal: of the frequent ones there are enough."""
MAX_SENTENCES = 200_000
MAX_PAIRS = 100_000
MAX_TEXTS = 500_000


def sample_corpus(turns: DataFrame, outcomes: DataFrame, pairs: DataFrame, launch: DataFrame | None) -> Corpus:
    """Texts, sentences that reached a goal and confident rephrase pairs; of too many, some chosen by hash.

    Takes rows of `tables.TURNS`, `TURN_OUTCOMES` and `REPHRASE_PAIRS`, and of `read_launch_set`. A sentence reached its
    goal where the assistant acted on its reading and the turn hardly failed. Turns that were served under a rewrite are
    left out: what worked there was the rewrite. Goals that are left out have no part in any of it but the bare texts.

    Raises:
        DataError: there are no turns.
    """
    reached, texts = _reached(turns, outcomes), turns.select("normalised_text")
    if launch is not None:
        reached = reached.unionByName(launch.select("normalised_text", "goal", _several().alias("speaker")))
        texts = texts.unionByName(launch.select("normalised_text"))
    sentences = _at_most(
        _capped(_once(reached.where(_is_learnt()))), MAX_SENTENCES, "normalised_text", "goal"
    ).toArrow()
    rephrased = _at_most(_rephrased(turns, pairs), MAX_PAIRS, "source_text", "target_text").toArrow()
    said = _at_most(texts.distinct(), MAX_TEXTS, "normalised_text").toArrow()["normalised_text"].to_pylist()
    if not said:
        raise DataError("there are no turns to learn from", "ingest some days first (`selflearn run`)")
    own = sentences["normalised_text"].to_pylist()
    earlier, later = (rephrased[f"{end}_text"].to_pylist() for end in ("source", "target"))
    return Corpus(
        texts=sorted({*said, *own}),
        sentences=own,
        goals=sentences["goal"].to_pylist(),
        speakers=sentences["speaker"].to_numpy().astype(np.int64),
        rephrased=list(zip(earlier, later, strict=True)),
    )


def _is_learnt() -> Column:
    """What the calibration of goal variants is measured on, no encoder may know; turns without a goal are not."""
    return F.coalesce(F.crc32("goal") % N_LEFT_OUT != 0, F.lit(True))


def _reached(turns: DataFrame, outcomes: DataFrame) -> DataFrame:
    """Sentences that reached a goal, once for each turn: `normalised_text, goal, speaker`."""
    is_acted_on = F.col("goal").isNotNull() & ~F.coalesce("fallback", F.lit(False)) & F.col("rewrite_id").isNull()
    worked = outcomes.where(F.col("p_friction") <= MAX_FRICTION).select("turn_date", "turn_id")
    speaker = F.xxhash64("user_id").alias("speaker")
    return turns.where(is_acted_on).join(worked, ["turn_date", "turn_id"]).select("normalised_text", "goal", speaker)


def _once(reached: DataFrame) -> DataFrame:
    """Each sentence and goal once."""
    first, last = F.min("speaker"), F.max("speaker")
    speaker = F.when(first == last, first).otherwise(_several())
    return reached.groupBy("normalised_text", "goal").agg(speaker.alias("speaker"))


def _several() -> Column:
    return F.lit(SEVERAL).cast("long")


def _capped(sentences: DataFrame) -> DataFrame:
    of_goal = RowWindow.partitionBy("goal").orderBy(F.xxhash64("normalised_text"), "normalised_text")
    return sentences.withColumn("nth", F.row_number().over(of_goal)).where(F.col("nth") <= MAX_PER_GOAL).drop("nth")


def _rephrased(turns: DataFrame, pairs: DataFrame) -> DataFrame:
    """Confident pairs of texts, once each: `source_text, target_text`."""
    sure = pairs.where(F.col("p_rephrase") >= LEAST_REPHRASE).select("source_turn_id", "target_turn_id")
    for end in ("source", "target"):
        said = turns.where(_is_learnt()).select(
            F.col("turn_id").alias(f"{end}_turn_id"), F.col("normalised_text").alias(f"{end}_text")
        )
        sure = sure.join(said, f"{end}_turn_id")
    return sure.where(F.col("source_text") != F.col("target_text")).select("source_text", "target_text").distinct()


def _at_most(rows: DataFrame, limit: int, *columns: str) -> DataFrame:
    """That many rows, in the order of their hash: the same ones however the rows lie."""
    return rows.orderBy(F.xxhash64(*columns), *columns).limit(limit)
