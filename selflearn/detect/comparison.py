"""Candidate pairs and their signals: one pass over the turns of each session, in order of time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.detect.signals import (
    PAIR_SIGNALS,
    ComparableTurn,
    compare,
    goal_probabilities,
    goal_values,
    levels,
    text_weights,
    value_probabilities,
)
from selflearn.lakehouse import tables
from selflearn.settings import Detect

_MAX_TEXTS = 10


def compare_turns(turns: DataFrame, settings: Detect) -> DataFrame:
    """Signals of every candidate pair: each turn with the `max_turns` later ones of its session.

    Pairs further apart than `max_gap_minutes` are no candidates; of a session, the first
    `max_turns_per_session` turns are compared. Returns the columns of `tables.PAIR_SIGNALS`.
    """
    columns = [
        F.col("turn_date"),
        F.col("session_id"),
        F.col("turn_index"),
        F.col("turn_id"),
        F.unix_micros("ts").alias("at"),
        F.col("context"),
        F.col("prompt"),
        F.col("normalised_text"),
        F.col("text_alternatives.text").alias("texts"),
        F.col("text_alternatives.score").alias("text_scores"),
        F.col("asr_score"),
        F.col("nlu_score"),
        F.col("goal"),
        F.col("nlu_alternatives.goal").alias("goals"),
        F.col("nlu_alternatives.score").alias("goal_scores"),
        F.coalesce("fallback", F.lit(False)).alias("fallback"),
        (
            F.coalesce("error", F.lit(False))
            | F.coalesce("cancelled", F.lit(False))
            | F.coalesce(F.col("feedback") < 0, F.lit(False))
        ).alias("trouble"),
        F.col("completed"),
        F.col("barge_in"),
    ]
    ordered = (
        turns.where(F.col("turn_index") < settings.max_turns_per_session)
        .select(*columns)
        .repartition("session_id")
        .sortWithinPartitions("session_id", "turn_index")
    )
    return ordered.mapInArrow(_comparing(settings), tables.PAIR_SIGNALS.schema)


def _comparing(settings: Detect) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    max_turns, max_gap = settings.max_turns, settings.max_gap_minutes * 60

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        session: str | None = None
        earlier: deque[tuple[dict[str, Any], ComparableTurn]] = deque(maxlen=max_turns)
        for batch in batches:
            pairs = _Pairs()
            for row in batch.to_pylist():
                if row["session_id"] != session:
                    session = row["session_id"]
                    earlier.clear()
                turn = _prepare(row)
                for source_row, source in earlier:
                    if turn.at - source.at <= max_gap:
                        distance = row["turn_index"] - source_row["turn_index"]
                        pairs.add(source_row, row, *compare(source, turn, distance))
                earlier.append((row, turn))
            yield pairs.to_batch()

    return run


class _Pairs:
    def __init__(self) -> None:
        self.ids: list[tuple[Any, str, str, str, int, int]] = []
        self.signals: list[list[float]] = []
        self.seeds: list[float] = []

    def add(self, source: dict[str, Any], target: dict[str, Any], signals: list[float], seed: float) -> None:
        self.ids.append(
            (
                source["turn_date"],
                source["session_id"],
                source["turn_id"],
                target["turn_id"],
                source["turn_index"],
                target["turn_index"],
            )
        )
        self.signals.append(signals)
        self.seeds.append(seed)

    def to_batch(self) -> pa.RecordBatch:
        matrix = np.array(self.signals, dtype=np.float64).reshape(-1, len(PAIR_SIGNALS))
        offsets = np.arange(0, matrix.size + 1, len(PAIR_SIGNALS), dtype=np.int32)
        cut = levels(matrix, PAIR_SIGNALS)
        kinds = (pa.date32(), pa.string(), pa.string(), pa.string(), pa.int32(), pa.int32())
        columns = [pa.array([ids[k] for ids in self.ids], type=kind) for k, kind in enumerate(kinds)]
        columns += [
            pa.ListArray.from_arrays(offsets, pa.array(matrix.ravel(), from_pandas=True)),
            pa.ListArray.from_arrays(offsets, pa.array(cut.ravel())),
            pa.array(self.seeds, type=pa.float64()),
        ]
        return pa.RecordBatch.from_arrays(columns, names=tables.PAIR_SIGNALS.schema.fieldNames())


def _prepare(row: dict[str, Any]) -> ComparableTurn:
    texts, scores = _heard(row)
    goals: list[str] = row["goals"] or ([row["goal"]] if row["goal"] else [])
    goal_scores: list[float] = row["goal_scores"] or [_or(row["nlu_score"], 1.0)] * len(goals)
    goal: str | None = row["goal"]
    probabilities = goal_probabilities(goals, goal_scores)
    return ComparableTurn(
        texts=texts,
        text_weights=text_weights(scores),
        top_goal=goal,
        top_values=frozenset(goal_values(goal)) if goal else frozenset(),
        goal_probabilities=probabilities,
        value_probabilities=value_probabilities(probabilities),
        at=row["at"] / 1e6,
        context=row["context"],
        prompt=row["prompt"],
        confidence=_or(row["nlu_score"], math.nan),
        recognition=_or(row["asr_score"], math.nan),
        unread=row["fallback"] or goal is None,
        trouble=row["trouble"],
        completed=row["completed"],
        barge_in=row["barge_in"],
    )


def _heard(row: dict[str, Any]) -> tuple[tuple[str, ...], list[float | None]]:
    heard = [
        (text.casefold(), score)
        for text, score in zip(row["texts"] or (), row["text_scores"] or (), strict=True)
        if text and not text.isspace()
    ][:_MAX_TEXTS]
    if not heard:
        return (row["normalised_text"],), [0.0]
    return tuple(text for text, _ in heard), [score for _, score in heard]


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
