"""Upkeep of the tables: old days go, small files become large ones, files that nothing refers to go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from delta.tables import DeltaTable

from selflearn.errors import SettingsError
from selflearn.lakehouse import tables
from selflearn.lakehouse.schema import Table
from selflearn.pipeline.run import LEARNING, MINING
from selflearn.pipeline.stage import Stage, StageContext

_BY_DAY = (("turn_date",), ("as_of",))
_MINED = tuple(table for stage in MINING for table in stage.writes)
_LEARNT = tuple(table for stage in LEARNING for table in stage.writes)


def run_maintenance(context: StageContext, days: Sequence[date], kept: Sequence[Table]) -> Sequence[date]:
    """Keep some tables in order, as of the last day; their rows change only where `maintenance.keep_days` says so.

    Raises:
        SettingsError: `keep_days` names a table that has no days.
    """
    settings, as_of = context.settings.maintenance, max(days)
    _check_names(settings.keep_days)
    for table in (table for table in kept if context.lake.exists(table)):
        if table.name in settings.keep_days:
            context.lake.expire(table, as_of - timedelta(days=settings.keep_days[table.name]), context.label)
        DeltaTable.forPath(context.spark, context.lake.path(table)).optimize().executeCompaction()
        context.lake.vacuum(table, settings.vacuum_hours)
    return [as_of]


MAINTAIN_MINING = Stage(
    "maintain_mining", lambda context, days: run_maintenance(context, days, (*_MINED, tables.RUNS)), (), _MINED
)
MAINTAIN_LEARNING = Stage(
    "maintain_learning", lambda context, days: run_maintenance(context, days, _LEARNT), (), _LEARNT
)
MAINTENANCE = {stage.name: stage for stage in (MAINTAIN_MINING, MAINTAIN_LEARNING)}


def _check_names(named: Iterable[str]) -> None:
    known = sorted(table.name for table in (*_MINED, *_LEARNT) if table.partition in _BY_DAY)
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise SettingsError(
            f"maintenance.keep_days names {', '.join(unknown)}, which is no table of days",
            f"choose from {', '.join(known)}",
        )
