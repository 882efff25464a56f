"""Which days a run covers: those asked for, and the day before where its sessions were cut off at midnight."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

from selflearn.errors import SettingsError
from selflearn.lakehouse.manifest import Manifest, succeeded_runs
from selflearn.pipeline.stage import StageContext
from selflearn.turns import has_logs

MAX_DAYS = 400


def day_range(first: date, last: date) -> list[date]:
    """Every day from first to last.

    Raises:
        SettingsError: the range is the wrong way round, or longer than `MAX_DAYS`.
    """
    n_days = (last - first).days + 1
    if n_days < 1:
        raise SettingsError(f"--from {first} lies after --to {last}", "swap the two days")
    if n_days > MAX_DAYS:
        raise SettingsError(
            f"--from {first} --to {last} spans {n_days} days, at most {MAX_DAYS} are run at once",
            "run it in several ranges, oldest first",
        )
    return [first + timedelta(days=offset) for offset in range(n_days)]


def with_cut_off_day_before(context: StageContext, days: Sequence[date]) -> list[date]:
    """The days to ingest, with the day before them where it was ingested before its sessions had ended.

    Sessions that cross midnight belong to the day they start. A day that was ingested when the logs of the next
    morning were not there yet lacks the ends of such sessions, so it is ingested again.
    """
    day_before = min(days) - timedelta(days=1)
    earlier = _last_run(succeeded_runs(context.lake), "ingest", day_before)
    if earlier is None:
        return sorted(days)
    hours = timedelta(hours=context.settings.turns.max_session_hours)
    complete_at = datetime.combine(min(days), time()) + hours
    saw_next_day = max(earlier.days) > day_before or bool(earlier.metrics.get("next_day_has_logs"))
    if saw_next_day and earlier.started_at >= complete_at:
        return sorted(days)
    return [day_before, *sorted(days)]


def next_day_has_logs(context: StageContext, days: Sequence[date]) -> bool:
    """Whether the source holds a file for the day after the run, so that sessions over midnight are whole."""
    return has_logs(context.spark, context.settings.source, max(days) + timedelta(days=1))


def with_changed_day_before(context: StageContext, stage: str, upstream: str, days: Sequence[date]) -> list[date]:
    """The days of a run, with the day before them where `upstream` has renewed it since `stage` last saw it."""
    day_before = min(days) - timedelta(days=1)
    runs = succeeded_runs(context.lake)
    renewed, seen = (_last_run(runs, name, day_before) for name in (upstream, stage))
    if renewed and seen and renewed.finished_at > seen.started_at:
        return [day_before, *sorted(days)]
    return sorted(days)


def _last_run(runs: Sequence[Manifest], stage: str, day: date) -> Manifest | None:
    found = [run for run in runs if run.stage == stage and day in run.days]
    return found[-1] if found else None
