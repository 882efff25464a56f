"""A Delta table's newest version and the rows its last commit wrote, read from its log.

`DESCRIBE HISTORY` says the same, but starts a Spark job for it, which takes longer than a small write.
"""

from __future__ import annotations

import json
from typing import Any

from pyspark.sql import SparkSession


def newest_version(spark: SparkSession, path: str) -> int:
    """Newest version of the table at `path`; -1 where there is no table."""
    jvm: Any = spark._jvm
    log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, path)
    nothing = jvm.scala.Option.empty()
    return int(log.update(False, nothing, nothing).version())


def rows_written(spark: SparkSession, path: str, version: int) -> int:
    """Rows that the commit of that version wrote."""
    jvm: Any = spark._jvm
    file = jvm.org.apache.hadoop.fs.Path(f"{path}/_delta_log/{version:020d}.json")
    stream = file.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf()).open(file)
    try:
        lines = jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8").splitlines()
    finally:
        stream.close()
    metrics = next(info for line in lines if (info := json.loads(line).get("commitInfo")))["operationMetrics"]
    return int(metrics.get("numOutputRows", 0))
