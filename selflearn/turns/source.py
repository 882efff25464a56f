"""The edge to the outside: which files a run reads, and the rows in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from selflearn.errors import DataError
from selflearn.settings import Source
from selflearn.turns.formats import read_rows
from selflearn.turns.mapping import SENTENCE, SOURCE_FILE, TURN
from selflearn.turns.read_errors import clear_read_errors

FILE_DAY = "__file_day"
_DAY = "{date}"


def read_source(spark: SparkSession, source: Source, days: Sequence[date]) -> DataFrame:
    """Raw rows that a run over `days` needs: canonical columns, and per row its raw form, file, file's day and defect.

    Where the path holds `{date}`, only files of the days and of their neighbours are read; a day without files has no
    rows.

    Raises:
        DataError: the path leads nowhere, or a file is not of the format or lacks required columns.
        SettingsError: the mapping is wrong.
    """
    with clear_read_errors():
        rows = read_rows(spark, source, _paths(spark, source, days), TURN)
    return rows.withColumn(FILE_DAY, _file_day(source.path))


def read_sentences(spark: SparkSession, source: Source) -> DataFrame:
    """Raw rows of a launch set.

    Raises:
        DataError: the path leads nowhere, or a file is not of the format or lacks required columns.
        SettingsError: the mapping is wrong.
    """
    path = source.path.replace(_DAY, "*")
    if not _exists(spark, path):
        raise _leads_nowhere(path)
    with clear_read_errors():
        return read_rows(spark, source, [path], SENTENCE)


def has_logs(spark: SparkSession, source: Source, day: date) -> bool:
    """Whether a file of that day is there; never where the path holds no `{date}`, for then nobody can tell."""
    return _DAY in source.path and _exists(spark, source.path.replace(_DAY, day.isoformat()))


def with_neighbours(days: Iterable[date]) -> list[date]:
    """The days, the day before each and the day after each."""
    return sorted({day + timedelta(days=step) for day in days for step in (-1, 0, 1)})


def _paths(spark: SparkSession, source: Source, days: Sequence[date]) -> list[str]:
    if _DAY not in source.path:
        if not _exists(spark, source.path):
            raise _leads_nowhere(source.path)
        return [source.path]
    dated = [source.path.replace(_DAY, day.isoformat()) for day in with_neighbours(days)]
    found = [path for path in dated if _exists(spark, path)]
    if not found and not _exists(spark, source.path.replace(_DAY, "*")):
        raise _leads_nowhere(source.path)
    return found


def _leads_nowhere(path: str) -> DataError:
    return DataError(
        f"no file matches the source path {path}",
        "mend `path` of the source in the settings, or put the log there",
    )


def _exists(spark: SparkSession, path: str) -> bool:
    """Whether a file or folder matches the glob, on whatever file system it names."""
    jvm: Any = spark._jvm
    place = jvm.org.apache.hadoop.fs.Path(path)
    system = place.getFileSystem(spark._jsc.hadoopConfiguration())
    matches = system.globStatus(place)
    return matches is not None and len(matches) > 0


def _file_day(path: str) -> Column:
    """The day that a row's file is named after, null where the path has no day."""
    if _DAY not in path:
        return F.lit(None).cast("date")
    segment = next(part for part in path.split("/") if _DAY in part)
    before, after = segment.split(_DAY)[:2]
    pattern = rf"/{_loosely(before)}(\d{{4}}-\d{{2}}-\d{{2}}){_loosely(after)}(?:/|$)"
    return F.regexp_extract(SOURCE_FILE, pattern, 1).try_cast("date")


def _loosely(part: str) -> str:
    """Pattern for a part of a file's name, whose blanks and globs stand otherwise in the file's address."""
    return re.sub(r"[^A-Za-z0-9_=.-]+", "[^/]*", part).replace(".", r"\.")
