"""The lake: what a declared table refuses, what a write touches, and who else can read it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import delta.exceptions.base
import deltalake
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType

from selflearn.errors import DataError, InfrastructureError
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import landing
from selflearn.lakehouse.manifest import Manifest, record, succeeded_runs
from selflearn.lakehouse.schema import DATE, TIMESTAMP, Table
from selflearn.lakehouse.store import CommitLabel, Lakehouse, _clear_errors, versions
from selflearn.lakehouse.tables import ALL_TABLES

LABEL = CommitLabel("run-1", "0123456789ab")
DAYS = [date(2025, 1, 1) + timedelta(days=k) for k in range(3)]
OUTCOMES = tables.TURN_OUTCOMES

Rows = list[tuple[Any, ...]]


def frame(spark: SparkSession, table: Table, rows: Rows) -> DataFrame:
    """Rows of the table's columns, whatever its constraints say of them."""
    loose = StructType([StructField(field.name, field.dataType) for field in table.schema])
    return spark.createDataFrame(rows, loose).coalesce(1)


def outcomes(spark: SparkSession, rows: Mapping[date | None, Mapping[str | None, float]]) -> DataFrame:
    listed = [(day, turn, "user", "u", p, *[0.0] * 8) for day, turns in rows.items() for turn, p in turns.items()]
    return frame(spark, OUTCOMES, listed)


def content(lake: Lakehouse, **partitions: list[date]) -> dict[tuple[date, str], float]:
    found = lake.read(OUTCOMES, **partitions).collect()
    kept = {(row["turn_date"], row["turn_id"]): row["p_friction"] for row in found}
    assert len(kept) == len(found)
    return kept


def commits(path: str) -> list[dict[str, Any]]:
    return sorted(deltalake.DeltaTable(path).history(), key=lambda commit: commit["version"])


@contextmanager
def nothing_written(lake: Lakehouse, table: Table = OUTCOMES) -> Iterator[None]:
    before = lake.version(table), lake.read(table).collect()
    yield
    assert (lake.version(table), lake.read(table).collect()) == before


@pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.name)
def test_declarations_hold_together(table: Table) -> None:
    fields = {field.name: field for field in table.schema}
    for column in (*table.key, *table.partition):
        assert not fields[column].nullable
    for column, field in fields.items():
        if column.startswith("p_"):
            is_sum = column.endswith("_sum")
            assert is_sum or f"{column}_is_probability" in table.checks
        if column.endswith("_at"):
            assert field.dataType == TIMESTAMP
        if column.endswith("_date"):
            assert field.dataType == DATE
    assert len({table.name for table in ALL_TABLES}) == len(ALL_TABLES)


def test_create_twice_is_create_once_and_versions_name_what_is_there(spark: SparkSession, lake: Path) -> None:
    house = Lakehouse(spark, f"{lake}/")
    assert house.version(OUTCOMES) is None
    with pytest.raises(DataError, match="table turn_outcomes does not exist"):
        house.read(OUTCOMES)
    for _ in range(2):
        house.create(OUTCOMES)
    assert house.exists(OUTCOMES)
    assert versions(house, (OUTCOMES, tables.TURNS)) == {"turn_outcomes": 0}
    assert house.read(OUTCOMES).schema.fieldNames() == OUTCOMES.schema.fieldNames()


def test_rows_that_break_a_constraint_are_refused_whole(spark: SparkSession, lake: Path) -> None:
    house = Lakehouse(spark, str(lake))
    day = DAYS[0]
    house.replace(OUTCOMES, outcomes(spark, {day: {"kept": 0.5}}), LABEL, turn_date=[day])
    broken: list[tuple[str, DataFrame]] = [
        ("p_friction_is_probability", outcomes(spark, {day: {"good": 0.5, "bad": 1.5}})),
        ("turn_id", outcomes(spark, {day: {None: 0.5}})),
        ("turn_date", outcomes(spark, {DAYS[1]: {"of another day": 0.5}})),
    ]
    with nothing_written(house):
        for named, rows in broken:
            with pytest.raises(DataError, match=named) as caught:
                house.replace(OUTCOMES, rows, LABEL, turn_date=[day])
            assert "turn_outcomes" in caught.value.what
        with pytest.raises(DataError, match="p_friction_is_probability"):
            house.append(OUTCOMES, outcomes(spark, {day: {"bad": float("nan")}}), LABEL)


def delta_errors() -> list[type[Exception]]:
    classes = [kind for kind in vars(delta.exceptions.base).values() if isinstance(kind, type)]
    return [kind for kind in classes if kind.__module__ == delta.exceptions.base.__name__]


@pytest.mark.parametrize("kind", delta_errors())
def test_whatever_conflict_delta_reports_is_told_as_one(kind: type[Exception]) -> None:
    with (
        pytest.raises(InfrastructureError, match="another run wrote the same part of table runs"),
        _clear_errors(tables.RUNS),
    ):
        raise kind("of two commits one came first")


def test_replace_touches_its_partitions_alone(spark: SparkSession, lake: Path) -> None:
    house = Lakehouse(spark, str(lake))
    first, second, third = DAYS
    rows = outcomes(spark, {first: {"a": 0.1}, second: {"b": 0.2, "c": 0.3}, third: {"d": 0.4}})
    assert house.replace(OUTCOMES, rows, LABEL, turn_date=DAYS) == 4

    again = outcomes(spark, {second: {"e": 0.5}})
    for _ in range(2):
        assert house.replace(OUTCOMES, again, LABEL, turn_date=[second]) == 1
        assert content(house) == {(first, "a"): 0.1, (second, "e"): 0.5, (third, "d"): 0.4}
    assert content(house, turn_date=[first, second]) == {(first, "a"): 0.1, (second, "e"): 0.5}
    assert content(house, turn_date=[]) == {}

    another = CommitLabel("run-2", "ba9876543210")
    days = (day for day in [second])
    assert house.replace(OUTCOMES, outcomes(spark, {}), another, turn_date=days) == 0
    assert content(house) == {(first, "a"): 0.1, (third, "d"): 0.4}

    said = [json.loads(commit["userMetadata"]) for commit in commits(house.path(OUTCOMES))[1:]]
    of_run_1 = {"run_id": "run-1", "settings": "0123456789ab"}
    assert said == [of_run_1, of_run_1, of_run_1, {"run_id": "run-2", "settings": "ba9876543210"}]


def test_partitions_of_two_columns_are_replaced_together(spark: SparkSession, lake: Path) -> None:
    house = Lakehouse(spark, str(lake))
    table, day = tables.DETECTORS, DAYS[0]

    def put(model: str, content: str) -> None:
        rows = frame(spark, table, [(day, model, content)])
        assert house.replace(table, rows, LABEL, turn_date=[day], model=[model]) == 1

    def found() -> dict[str, str]:
        return {row["model"]: row["content"] for row in house.read(table).collect()}

    put("pair", "one\u2028line, not\x85three")
    put("it's \\ friction", "two")
    put("it's \\ friction", "three")
    assert found() == {"pair": "one\u2028line, not\x85three", "it's \\ friction": "three"}


def test_a_table_of_another_shape_is_neither_used_nor_changed(spark: SparkSession, lake: Path) -> None:
    house = Lakehouse(spark, str(lake))
    other = Table("turn_outcomes", tables.DETECTORS.schema, ("turn_date",), ("turn_date",))
    house.create(other)
    rows = outcomes(spark, {DAYS[0]: {"a": 0.1}})
    with nothing_written(house, other):
        for use in (
            lambda: house.create(OUTCOMES),
            lambda: house.replace(OUTCOMES, rows, LABEL, turn_date=[DAYS[0]]),
            lambda: house.append(OUTCOMES, rows, LABEL),
        ):
            with pytest.raises(DataError, match=r"has columns .*content.*this version needs .*p_friction"):
                use()


@pytest.mark.parametrize("name", ["notes.txt", "_delta_log/.00000000000000000000.json.1.tmp"])
def test_a_folder_that_holds_no_table_is_said_and_left(spark: SparkSession, lake: Path, name: str) -> None:
    """As a run finds it whose table another one is just making."""
    stray = lake / OUTCOMES.name / name
    stray.parent.mkdir(parents=True)
    stray.write_text("mine", encoding="utf-8")
    told = "another run is making table turn_outcomes right now, or its folder holds files of no table"
    with pytest.raises(InfrastructureError, match=told):
        Lakehouse(spark, str(lake)).create(OUTCOMES)
    assert [path for path in lake.rglob("*") if path.is_file()] == [stray]


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process, for a while, on a machine that is not on UTC."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("tokyo")
def test_manifests_come_back_as_they_were_recorded(spark: SparkSession, lake: Path) -> None:
    house = Lakehouse(spark, str(lake))
    assert succeeded_runs(house) == []
    start = datetime(2025, 1, 1, 2, 3, 4, 567_890)
    later, earlier = (
        Manifest(
            run_id=name,
            stage="detect",
            days=tuple(DAYS[:2]),
            state="succeeded",
            started_at=start,
            finished_at=start + timedelta(seconds=seconds),
            settings_fingerprint="0123456789ab",
            versions_read={"turns": 3},
            versions_written={"turn_outcomes": 7, "rephrase_pairs": 0},
            row_counts={"turn_outcomes": 12},
            metrics={"good": 0.25, "nothing": 0.0},
        )
        for name, seconds in (("second", 90.5), ("first", 60.0))
    )
    failed = Manifest("third", "detect", (), "failed", start, start, "0123456789ab", message="no turns")
    for manifest in (later, earlier, failed):
        record(house, manifest)
    assert succeeded_runs(house) == [earlier, later]
    assert later.seconds == 90.5

    runs = deltalake.DeltaTable(house.path(tables.RUNS)).to_pandas().set_index("run_id")
    assert runs["message"].to_dict() == {"first": None, "second": None, "third": "no turns"}
    # Times are UTC, and other engines see the same moment.
    assert runs["started_at"]["first"].isoformat() == "2025-01-01T02:03:04.567890+00:00"


def test_many_manifests_lie_in_few_files(spark: SparkSession, lake: Path) -> None:
    house, start = Lakehouse(spark, str(lake)), datetime(2025, 1, 1)
    fewest = "spark.databricks.delta.autoCompact.minNumFiles"
    spark.conf.set(fewest, "3")
    try:
        for n in range(4):
            record(house, Manifest(str(n), "detect", (), "succeeded", start, start + timedelta(seconds=n), ""))
    finally:
        spark.conf.unset(fewest)
    assert len(deltalake.DeltaTable(house.path(tables.RUNS)).file_uris()) < 3
    assert [run.run_id for run in succeeded_runs(house)] == ["0", "1", "2", "3"]


def test_published_tables_need_nothing_that_only_spark_understands(spark: SparkSession, lake: Path) -> None:
    house = Lakehouse(spark, str(lake))
    assert {table.name for table in ALL_TABLES if table.published} >= {"weak_labels", "training_sets"}
    span = ("genre", "jazz", 5, 9)
    row = (
        "r1",
        "e1",
        "train",
        "launch",
        "en-US",
        "",
        "play jazz",
        "play",
        [span],
        False,
        "play [genre : jazz]",
    )
    examples = frame(spark, tables.TRAINING_SETS, [(*row, 1.0, [("stop", 0.2)], None, None)])
    for _ in range(2):
        house.replace(tables.TRAINING_SETS, examples, LABEL, release_id=["r1"])
    house.create(tables.WEAK_LABELS)
    for table in (tables.TRAINING_SETS, tables.WEAK_LABELS):
        read = deltalake.DeltaTable(house.path(table))
        assert read.protocol().min_reader_version == 1
        assert not read.protocol().reader_features
        assert read.schema().to_arrow().names == table.schema.fieldNames()
    (found,) = deltalake.DeltaTable(house.path(tables.TRAINING_SETS)).to_pyarrow_table().to_pylist()
    assert found["text"] == "play jazz"
    assert found["slots"] == [{"name": "genre", "value": "jazz", "start": 5, "end": 9}]
    assert found["other_intents"] == [{"intent": "stop", "weight": 0.2}]


def test_landed_rows_are_read_back_and_gone_when_the_run_ends(spark: SparkSession, lake: Path) -> None:
    house = Lakehouse(spark, str(lake))
    left_over = lake / "_landing" / "killed long ago"
    left_over.mkdir(parents=True)
    os.utime(left_over, (0, 0))

    def run() -> None:
        with landing(house, "run") as land:
            first, second = land(spark.range(3)), land(spark.range(2).selectExpr("id * 2 AS twice"))
            assert sorted(row["id"] for row in first.collect()) == [0, 1, 2]
            assert sorted(row["twice"] for row in second.collect()) == [0, 2]
            assert not left_over.exists()
            raise RuntimeError("the stage failed")

    with pytest.raises(RuntimeError, match="the stage failed"):
        run()
    assert list((lake / "_landing").iterdir()) == []


@pytest.mark.parametrize("partitions", [{}, {"turn_date": []}])
def test_a_replacement_names_its_partitions(spark: SparkSession, lake: Path, partitions: dict[str, list[date]]) -> None:
    with pytest.raises(ValueError, match="no partition of table turn_outcomes"):
        Lakehouse(spark, str(lake)).replace(OUTCOMES, outcomes(spark, {}), LABEL, **partitions)
