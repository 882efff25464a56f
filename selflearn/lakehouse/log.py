"""A Delta table's newest version, and what its commits wrote, read from its log.

`DESCRIBE HISTORY` says the same, but starts a Spark job for it, which takes longer than a small write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

UPKEEP = "upkeep"
"""Stands in the metadata of commits that remove rows for their age, or because people asked to be forgotten."""

# Commits that lay rows out anew, or clear what nothing refers to, and change no row.
_UPKEEP = ("OPTIMIZE", "VACUUM")
_VALUE = re.compile(r"\d{4}-\d{2}-\d{2}")


def newest_version(spark: SparkSession, path: str) -> int:
    """Newest version of the table at `path`; -1 where there is no table."""
    jvm: Any = spark._jvm
    log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, path)
    nothing = jvm.scala.Option.empty()
    return int(log.update(False, nothing, nothing).version())


def rows_written(spark: SparkSession, path: str, version: int) -> int:
    """Rows that the commit of that version wrote."""
    return int(_commit(spark, path, version)["operationMetrics"].get("numOutputRows", 0))


def is_touched(spark: SparkSession, path: str, versions: range, values: Collection[str] | None = None) -> bool:
    """Whether one of the commits may have changed rows of the given partition values, any rows where none are given.

    A commit that replaced partitions names them; one that names none, or is no longer in the log, may have changed any.
    Upkeep changes none: what it removed is not to be made again.
    """
    return any(_touches(spark, path, version, values) for version in versions)


def is_replaced(spark: SparkSession, path: str, versions: range) -> bool:
    """Whether one of the commits may have done more than to add rows, or to lay them out anew."""
    return any(_touches(spark, path, version, None) and not _adds(spark, path, version) for version in versions)


def _touches(spark: SparkSession, path: str, version: int, values: Collection[str] | None) -> bool:
    try:
        commit = _commit(spark, path, version)
    except Py4JJavaError:
        return True
    if commit["operation"].startswith(_UPKEEP) or f'"kind": "{UPKEEP}"' in commit.get("userMetadata", ""):
        return False
    predicate = str(commit["operationParameters"].get("predicate", ""))
    if values is None or not _VALUE.search(predicate):
        return True
    return any(value in predicate for value in values)


def _adds(spark: SparkSession, path: str, version: int) -> bool:
    try:
        return bool(_commit(spark, path, version)["operationParameters"].get("mode") == "Append")
    except Py4JJavaError:
        return False


def _commit(spark: SparkSession, path: str, version: int) -> dict[str, Any]:
    jvm: Any = spark._jvm
    file = jvm.org.apache.hadoop.fs.Path(f"{path}/_delta_log/{version:020d}.json")
    stream = file.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf()).open(file)
    try:
        lines = jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8").splitlines()
    finally:
        stream.close()
    commit: dict[str, Any] = next(info for line in lines if (info := json.loads(line).get("commitInfo")))
    return commit
