"""The pipeline: stages in order, over a range of days."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date
from itertools import groupby

from selflearn.lakehouse.lease import leased
from selflearn.lakehouse.log import is_replaced, is_touched
from selflearn.lakehouse.manifest import Manifest, succeeded_runs
from selflearn.lakehouse.schema import Table
from selflearn.lakehouse.store import Lakehouse, versions
from selflearn.pipeline.labelling import LABEL
from selflearn.pipeline.learning import GRAPH
from selflearn.pipeline.mining import DETECT, EVIDENCE, INGEST
from selflearn.pipeline.releasing import RELEASE
from selflearn.pipeline.rewriting import REWRITE
from selflearn.pipeline.stage import Clock, Stage, run_stage, utc_now
from selflearn.pipeline.variants import EMBED, VARIANTS
from selflearn.settings import Settings

MINING: tuple[Stage, ...] = (INGEST, DETECT, EMBED, EVIDENCE)
LEARNING: tuple[Stage, ...] = (VARIANTS, GRAPH, REWRITE, LABEL, RELEASE)
STAGES = {stage.name: stage for stage in (*MINING, *LEARNING)}
_DAYS_AT_ONCE = 7


def run_pipeline(
    lake: Lakehouse,
    settings: Settings,
    days: Sequence[date],
    stages: Sequence[Stage] = (*MINING, *LEARNING),
    resume: bool = False,
    clock: Clock = utc_now,
    announce: Callable[[Stage], None] = lambda stage: None,
) -> Iterator[tuple[Manifest, bool]]:
    """Run the stages in order; yields each one's manifest, and whether it was done already.

    With `resume`, a stage is skipped while it, and all before it, have succeeded for these days with these
    settings, what it read has not changed since, and what it wrote has not been replaced.

    Raises:
        InfrastructureError: another run is writing the same tables.
    """
    earlier: Sequence[Manifest] | None = None if resume else []
    for part, of_part in groupby(stages, key=_part):
        with leased(lake, part, _owner(days)):
            # Not before: what another run is doing is no earlier run yet.
            earlier = succeeded_runs(lake) if earlier is None else earlier
            for stage in of_part:
                announce(stage)
                done = _done_already(stage, lake, settings, days, earlier)
                if done is not None:
                    yield done, True
                    continue
                earlier = []
                yield run_stage(stage, lake, settings, days, clock), False


def backfill(
    lake: Lakehouse, settings: Settings, days: Sequence[date], clock: Clock = utc_now
) -> Iterator[tuple[Manifest, bool]]:
    """Make up for days that were not mined, oldest first, then learn as of the last of them.

    The tables are those that daily runs would have left. A week at a time, so that what a kill costs, and the memory
    of it, do not grow with the range; what is done already is skipped. Yields what `run_pipeline` yields.
    """
    ordered = sorted(days)
    for start in range(0, len(ordered), _DAYS_AT_ONCE):
        yield from run_pipeline(lake, settings, ordered[start : start + _DAYS_AT_ONCE], MINING, True, clock)
    yield from run_pipeline(lake, settings, ordered[-1:], LEARNING, True, clock)


def _part(stage: Stage) -> str:
    """Which tables a stage writes, and so whom it may not meet."""
    learnt = {table.name for learner in LEARNING for table in learner.writes}
    return "learning" if learnt & {table.name for table in stage.writes} else "mining"


def _owner(days: Sequence[date]) -> str:
    """In words for a run that finds the lease taken."""
    return f"a run over {min(days)} to {max(days)} on {platform.node()}"


def _done_already(
    stage: Stage, lake: Lakehouse, settings: Settings, days: Sequence[date], earlier: Sequence[Manifest]
) -> Manifest | None:
    wanted = set(days) if stage in MINING else {max(days)}
    fingerprint = settings.fingerprint()
    for run in reversed(earlier):
        if run.stage == stage.name and wanted <= set(run.days) and run.settings_fingerprint == fingerprint:
            # Learning reads a window of days, and what it found before: any change of either counts.
            days_seen = None if stage in LEARNING else wanted
            unchanged = _is_kept(lake, stage.reads, run.versions_read, days_seen)
            kept = _is_kept(lake, stage.writes, run.versions_written, days_seen)
            return run if unchanged and kept else None
    return None


def _is_kept(lake: Lakehouse, tables: Sequence[Table], seen: Mapping[str, int], days: Collection[date] | None) -> bool:
    """Whether no commit since the versions seen has changed rows of the days, or any rows where no days are given."""
    names = None if days is None else [day.isoformat() for day in days]

    def is_kept(table: Table, since: range) -> bool:
        path = lake.path(table)
        if names is not None and table.partition != ("turn_date",):
            # Rows that other days added to a table without days leave this day's as they are.
            return not is_replaced(lake.spark, path, since)
        return not is_touched(lake.spark, path, since, names)

    now = versions(lake, tables)
    return set(now) == set(seen) and all(
        now[table.name] >= seen[table.name] and is_kept(table, range(seen[table.name] + 1, now[table.name] + 1))
        for table in tables
        if table.name in now
    )
