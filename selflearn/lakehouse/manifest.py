"""Run manifests: what each run of a stage read and wrote, with which settings, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta

from pyspark.sql import functions as F

from selflearn.lakehouse import tables
from selflearn.lakehouse.store import CommitLabel, Lakehouse

_TIMES = ("started_at", "finished_at")


@dataclass(frozen=True)
class Manifest:
    """One run of one stage; a row of `tables.RUNS`. Times are UTC, without a zone."""

    run_id: str
    stage: str
    days: tuple[date, ...]
    state: str
    started_at: datetime
    finished_at: datetime
    settings_fingerprint: str
    versions_read: Mapping[str, int] = field(default_factory=dict)
    versions_written: Mapping[str, int] = field(default_factory=dict)
    row_counts: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str | None = None

    @property
    def seconds(self) -> float:
        return (self.finished_at - self.started_at).total_seconds()


def record(lake: Lakehouse, manifest: Manifest) -> None:
    """Append the manifest to the `runs` table."""
    # A time without a zone would be taken as Python's local time.
    times = {name: getattr(manifest, name).replace(tzinfo=UTC) for name in _TIMES}
    row = asdict(manifest) | times | {"days": list(manifest.days)}
    ordered = [row[name] for name in tables.RUNS.schema.fieldNames()]
    rows = lake.spark.createDataFrame([tuple(ordered)], tables.RUNS.schema)
    lake.append(tables.RUNS, rows.coalesce(1), CommitLabel(manifest.run_id, manifest.settings_fingerprint))


def succeeded_runs(lake: Lakehouse) -> list[Manifest]:
    """Every succeeded run, oldest first."""
    if not lake.exists(tables.RUNS):
        return []
    rows = lake.read(tables.RUNS).where(F.col("state") == "succeeded")
    in_micros = rows.withColumns({name: F.unix_micros(name) for name in _TIMES}).collect()
    return [
        Manifest(**row.asDict() | {"days": tuple(row["days"])} | {name: _utc(row[name]) for name in _TIMES})
        for row in sorted(in_micros, key=lambda row: row["finished_at"])
    ]


def _utc(micros: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(microseconds=micros)
