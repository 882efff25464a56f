"""The one place that builds a SparkSession: local by default, or whatever spark-submit gave."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from selflearn.errors import InfrastructureError
from selflearn.jvm import start_jvm
from selflearn.lakehouse.jars import find_jars

DEFAULT_MASTER = "local[*]"

_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"

# Results would differ without these, so they hold whatever else a cluster or a caller sets.
_REQUIRED = {
    "spark.sql.extensions": _EXTENSION,
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    # Rows that are partitioned by an utterance stay so where they are joined by it and more.
    "spark.sql.requireAllClusterKeysForCoPartition": "false",
}

_DEFAULTS = {
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "10000",
    # Sketches and collected lists fall back from hashing to sorting at 128 groups a task; ten thousand groups
    # of a few kilobytes each are still small beside the heap.
    "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "10000",
    # A run compiles some hundreds of plans; of the default hundred the next run would find none again.
    "spark.sql.codegen.cache.maxEntries": "2000",
    # A column of ids fills any dictionary for nothing; columns that repeat themselves need little of one.
    "spark.hadoop.parquet.dictionary.page.size": "65536",
    "spark.sql.debug.maxToStringFields": "200",
    "spark.ui.showConsoleProgress": "false",
}

# A lake on one machine has logs of a few files: more tasks than that cost more to start than they save.
_SMALL_LAKE = {
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
}

# Sixteen times the JVM's own thresholds: a run plans and compiles hundreds of queries, each of which is used once or
# twice. Left alone the JVM spends a third of all processor time on optimising code that hardly runs again; what runs
# for every row reaches these numbers within seconds.
_SELDOM_OPTIMISED = (
    "-XX:Tier4InvocationThreshold=80000 -XX:Tier4MinInvocationThreshold=9600 "
    "-XX:Tier4CompileThreshold=240000 -XX:Tier4BackEdgeThreshold=640000"
)

# Values that add to what is there where all others replace it.
_JOINED = {"spark.driver.extraJavaOptions": " ", "spark.jars": ",", "spark.sql.extensions": ","}

_REPORTED = (
    "spark.master",
    "spark.driver.memory",
    "spark.executor.instances",
    "spark.executor.cores",
    "spark.executor.memory",
    "spark.sql.shuffle.partitions",
    "spark.sql.session.timeZone",
    *_DEFAULTS,
    *_SMALL_LAKE,
)


def build_session(
    app_name: str = "selflearn", *, master: str | None = None, extra: Mapping[str, str] | None = None
) -> SparkSession:
    """The session of this process, with Delta; where there is one already, that one with `extra` on top.

    Under spark-submit, or with a master in PYSPARK_SUBMIT_ARGS, what was given there stands: master, memory
    and every other setting; `master` is ignored, and the Delta jars must have come with `--jars`. Otherwise
    the session is made for one machine: SELFLEARN_DRIVER_MEMORY of heap (4g), no port open to other machines,
    nothing written outside the temporary folder.

    Args:
        app_name: what Spark's own pages call the run.
        master: a Spark master, `local[*]` by default.
        extra: further Spark settings; they win over ours, or add to them where a setting is a list.

    Raises:
        InfrastructureError: Java, the Delta jars or the master is missing, or Spark did not start.
    """
    extra = extra or {}
    if SparkContext._active_spark_context is not None:
        settings = _merge(_REQUIRED, extra)
    elif _is_submitted():
        start_jvm({})
        settings = _merge(_DEFAULTS | dict(SparkConf().getAll()), _REQUIRED, extra)
    else:
        settings = _merge(_DEFAULTS, _REQUIRED, _own_settings(master or DEFAULT_MASTER), extra)
        start_jvm(settings)
    spark = _start(app_name, settings)
    _check_delta(spark)
    return spark


def effective_configuration(spark: SparkSession) -> dict[str, str]:
    """What figures depend on: versions, cores and settings as they are in force; no paths, no host names."""
    context = spark.sparkContext
    in_force = {name: value for name in _REPORTED if (value := _setting(spark, name)) is not None}
    return {
        "python": platform.python_version(),
        "java": str(context._jvm.java.lang.System.getProperty("java.version")) if context._jvm else "",
        "spark": spark.version,
        "delta": version("delta-spark"),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": str(context.defaultParallelism),
        **in_force,
    }


def driver_memory() -> str:
    """Heap of a local session in Spark's notation."""
    return os.environ.get("SELFLEARN_DRIVER_MEMORY") or "4g"


def _is_submitted() -> bool:
    """Whether someone else chose the master."""
    return "PYSPARK_GATEWAY_PORT" in os.environ or "--master" in os.environ.get("PYSPARK_SUBMIT_ARGS", "")


def _own_settings(master: str) -> dict[str, str]:
    """Settings of a session that no spark-submit made."""
    log_settings = Path(__file__).with_name("log4j2.properties").as_uri()
    settings = {
        "spark.master": master,
        "spark.jars": ",".join(jar.as_uri() for jar in find_jars()),
        "spark.driver.memory": driver_memory(),
        # Delta verifies every commit a second time where the JVM is not on UTC. On few cores a collector that works
        # beside the tasks takes time from them; one that stops them takes less.
        "spark.driver.extraJavaOptions": (
            f"-Duser.timezone=UTC -XX:+UseParallelGC {_SELDOM_OPTIMISED} -Dlog4j2.configurationFile={log_settings}"
        ),
    }
    if not master.startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        return settings
    # Driver and workers must be one Python, and Spark would look up this machine's name without an address.
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    scratch = Path(tempfile.gettempdir())
    return settings | {
        **_SMALL_LAKE,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": str(2 * _cores(master)),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": str(scratch / f"selflearn-warehouse-{os.getuid()}"),
        "spark.local.dir": str(scratch),
    }


def _cores(master: str) -> int:
    """Cores that a local master names, all of this machine's for `*`."""
    cluster = re.match(r"local-cluster\[(\d+),\s*(\d+)", master)
    if cluster:
        return int(cluster[1]) * int(cluster[2])
    if master == "local":
        return 1
    named = re.match(r"local\[(\d+)", master)
    return int(named[1]) if named else os.cpu_count() or 1


def _merge(*layers: Mapping[str, str]) -> dict[str, str]:
    """Later layers win, but settings that are lists add up."""
    merged: dict[str, str] = {}
    for name, value in (setting for layer in layers for setting in layer.items()):
        separator = _JOINED.get(name)
        if separator and name in merged:
            value = separator.join(dict.fromkeys(f"{merged[name]}{separator}{value}".split(separator)))
        merged[name] = value
    return merged


def _start(app_name: str, settings: Mapping[str, str]) -> SparkSession:
    try:
        return SparkSession.builder.appName(app_name).config(map=dict(settings)).getOrCreate()
    except (PySparkException, Py4JError) as error:
        raise InfrastructureError(
            f"Spark did not start on {settings.get('spark.master', 'its master')}: {_first_line(error)}",
            "check the master and its memory; `selflearn doctor --spark` tries a session of its own",
        ) from error


def _check_delta(spark: SparkSession) -> None:
    """Fail now, with advice, where Spark would fail at the first table without any."""
    try:
        if _EXTENSION not in (spark.conf.get("spark.sql.extensions", None) or ""):
            raise InfrastructureError(
                "this process has a Spark session without Delta already",
                "stop it first (`spark.stop()`), or start it with selflearn.session.build_session",
            )
        spark.catalog.currentDatabase()
    except (PySparkException, Py4JError) as error:
        raise InfrastructureError(
            f"Spark cannot load Delta: {_first_line(error)}",
            f"give spark-submit the jars: --jars {','.join(map(str, find_jars()))}",
        ) from error


def _setting(spark: SparkSession, name: str) -> str | None:
    return spark.conf.get(name, None) or spark.sparkContext.getConf().get(name)


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "java_exception", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
