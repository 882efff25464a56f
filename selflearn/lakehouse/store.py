"""Reading and partition-exact writing of the declared tables below one lake folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date

from delta import exceptions as delta
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from selflearn.errors import DataError, InfrastructureError
from selflearn.lakehouse.log import UPKEEP, newest_version, rows_written
from selflearn.lakehouse.schema import Table

# Tables are read by their partitions: smallest and largest values of ids in each file would serve nobody.
_COMMON_PROPERTIES = {"delta.dataSkippingNumIndexedCols": "0"}
# A table without days gets a small file with every commit: now and then they become one, or reading them would take
# longer every day.
_APPENDED_PROPERTIES = {"delta.autoOptimize.autoCompact": "true"}
# Delta says so inside another error where rows replace others, and through Py4J alone where they are appended.
_VIOLATION = re.compile(r"\[DELTA_(?:VIOLATE_CONSTRAINT_WITH_VALUES|NOT_NULL_CONSTRAINT_VIOLATED)\]\s*(.+(?:\n - .+)*)")
# Which of them depends on what lies in the folder.
_NO_TABLE_THERE = re.compile(r"\[DELTA_(?:CREATE_TABLE_WITH_NON_EMPTY_LOCATION|MISSING_DELTA_TABLE|TABLE_NOT_FOUND)\]")
_CONFLICTS = (
    delta.ConcurrentAppendException,
    delta.ConcurrentDeleteDeleteException,
    delta.ConcurrentDeleteReadException,
    delta.ConcurrentTransactionException,
    delta.ConcurrentWriteException,
    delta.DeltaConcurrentModificationException,
    delta.MetadataChangedException,
    delta.ProtocolChangedException,
)
"""What Delta raises where another commit went before; in Python none of them is a kind of another."""
_PUBLISHED_PROPERTIES = {"delta.enableDeletionVectors": "false", "delta.columnMapping.mode": "none"}


@dataclass(frozen=True)
class CommitLabel:
    """What every commit says about itself: the run that made it and the settings it ran with.

    What `is_upkeep` removes is not to be made again: it makes no day look changed.
    """

    run_id: str
    settings_fingerprint: str
    is_upkeep: bool = False


class Lakehouse:
    """The tables below `root`, seen through one Spark session."""

    def __init__(self, spark: SparkSession, root: str) -> None:
        self.spark = spark
        self.root = root.rstrip("/")

    def path(self, table: Table) -> str:
        return f"{self.root}/{table.name}"

    def exists(self, table: Table) -> bool:
        return bool(DeltaTable.isDeltaTable(self.spark, self.path(table)))

    def version(self, table: Table) -> int | None:
        """Newest version of the table, None where it does not exist yet."""
        return newest_version(self.spark, self.path(table)) if self.exists(table) else None

    def create(self, table: Table) -> None:
        """Create the table, constraints included, unless it is there already.

        Raises:
            DataError: a table of that name is there, with other columns.
            InfrastructureError: another run makes it meanwhile, or its folder holds something else.
        """
        if self.exists(table):
            self._check_columns(table)
            return
        builder = (
            DeltaTable.createIfNotExists(self.spark)
            .location(self.path(table))
            .addColumns(table.schema)
            .partitionedBy(*table.partition)
        )
        for name, value in _properties(table).items():
            builder = builder.property(name, value)
        with _clear_errors(table):
            builder.execute()

    def read(self, table: Table, **partitions: Iterable[object]) -> DataFrame:
        """Rows of the table, of the given partition values alone where some are given.

        Raises:
            DataError: the table does not exist; the message names the stage that should have run before.
        """
        if not self.exists(table):
            raise DataError(
                f"table {table.name} does not exist in {self.root}",
                "run the stages before this one (`selflearn run`)",
            )
        rows = self.spark.read.format("delta").load(self.path(table))
        for column, values in partitions.items():
            rows = rows.where(F.col(column).isin(*values)) if (values := list(values)) else rows.where(F.lit(False))
        return rows

    def replace(self, table: Table, rows: DataFrame, label: CommitLabel, **partitions: Iterable[object]) -> int:
        """Put `rows` in the place of exactly the given partitions; no rows clear them.

        Returns the number of rows written. All of it appears in one commit, or none of it.

        Raises:
            ValueError: no partition is given.
            DataError: the rows break a constraint of the table, or the table has other columns.
            InfrastructureError: another run wrote the same partitions meanwhile.
        """
        values = {column: [_literal(value) for value in listed] for column, listed in partitions.items()}
        if not values or not all(values.values()):
            raise ValueError(f"no partition of table {table.name} is given to replace")
        self.create(table)
        predicate = " AND ".join(f"{column} IN ({', '.join(listed)})" for column, listed in values.items())
        writer = (
            rows.select(*table.schema.fieldNames())
            .write.format("delta")
            .mode("overwrite")
            .option("replaceWhere", predicate)
            .option("userMetadata", _metadata(label))
        )
        before = newest_version(self.spark, self.path(table))
        with _clear_errors(table):
            writer.save(self.path(table))
        written = newest_version(self.spark, self.path(table))
        # No rows in the place of none are no commit.
        return rows_written(self.spark, self.path(table), written) if written > before else 0

    def append(self, table: Table, rows: DataFrame, label: CommitLabel) -> None:
        """Add rows; only for tables whose every row is new by construction (`runs`, `releases`)."""
        self.create(table)
        writer = rows.select(*table.schema.fieldNames()).write.format("delta").mode("append")
        with _clear_errors(table):
            writer.option("userMetadata", _metadata(label)).save(self.path(table))

    def absent(self, table: Table, rows: DataFrame) -> DataFrame:
        """The rows whose key the table does not hold yet."""
        if not self.exists(table):
            return rows
        return rows.join(self.read(table).select(*table.key), list(table.key), "left_anti")

    def insert(self, table: Table, rows: DataFrame, label: CommitLabel, seen: int | None = None) -> int:
        """Add rows whose keys are `absent`, for tables whose rows never change; returns the rows written.

        `seen` is the version of the table in which they were absent; left out, the newest is taken for it.

        Raises:
            DataError: the rows break a constraint of the table, or the table has other columns.
            InfrastructureError: another run inserted rows meanwhile.
        """
        self.create(table)
        path = self.path(table)
        newest = newest_version(self.spark, path)
        if seen is not None and newest != seen:
            raise _written_meanwhile(table)
        # Of two runs that saw the same version only one can commit: the other's rows may be there by then.
        version = newest + 1
        writer = (
            rows.select(*table.schema.fieldNames())
            .write.format("delta")
            .mode("append")
            .option("txnAppId", f"selflearn.{table.name}")
            .option("txnVersion", version)
            .option("userMetadata", _metadata(label))
        )
        with _clear_errors(table):
            writer.save(path)
        return rows_written(self.spark, path, newest_version(self.spark, path))

    def expire(self, table: Table, before: date, label: CommitLabel) -> None:
        """Remove the days before one from a table of days, as upkeep."""
        name = "spark.databricks.delta.commitInfo.userMetadata"
        self.spark.conf.set(name, _metadata(replace(label, is_upkeep=True)))
        try:
            DeltaTable.forPath(self.spark, self.path(table)).delete(F.col(table.partition[0]) < F.lit(before))
        finally:
            self.spark.conf.unset(name)

    def vacuum(self, table: Table, hours: int) -> None:
        """Delete the files that the table has not referred to for so long.

        At 0 hours nobody may be writing the table, and whoever reads an older version of it finds files gone.
        """
        check = "spark.databricks.delta.retentionDurationCheck.enabled"
        self.spark.conf.set(check, "false")
        try:
            DeltaTable.forPath(self.spark, self.path(table)).vacuum(hours)
        finally:
            self.spark.conf.unset(check)

    def _check_columns(self, table: Table) -> None:
        found = self.spark.read.format("delta").load(self.path(table)).columns
        needed = table.schema.fieldNames()
        if found != needed:
            raise DataError(
                f"table {table.name} in {self.root} has columns {found}, this version needs {needed}",
                "mine into a new lake folder, or move the old table away",
            )


def _properties(table: Table) -> dict[str, str]:
    checks = {f"delta.constraints.{name}": condition for name, condition in table.checks.items()}
    published = _PUBLISHED_PROPERTIES if table.published else {}
    appended = {} if table.partition else _APPENDED_PROPERTIES
    return _COMMON_PROPERTIES | published | appended | checks


def _metadata(label: CommitLabel) -> str:
    kind = {"kind": UPKEEP} if label.is_upkeep else {}
    return json.dumps({"run_id": label.run_id, "settings": label.settings_fingerprint, **kind})


def _literal(value: object) -> str:
    if isinstance(value, date):
        return f"DATE'{value.isoformat()}'"
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _written_meanwhile(table: Table) -> InfrastructureError:
    return InfrastructureError(
        f"another run wrote the same part of table {table.name} meanwhile; nothing of this run was written",
        "wait for the other run to end, then run this stage again",
    )


@contextmanager
def _clear_errors(table: Table) -> Iterator[None]:
    try:
        yield
    except _CONFLICTS as error:
        raise _written_meanwhile(table) from error
    except (PySparkException, Py4JJavaError) as error:
        if _NO_TABLE_THERE.search(str(error)):
            raise InfrastructureError(
                f"another run is making table {table.name} right now, or its folder holds files of no table; "
                "nothing of this run was written",
                "run this stage again; if it says so again, move the folder of that table out of the lake",
            ) from error
        violation = _VIOLATION.search(str(error))
        if violation is None:
            raise
        raise DataError(
            f"rows for table {table.name} break a declared constraint: {' '.join(violation[1].split())}",
            "this is a defect of the stage that wrote them; report it with this message",
        ) from error


def versions(lake: Lakehouse, tables: Iterable[Table]) -> Mapping[str, int]:
    """Newest version of each of the tables that exists."""
    found = {table.name: lake.version(table) for table in tables}
    return {name: version for name, version in found.items() if version is not None}
