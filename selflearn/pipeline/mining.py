"""Mining, day by day: raw logs to turns, turns to rephrase pairs, both to evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.detect import (
    FRICTION_SIGNALS,
    PAIR_SIGNALS,
    LevelModel,
    compare_turns,
    count_patterns,
    daily_sampling,
    fit_daily,
    models_as_rows,
    rephrase_pairs,
    sample,
    score_pairs,
    score_turns,
    turn_levels,
)
from selflearn.detect.signals import Signal
from selflearn.errors import DataError, SettingsError
from selflearn.graph import evidence, n_over_user_cap
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import landing
from selflearn.pipeline.days import next_day_has_logs, with_changed_day_before, with_cut_off_day_before
from selflearn.pipeline.stage import Stage, StageContext
from selflearn.settings import read_user_key
from selflearn.turns import clear_read_errors, ingest, read_source


def run_ingest(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Raw logs of the days to `turns` and `quarantine`."""
    settings = context.settings
    days = with_cut_off_day_before(context, days)
    key = read_user_key()
    with clear_read_errors(), landing(context.lake, context.label.run_id) as land:
        raw = read_source(context.spark, settings.source, days)
        ingested = ingest(raw, settings, days, context.now, key, land)
        n_bad = context.replace(tables.QUARANTINE, ingested.quarantine, turn_date=days)
        _check_quarantined_share(context, n_bad, ingested.rows.count())
        context.replace(tables.TURNS, ingested.turns, turn_date=days)
    context.metrics["next_day_has_logs"] = float(next_day_has_logs(context, days))
    return days


def run_detect(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Turns of the days to `rephrase_pairs` and `turn_outcomes`, each day with a model of its own."""
    lake, settings = context.lake, context.settings.detect
    days = with_changed_day_before(context, "detect", "ingest", days)
    turns = lake.read(tables.TURNS, turn_date=days)
    beyond_cap = turns.where(F.col("turn_index") >= settings.max_turns_per_session)
    context.metrics["turns_over_session_cap"] = float(beyond_cap.count())
    context.replace(tables.PAIR_SIGNALS, compare_turns(turns, settings), turn_date=days)
    signals = lake.read(tables.PAIR_SIGNALS, turn_date=days)
    patterns = count_patterns(sample(signals, "source_turn_id", daily_sampling(signals)), "pair")
    pair_models = _models(context, "pair", patterns, PAIR_SIGNALS, days)
    scored = score_pairs(signals, pair_models)
    sampling = daily_sampling(turns)
    of_sample = turn_levels(sample(turns, "turn_id", sampling), sample(scored, "source_turn_id", sampling))
    friction_models = _models(context, "friction", count_patterns(of_sample, "friction"), FRICTION_SIGNALS, days)
    models = models_as_rows(context.spark, [pair_models, friction_models])
    context.replace(tables.DETECTORS, models, turn_date=days)
    outcomes = score_turns(turn_levels(turns, scored), friction_models)
    context.replace(tables.TURN_OUTCOMES, outcomes, turn_date=days)
    outcomes = lake.read(tables.TURN_OUTCOMES, turn_date=days)
    context.replace(tables.REPHRASE_PAIRS, rephrase_pairs(scored, outcomes), turn_date=days)
    return days


def run_evidence(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Turns, outcomes and pairs of the days to `evidence`."""
    lake = context.lake
    days = with_changed_day_before(context, "evidence", "detect", days)
    turns = lake.read(tables.TURNS, turn_date=days)
    context.metrics["turns_over_user_cap"] = float(n_over_user_cap(turns, context.settings.graph))
    rows = evidence(
        turns,
        lake.read(tables.TURN_OUTCOMES, turn_date=days),
        lake.read(tables.REPHRASE_PAIRS, turn_date=days),
        context.settings.graph,
    )
    context.replace(tables.EVIDENCE, rows, turn_date=days)
    return days


INGEST = Stage("ingest", run_ingest, (), (tables.TURNS, tables.QUARANTINE))
DETECT = Stage(
    "detect",
    run_detect,
    (tables.TURNS,),
    (
        tables.PAIR_SIGNALS,
        tables.LEVEL_PATTERNS,
        tables.DETECTORS,
        tables.TURN_OUTCOMES,
        tables.REPHRASE_PAIRS,
    ),
)
EVIDENCE = Stage(
    "evidence", run_evidence, (tables.TURNS, tables.TURN_OUTCOMES, tables.REPHRASE_PAIRS), (tables.EVIDENCE,)
)


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


def _pinned(file: Path) -> LevelModel:
    try:
        model = LevelModel.from_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"detect.model {file} cannot be read ({error.strerror})",
            "name a saved detector, or leave the key out",
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(
            f"detect.model {file} is no saved detector ({error})", "save one with this version"
        ) from None
    expected = tuple(signal.name for signal in PAIR_SIGNALS)
    if model.signals != expected:
        raise SettingsError(
            f"detect.model {file} weighs the signals {model.signals}, this version has {expected}",
            "fit the detector again with this version",
        )
    return model


def _models(
    context: StageContext, name: str, patterns: DataFrame, signals: Sequence[Signal], days: Sequence[date]
) -> Mapping[date, LevelModel]:
    """A model per day: pinned where the settings name one, else fitted on the counted patterns of its window."""
    lake, settings = context.lake, context.settings.detect
    context.replace(tables.LEVEL_PATTERNS, patterns, turn_date=days, model=[name])
    if settings.model is not None and name == "pair":
        pinned = _pinned(settings.model)
        models: Mapping[date, LevelModel] = dict.fromkeys(days, pinned)
    else:
        window = [min(days) - timedelta(days=age) for age in range(1, settings.window_days)]
        counted = lake.read(tables.LEVEL_PATTERNS, turn_date=[*window, *days], model=[name]).toPandas()
        models = fit_daily(name, counted, signals, days, settings.window_days, settings.steps)
    return models
