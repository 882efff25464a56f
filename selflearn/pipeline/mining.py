"""Mining, day by day: raw logs to turns, turns to rephrase pairs, both to evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from statistics import median

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.detect import (
    learn_daily,
    read_pinned,
    rephrase_pairs,
    sample_sessions,
    score_turns,
    turn_outcomes,
)
from selflearn.encoding import load_encoder
from selflearn.errors import DataError, VolumeError
from selflearn.graph import cap_users, evidence
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import landing
from selflearn.pipeline.days import next_day_has_logs, with_changed_day_before, with_cut_off_day_before
from selflearn.pipeline.erasures import erased_people
from selflearn.pipeline.stage import Stage, StageContext
from selflearn.settings import read_user_key
from selflearn.turns import clear_read_errors, ingest, read_source

_DAYS_AT_ONCE = 7
_USUAL_DAYS = 14
_MIN_USUAL_DAYS = 3


def run_ingest(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Raw logs of the days to `turns` and `quarantine`."""
    settings = context.settings
    days = with_cut_off_day_before(context, days)
    key = read_user_key()
    with clear_read_errors(), landing(context.lake, context.label.run_id) as land:
        raw = read_source(context.spark, settings.source, days)
        ingested = ingest(raw, settings, days, context.now, key, land, erased_people(context.lake))
        n_rows = _check_volume(context, ingested.rows, days)
        n_bad = context.replace(tables.QUARANTINE, ingested.quarantine, turn_date=days)
        _check_quarantined_share(context, n_bad, n_rows)
        context.replace(tables.TURNS, ingested.turns, turn_date=days)
    context.metrics["next_day_has_logs"] = float(next_day_has_logs(context, days))
    return days


def run_detect(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Turns of the days to `rephrase_pairs` and `turn_outcomes`, each day with a detector of its own."""
    lake, settings = context.lake, context.settings.detect
    pinned = read_pinned(settings.model, settings.encoder) if settings.model else None
    if settings.encoder:
        context.message = f"encoder {load_encoder(settings.encoder).encoder_id}"
    days = with_changed_day_before(context, "detect", "ingest", days)
    turns = lake.read(tables.TURNS, turn_date=days)
    n_turns = _count_turns(context, turns)
    learnt = learn_daily(_samples(turns, n_turns), _earlier_patterns(context, days), settings, pinned)
    _check_forecast(context, sum(n * learnt.pairs_per_turn[day] for day, n in n_turns.items()))
    for table, rows in ((tables.LEVEL_PATTERNS, learnt.patterns), (tables.DETECTORS, learnt.models)):
        context.replace(table, context.spark.createDataFrame(rows, table.schema).coalesce(1), turn_date=days)
    with landing(lake, context.label.run_id) as land:
        scored = land(score_turns(turns, learnt.detectors, settings))
        context.replace(tables.TURN_OUTCOMES, turn_outcomes(scored), turn_date=days)
        context.replace(tables.REPHRASE_PAIRS, rephrase_pairs(scored), turn_date=days)
    return days


def run_evidence(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Turns, outcomes and pairs of the days to `evidence`."""
    lake = context.lake
    days = with_changed_day_before(context, "evidence", "detect", days)
    outcomes, pairs = (lake.read(table, turn_date=days) for table in (tables.TURN_OUTCOMES, tables.REPHRASE_PAIRS))
    turns, n_over = cap_users(lake.read(tables.TURNS, turn_date=days), context.settings.graph)
    context.metrics["turns_over_user_cap"] = float(n_over)
    context.replace(tables.EVIDENCE, evidence(turns, outcomes, pairs, context.settings.graph), turn_date=days)
    return days


INGEST = Stage("ingest", run_ingest, (), (tables.TURNS, tables.QUARANTINE))
DETECT = Stage(
    "detect",
    run_detect,
    (tables.TURNS,),
    (
        tables.LEVEL_PATTERNS,
        tables.DETECTORS,
        tables.TURN_OUTCOMES,
        tables.REPHRASE_PAIRS,
    ),
)
EVIDENCE = Stage(
    "evidence", run_evidence, (tables.TURNS, tables.TURN_OUTCOMES, tables.REPHRASE_PAIRS), (tables.EVIDENCE,)
)


def _check_volume(context: StageContext, rows: DataFrame, days: Sequence[date]) -> int:
    """Rows of the run; stops it before it writes where a day's number is far from the usual, as where logging broke."""
    counted = {row["own_day"]: row["count"] for row in rows.groupBy("own_day").count().collect()}
    factor, usual = context.settings.turns.max_volume_factor, _usual_volume(context, min(days))
    if factor is None or usual is None:
        return sum(counted.values())
    for day in sorted(days):
        n = counted.get(day, 0)
        if not usual / factor <= n <= usual * factor:
            raise VolumeError(
                f"{day} has {n:,} rows; the median of the days before is {usual:,.0f}, and {usual / factor:,.0f} to "
                f"{usual * factor:,.0f} are let through; nothing was written",
                "look at the logs of that day; if they are right, raise turns.max_volume_factor (now "
                f"{factor:g}) or set it to null, and run the day again",
            )
    return sum(counted.values())


def _usual_volume(context: StageContext, day: date) -> float | None:
    """Median turns of the last days before that have any; None where they are too few to tell."""
    if not context.lake.exists(tables.TURNS):
        return None
    before = [day - timedelta(days=age) for age in range(1, _USUAL_DAYS + 1)]
    turns = context.lake.read(tables.TURNS, turn_date=before)
    counts = [row["count"] for row in turns.groupBy("turn_date").count().collect()]
    return float(median(counts)) if len(counts) >= _MIN_USUAL_DAYS else None


def _check_quarantined_share(context: StageContext, n_bad: int, n_rows: int) -> None:
    """Stop a run with too many bad rows before it writes turns; the rows themselves are in `quarantine` by then."""
    limit = context.settings.turns.max_quarantined_share
    context.metrics["quarantined_share"] = n_bad / n_rows if n_rows else 0.0
    if n_bad > limit * n_rows:
        raise DataError(
            f"{n_bad} of {n_rows} rows ({n_bad / n_rows:.1%}) are bad, at most {limit:.1%} may be; "
            "no turns were written",
            f"look at reason and offending_value in table quarantine of {context.lake.root}; mend the source or "
            "its mapping, or raise turns.max_quarantined_share",
        )


def _check_forecast(context: StageContext, n_pairs: float) -> None:
    """Stop a run before it compares more pairs than it may."""
    limit = context.settings.detect.max_pairs
    context.metrics["pairs_forecast"] = float(n_pairs)
    if n_pairs > limit:
        raise VolumeError(
            f"about {n_pairs:,.0f} pairs of turns would be compared, at most {limit:,} may be",
            "run fewer days at once, lower detect.max_turns or detect.max_turns_per_session, or raise detect.max_pairs",
        )


def _count_turns(context: StageContext, turns: DataFrame) -> dict[date, int]:
    """Turns of each day that are compared; how many more lie beyond the session cap goes to the metrics."""
    is_within = F.col("turn_index") < context.settings.detect.max_turns_per_session
    n, n_within = F.count(F.lit(1)).alias("n"), F.count_if(is_within).alias("n_within")
    counted = sorted(turns.groupBy("turn_date").agg(n, n_within).collect(), key=lambda row: row["turn_date"])
    context.metrics["turns_over_session_cap"] = float(sum(row["n"] - row["n_within"] for row in counted))
    return {row["turn_date"]: row["n_within"] for row in counted}


def _samples(turns: DataFrame, n_turns: Mapping[date, int]) -> Iterator[tuple[date, pa.Table]]:
    """A sample of each day's turns; a few days are fetched at once."""
    days = list(n_turns)
    for start in range(0, len(days), _DAYS_AT_ONCE):
        some = days[start : start + _DAYS_AT_ONCE]
        sampled = sample_sessions(turns, {day: n_turns[day] for day in some})
        for day in some:
            yield day, sampled.filter(pc.equal(sampled["turn_date"], pa.scalar(day))).combine_chunks()


def _earlier_patterns(context: StageContext, days: Sequence[date]) -> pd.DataFrame:
    """Patterns of the days before that the days' windows reach."""
    lake, columns = context.lake, tables.LEVEL_PATTERNS.schema.fieldNames()
    if not lake.exists(tables.LEVEL_PATTERNS):
        return pd.DataFrame(columns=columns)
    window = [min(days) - timedelta(days=age) for age in range(1, context.settings.detect.window_days)]
    return lake.read(tables.LEVEL_PATTERNS, turn_date=window).toPandas()
