"""Candidate pairs and their signals: one pass over the turns of each session, in order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.detect.columns import TurnColumns, turn_columns
from selflearn.detect.ragged import Floats, Ints
from selflearn.detect.signals import PAIR_SIGNALS, levels
from selflearn.detect.similarity import compare
from selflearn.lakehouse import tables
from selflearn.settings import Detect

_PAIRS_AT_ONCE = 20_000


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
        F.col("user_id"),
        F.col("locale"),
        F.col("utterance_id"),
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
        # Ids of one day often begin alike; hashes are told apart at their first bytes.
        .sortWithinPartitions(F.xxhash64("session_id"), "session_id", "turn_index")
    )
    return ordered.mapInArrow(_comparing(settings), tables.PAIR_SIGNALS.schema)


def _comparing(settings: Detect) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tail: pa.Table | None = None
        for batch in batches:
            turns = pa.Table.from_batches([batch])
            n_seen = tail.num_rows if tail else 0
            turns = pa.concat_tables([tail, turns]) if tail else turns
            tail = turns.slice(max(0, turns.num_rows - settings.max_turns))
            columns = turn_columns(turns)
            source, target = _candidates(turns, columns, settings, n_seen)
            index = turns["turn_index"].to_numpy()
            for start in range(0, len(source), _PAIRS_AT_ONCE):
                some = slice(start, start + _PAIRS_AT_ONCE)
                distance = (index[target[some]] - index[source[some]]).astype(np.int64)
                signals, seeds = compare(columns, source[some], target[some], distance)
                yield _as_batch(turns, source[some], target[some], signals, seeds)

    return run


def _candidates(turns: pa.Table, columns: TurnColumns, settings: Detect, n_seen: int) -> tuple[Ints, Ints]:
    """Places of source and target of each candidate pair whose target is not among the first `n_seen` turns."""
    session = turns["session_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    n, max_gap = len(session), settings.max_gap_minutes * 60e6
    found = []
    for distance in range(1, settings.max_turns + 1):
        source = np.arange(max(0, n_seen - distance), n - distance)
        target = source + distance
        near = columns.at[target] - columns.at[source] <= max_gap
        kept = near & (session[source] == session[target])
        found.append((source[kept], target[kept]))
    sources, targets = (np.concatenate(ends) for ends in zip(*found, strict=True))
    order = np.lexsort((targets, sources))
    return sources[order], targets[order]


def _as_batch(turns: pa.Table, source: Ints, target: Ints, signals: Floats, seeds: Floats) -> pa.RecordBatch:
    of_source, of_target = turns.take(pa.array(source)), turns.take(pa.array(target))
    offsets = np.arange(0, signals.size + 1, len(PAIR_SIGNALS), dtype=np.int32)
    columns = {
        "turn_date": of_source["turn_date"],
        "session_id": of_source["session_id"],
        "locale": of_source["locale"],
        "user_id": of_source["user_id"],
        "source_turn_id": of_source["turn_id"],
        "target_turn_id": of_target["turn_id"],
        "source_turn_index": of_source["turn_index"],
        "target_turn_index": of_target["turn_index"],
        "source_utterance": of_source["utterance_id"],
        "target_utterance": of_target["utterance_id"],
        "signals": pa.ListArray.from_arrays(offsets, pa.array(signals.ravel(), from_pandas=True)),
        "levels": pa.ListArray.from_arrays(offsets, pa.array(levels(signals, PAIR_SIGNALS).ravel())),
        "seed": pa.array(seeds),
    }
    names = tables.PAIR_SIGNALS.schema.fieldNames()
    ordered = [columns[name] for name in names]
    arrays = [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in ordered]
    return pa.RecordBatch.from_arrays(arrays, names=names)
