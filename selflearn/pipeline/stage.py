"""A stage as it runs: read tables, call the stage's pure function, check, write, leave a manifest."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from selflearn.errors import InfrastructureError, SelflearnError
from selflearn.lakehouse.manifest import Manifest, record
from selflearn.lakehouse.schema import Table
from selflearn.lakehouse.store import CommitLabel, Lakehouse, versions
from selflearn.settings import Settings

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock at the edge; stages themselves have none."""
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass
class StageContext:
    """What one run of a stage works with, and what it notes for its manifest."""

    lake: Lakehouse
    settings: Settings
    label: CommitLabel
    now: datetime
    row_counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    message: str | None = None

    @property
    def spark(self) -> SparkSession:
        return self.lake.spark

    def replace(self, table: Table, rows: DataFrame, **partitions: Iterable[object]) -> int:
        """Replace the given partitions; returns, and notes, the rows written."""
        return self._noted(table, lambda: self.lake.replace(table, rows, self.label, **partitions))

    def insert(self, table: Table, rows: DataFrame, seen: int) -> int:
        """Insert rows whose keys were absent in the version seen; returns, and notes, the rows written."""
        return self._noted(table, lambda: self.lake.insert(table, rows, self.label, seen))

    def _noted(self, table: Table, write: Callable[[], int]) -> int:
        started = time.perf_counter()
        written = write()
        logger.info("%s: %d rows in %.1f s", table.name, written, time.perf_counter() - started)
        self.row_counts[table.name] = self.row_counts.get(table.name, 0) + written
        return written


@dataclass(frozen=True)
class Stage:
    """A named step from tables to tables.

    `run` gets the context and the days asked for, and returns the days it covered.
    """

    name: str
    run: Callable[[StageContext, Sequence[date]], Sequence[date]]
    reads: tuple[Table, ...]
    writes: tuple[Table, ...]


def run_stage(
    stage: Stage, lake: Lakehouse, settings: Settings, days: Sequence[date], clock: Clock = utc_now
) -> Manifest:
    """Run a stage over some days and record its manifest, also where it fails.

    Raises:
        SelflearnError: what the stage raised, after the failed run has been recorded.
    """
    started = clock()
    label = CommitLabel(uuid.uuid4().hex, settings.fingerprint())
    context = StageContext(lake, settings, label, started)
    read = versions(lake, stage.reads)

    def manifest(state: str, covered: Sequence[date], message: str | None) -> Manifest:
        return Manifest(
            run_id=label.run_id,
            stage=stage.name,
            days=tuple(covered),
            state=state,
            started_at=started,
            finished_at=clock(),
            settings_fingerprint=label.settings_fingerprint,
            versions_read=read,
            versions_written=versions(lake, stage.writes),
            row_counts=context.row_counts,
            metrics=context.metrics,
            message=message,
        )

    try:
        covered = stage.run(context, days)
    except SelflearnError as error:
        _record_failure(lake, manifest("failed", days, error.what))
        raise
    except (PySparkException, Py4JJavaError) as error:
        explained = _explained(stage, error)
        _record_failure(lake, manifest("failed", days, explained.what))
        logger.debug("stage %s failed", stage.name, exc_info=True)
        raise explained from error
    done = manifest("succeeded", covered, context.message)
    record(lake, done)
    return done


def _explained(stage: Stage, error: Exception) -> InfrastructureError:
    text = str(error).strip()
    if "No space left on device" in text:
        return InfrastructureError(
            f"stage {stage.name} found no space left on a disk",
            "free some where the lake lies and where Spark keeps its shuffles (spark.local.dir), then run again; "
            "nothing half-written was left",
        )
    # Py4J's first line names a method of the JVM, its second the cause.
    told = next((line for line in text.splitlines() if not line.startswith("An error occurred while calling")), "")
    return InfrastructureError(
        f"stage {stage.name} failed in Spark: {told.removeprefix(': ')}",
        "run again with --debug for the whole trace; nothing half-written was left",
    )


def _record_failure(lake: Lakehouse, manifest: Manifest) -> None:
    try:
        record(lake, manifest)
    except Exception:
        # The failure itself is what the user must see; the lake may be what failed.
        logger.debug("the failed run could not be recorded", exc_info=True)
