"""Detection on Spark: whole sessions in, one pass of Python over them, scored turns with their pairs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from selflearn.detect.comparison import compare_sessions
from selflearn.detect.detector import Detector, scored_turns
from selflearn.encoding import load_encoder, load_on_worker
from selflearn.lakehouse import tables
from selflearn.settings import Detect

MAX_SAMPLED_PER_DAY = 3_000
_SAMPLED_PER_SESSION = 200

SCORED = (
    "turn_date date, session_id string, locale string, user_id string, turn_id string, turn_index int, "
    "utterance_id string, p_friction double, p_failed double, p_gave_up double, "
    "p_friction_follow_up double, outcome_log_odds double, "
    "p_recognition double, p_understanding double, p_unsupported double, p_user double, "
    "pairs array<struct<target_turn_id: string, target_turn_index: int, target_utterance: string, pattern: string, "
    "p_friction_target: double, p_same_goal: double, p_rephrase: double, merged_goal: string, p_merged: double>>"
)


def observed(turns: DataFrame) -> DataFrame:
    """The columns of `tables.TURNS` that comparison needs, in its words."""
    return turns.select(
        "turn_date",
        "session_id",
        "turn_index",
        "turn_id",
        "user_id",
        "locale",
        "utterance_id",
        F.unix_micros("ts").alias("at"),
        "context",
        "prompt",
        "normalised_text",
        F.col("text_alternatives.text").alias("texts"),
        "asr_score",
        "nlu_score",
        "goal",
        F.col("nlu_alternatives.goal").alias("goals"),
        F.col("nlu_alternatives.score").alias("goal_scores"),
        "fallback",
        (F.coalesce("error", F.lit(False)) | F.coalesce("cancelled", F.lit(False))).alias("failed"),
        "completed",
        "feedback",
        "barge_in",
    )


def sample_sessions(turns: DataFrame, n_turns: Mapping[date, int]) -> pa.Table:
    """About `MAX_SAMPLED_PER_DAY` turns of each day, in whole sessions chosen by their ids' hash, in order.

    Columns of `observed`. The sample, and so a model fitted on it, is a function of the day alone. Of an endless
    session the first turns stand for it. `n_turns` says how many turns each day has; other days are left out.
    """
    chosen = [_is_sampled(day, -(-n // MAX_SAMPLED_PER_DAY)) for day, n in n_turns.items()]
    is_chosen = chosen[0]
    for condition in chosen[1:]:
        is_chosen = is_chosen | condition
    rows = observed(turns.where(is_chosen & (F.col("turn_index") < _SAMPLED_PER_SESSION))).toArrow()
    order = [(name, "ascending") for name in ("turn_date", "session_id", "turn_index")]
    return rows.sort_by(order).combine_chunks()


def score_turns(turns: DataFrame, detectors: Mapping[date, Detector], settings: Detect) -> DataFrame:
    """Score the turns, and every candidate pair of them, with their day's detector; columns of `SCORED`."""
    ordered = (
        observed(turns)
        .repartition("session_id")
        # Ids of one day often begin alike; hashes are told apart at their first bytes.
        .sortWithinPartitions("turn_date", F.xxhash64("session_id"), "session_id", "turn_index")
    )
    encoder_id = load_encoder(settings.encoder).encoder_id if settings.encoder else None
    return ordered.mapInArrow(scorer(dict(detectors), settings, encoder_id), SCORED)


def turn_outcomes(scored: DataFrame) -> DataFrame:
    """Columns of `tables.TURN_OUTCOMES`."""
    return scored.select(*tables.TURN_OUTCOMES.schema.fieldNames())


def rephrase_pairs(scored: DataFrame) -> DataFrame:
    """Columns of `tables.REPHRASE_PAIRS`."""
    pairs = scored.select(
        "turn_date",
        "session_id",
        "locale",
        "user_id",
        F.col("turn_id").alias("source_turn_id"),
        F.col("turn_index").alias("source_turn_index"),
        F.col("utterance_id").alias("source_utterance"),
        F.col("p_friction").alias("p_friction_source"),
        F.inline("pairs"),
    )
    return pairs.select(*tables.REPHRASE_PAIRS.schema.fieldNames())


def _is_sampled(day: date, one_in: int) -> Column:
    is_day = F.col("turn_date") == F.lit(day)
    return is_day if one_in == 1 else is_day & (F.pmod(F.xxhash64("session_id"), F.lit(one_in)) == 0)


def scorer(
    detectors: Mapping[date, Detector], settings: Detect, encoder_id: str | None = None
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a worker runs: batches of `observed` turns, sessions whole and in order, to batches of `SCORED`.

    `encoder_id` is that of the settings' encoder, where they name one.
    """

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if encoder_id:
            load_on_worker(settings.encoder, encoder_id)
        for turns in _whole_sessions(batches, settings.max_turns_per_session):
            for day, of_day in _days(turns):
                compared = compare_sessions(of_day, settings)
                scored = scored_turns(of_day, compared, detectors[day].score(compared))
                yield from scored.combine_chunks().to_batches()

    return run


def _whole_sessions(batches: Iterable[pa.RecordBatch], most: int) -> Iterator[pa.Table]:
    """Batches cut anew where sessions end, or where one has had `most` more turns: none is compared across that."""
    held: pa.Table | None = None
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        rows = pa.concat_tables([held, rows]).combine_chunks() if held else rows
        session = rows["session_id"].combine_chunks()
        starts = pc.not_equal(session[1:], session[:-1]).to_numpy(zero_copy_only=False)
        starts |= rows["turn_index"].to_numpy()[1:] % most == 0
        end = int(np.flatnonzero(starts)[-1]) + 1 if starts.any() else 0
        if end:
            yield rows.slice(0, end).combine_chunks()
        held = rows.slice(end)
    if held:
        yield held.combine_chunks()


def _days(turns: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    """The turns of each day; they come in order of the days."""
    days = turns["turn_date"].combine_chunks().dictionary_encode()
    starts = [*np.unique(days.indices.to_numpy(), return_index=True)[1].tolist(), len(turns)]
    for day, start, end in zip(days.dictionary.to_pylist(), starts[:-1], starts[1:], strict=True):
        yield day, turns.slice(start, end - start).combine_chunks()
