"""The session: its settings, Delta, and that it respects what spark-submit gave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyspark
import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from selflearn import jvm
from selflearn.errors import InfrastructureError
from selflearn.lakehouse.jars import find_jars
from selflearn.session import build_session, effective_configuration

ROOT = Path(__file__).parents[1]

REPORT = """
from selflearn.session import build_session
spark = build_session()
conf = spark.sparkContext.getConf()
print(conf.get("spark.master"), conf.get("spark.driver.memory"), spark.conf.get("spark.sql.session.timeZone"))
"""


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder`, in a process that knows nothing of this one's session."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
    return subprocess.run(
        command,
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def submit(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    script = folder / "job.py"
    script.write_text(REPORT)
    program = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    given = (
        "--master",
        "local[1]",
        "--driver-memory",
        "700m",
        "--conf",
        "spark.sql.session.timeZone=Asia/Tokyo",
    )
    return run(folder, str(program), *given, *options, str(script), PYSPARK_PYTHON=sys.executable)


def test_delta_tables_are_written_and_read(spark: SparkSession, lake: Path) -> None:
    path = str(lake / "numbers")
    spark.range(5).write.format("delta").save(path)
    DeltaTable.forPath(spark, path).delete("id = 3")
    numbers = spark.read.format("delta").load(path)
    assert sorted(row.id for row in numbers.collect()) == [0, 1, 2, 4]
    assert DeltaTable.forPath(spark, path).history().count() == 2


def test_workers_run_the_same_python(spark: SparkSession) -> None:
    @F.pandas_udf("string")
    def python(ids: pd.Series) -> pd.Series:
        return ids.map(lambda _: sys.executable)

    found = spark.range(4).select(python("id").alias("python")).distinct().collect()
    assert [row.python for row in found] == [sys.executable]


def test_extra_settings_win_and_lists_add_up(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.shuffle.partitions") == "2"
    options = spark.sparkContext.getConf().get("spark.driver.extraJavaOptions") or ""
    assert "-XX:TieredStopAtLevel=1" in options
    assert "log4j2.properties" in options


def test_a_second_session_is_the_first_with_extra_on_top(spark: SparkSession) -> None:
    name = "spark.sql.autoBroadcastJoinThreshold"
    before = spark.conf.get(name)
    try:
        assert build_session(extra={name: "7"}).sparkContext is spark.sparkContext
        assert spark.conf.get(name) == "7"
        assert spark.conf.get("spark.sql.shuffle.partitions") == "2"
    finally:
        spark.conf.set(name, before)


def test_effective_configuration_tells_what_figures_depend_on(spark: SparkSession) -> None:
    configuration = effective_configuration(spark)
    assert configuration["spark"] == "4.2.0"
    assert configuration["cores"] == "2"
    assert configuration["spark.driver.memory"] == "2g"
    assert configuration["spark.sql.session.timeZone"] == "UTC"
    assert not any(os.sep in value.removeprefix("UTC") for value in configuration.values())


@pytest.mark.spark
def test_a_session_is_quiet_and_leaves_nothing_behind(tmp_path: Path) -> None:
    old = tmp_path / "old" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho '    java.specification.version = 1.8' >&2\n")
    old.chmod(0o755)
    folder, temporary = tmp_path / "work", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    # Twice: a stopped session must not be the last of its process.
    script = f"{REPORT}\nspark.range(1).write.saveAsTable('numbers', format='delta')\nspark.stop()\n{REPORT}"
    path = f"{old.parent}:{os.environ['PATH']}"
    result = run(folder, sys.executable, "-c", script, PATH=path, TMPDIR=str(temporary))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == ["local[*] 4g UTC"] * 2
    assert list(folder.iterdir()) == []


@pytest.mark.spark
def test_what_spark_submit_gave_stands(tmp_path: Path) -> None:
    result = submit(tmp_path, "--jars", ",".join(map(str, find_jars())))
    assert result.returncode == 0, result.stderr
    # Days are cut in UTC whatever the cluster's habit.
    assert result.stdout.splitlines()[-1] == "local[1] 700m UTC"


@pytest.mark.spark
def test_spark_submit_without_the_jars_is_told_so(tmp_path: Path) -> None:
    result = submit(tmp_path)
    assert result.returncode != 0
    assert "InfrastructureError: Spark cannot load Delta" in result.stdout
    assert f"--jars {find_jars()[0]}" in result.stdout


@pytest.mark.spark
def test_a_jvm_that_does_not_start_tells_why() -> None:
    with pytest.raises(InfrastructureError, match="Invalid maximum heap size"):
        jvm._launch({"spark.driver.memory": "quux"})
