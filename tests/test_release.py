"""Releases: how they are read, compared and exported without Spark."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from typer.testing import CliRunner

from release_rows import example
from selflearn.cli import app
from selflearn.errors import DataError, SettingsError
from selflearn.lakehouse import tables
from selflearn.lakehouse.store import Lakehouse
from selflearn.release import (
    FORMATS,
    compare_releases,
    export_release,
    find_release,
    load_training_set,
    read_releases,
)
from selflearn.release.export import export_jsonl

ROOT = Path(__file__).parents[1]
DAY = date(2025, 1, 5)

Row = dict[str, Any]


def release_row(name: str, day: int, state: str) -> Row:
    return {
        "release_id": name,
        "as_of": date(2025, 1, day),
        "state": state,
        "created_at": datetime(2025, 1, 9, tzinfo=UTC),
        "settings_fingerprint": "fingerprint",
        "n_launch": 0,
        "n_corrected": 3,
        "n_hard_negatives": 0,
        "n_confirmed": 0,
        "n_unsure": 0,
        "champion_id": None,
        "reason": f"{name} is {state}",
        "figures": [("head traffic.champion", 0.5)],
        "issues": '{"counts": {}, "listed": []}',
        "card": f"# Card of {name}",
    }


def write_lake(root: Path, releases: list[Row], sets: dict[str, list[Row]]) -> None:
    """The tables of releases as Spark writes them, without Spark."""
    examples = [row | {"release_id": release} for release, rows in sets.items() for row in rows]
    for table, rows in ((tables.RELEASES, releases), (tables.TRAINING_SETS, examples)):
        written = pa.Table.from_pylist(rows, to_arrow_schema(table.schema, timezone="UTC"))
        write_deltalake(str(root / table.name), written, partition_by=list(table.partition))


def spanned(text: str, **fields: Any) -> Row:
    return example(f"text of {text}", "play", ("what", 8, 8 + len(text)), example_id=text, utterance_id=text, **fields)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of releases: two published, of which `newer` has the later day, one withdrawn, one rejected."""
    root = tmp_path_factory.mktemp("published")
    states = (("newer", 7, "published"), ("older", 6, "published"), ("gone", 8, "withdrawn"), ("bad", 9, "rejected"))
    sets = {
        "newer": [spanned("b"), spanned("a", weight=0.5), spanned("كلمة")],
        "older": [spanned("a"), spanned("z")],
        "gone": [spanned("a")],
    }
    write_lake(root, [release_row(*state) for state in states], sets)
    return root


def test_a_training_set_is_read_without_spark(published: Path) -> None:
    newest = load_training_set(published)
    assert set(newest["utterance_id"]) == {"a", "b", "كلمة"}
    assert newest["example_id"].is_monotonic_increasing
    assert list(newest.columns) == [n for n in tables.TRAINING_SETS.schema.fieldNames() if n != "release_id"]
    row = newest.set_index("utterance_id").loc["كلمة"]
    assert isinstance(row["slots"], list)
    (slot,) = row["slots"]
    assert row["text"][slot["start"] : slot["end"]] == slot["value"] == "كلمة"
    assert load_training_set(str(published), "older")["utterance_id"].tolist() == ["a", "z"]
    code = f"import selflearn; print(len(selflearn.load_training_set({str(published)!r})))"
    bare = {"PATH": "", "JAVA_HOME": str(published / "no java"), "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=False)
    assert (result.stdout, result.returncode) == ("3\n", 0), result.stderr


def test_what_is_not_there_is_told_with_what_is(published: Path, tmp_path: Path) -> None:
    for unknown in ("newest", "gone", "bad"):
        with pytest.raises(DataError, match=f"no published release '{unknown}'") as caught:
            load_training_set(published, unknown)
        assert "newer" in caught.value.next_step
        assert "older" in caught.value.next_step
        assert "gone" not in caught.value.next_step
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="no lake with releases"):
            load_training_set(folder)


def test_an_empty_table_of_releases_holds_no_release(spark: SparkSession, lake: Path) -> None:
    Lakehouse(spark, str(lake)).create(tables.RELEASES)
    with pytest.raises(DataError, match="no published release"):
        load_training_set(lake)


def test_releases_of_any_state_are_listed_and_the_one_in_use_is_found(published: Path) -> None:
    assert read_releases(published)["release_id"].tolist() == ["older", "newer", "gone", "bad"]
    assert find_release(published)["release_id"] == "newer"
    assert find_release(published, "bad")["reason"] == "bad is rejected"
    with pytest.raises(DataError, match="holds no release 'never'") as caught:
        find_release(published, "never")
    assert "bad" in caught.value.next_step


def test_a_lake_of_an_earlier_version_is_told_as_such(tmp_path: Path) -> None:
    old = pa.table({"release_id": ["a"], "as_of": [DAY], "created_at": [DAY], "state": ["published"]})
    write_deltalake(str(tmp_path / "releases"), old)
    with pytest.raises(
        DataError, match="lacks card, issues, n_hard_negatives, n_unsure, reason: an earlier version wrote it"
    ):
        read_releases(tmp_path)


def test_training_sets_of_an_earlier_version_are_told_as_such(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published / "releases", tmp_path / "releases")
    rows = DeltaTable(str(published / "training_sets")).to_pyarrow_table()
    write_deltalake(str(tmp_path / "training_sets"), rows.drop_columns(["other_intents"]))
    with pytest.raises(DataError, match=r"table training_sets of .* lacks other_intents: an earlier version wrote it"):
        load_training_set(tmp_path)


def test_what_differs_between_two_releases_is_told(published: Path) -> None:
    found = compare_releases(published, "older", "newer")
    assert [row["utterance_id"] for row in found.added] == ["b", "كلمة"]
    assert [row["utterance_id"] for row in found.removed] == ["z"]
    assert [(before["weight"], after["weight"]) for before, after in found.moved] == [(1.0, 0.5)]
    same = compare_releases(published, "newer", "newer")
    assert (same.added, same.removed, same.moved) == ([], [], [])
    with pytest.raises(DataError, match="'bad' was rejected, and its examples were not kept"):
        compare_releases(published, "newer", "bad")


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_release_is_exported_whole_in_each_format(published: Path, tmp_path: Path, format_name: str) -> None:
    out = tmp_path / "new" / "set"
    exported = export_release(published, out, format_name)
    assert (exported.n_written, exported.refused) == (3, [])
    assert [path.name for path in out.parent.iterdir()] == ["set"]
    with pytest.raises(DataError, match="no published release 'gone'"):
        export_release(published, tmp_path / "other", format_name, "gone")
    assert not (tmp_path / "other").exists()
    if format_name != "jsonl":
        with pytest.raises(SettingsError, match="is there already"):
            export_release(published, out, format_name)


def test_an_unknown_format_is_told_with_those_there_are(published: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no format 'xml'") as caught:
        export_release(published, tmp_path / "out", "xml")
    assert "massive" in caught.value.next_step


def test_export_is_one_object_a_line(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "train.jsonl"
    rows = [example("東京の天気", "weather", ("c", 0, 2)), example('say "hi"\n', reason="people")]
    for examples in (rows, rows[::-1]):
        export_jsonl(examples, file)
        text = file.read_text(encoding="utf-8")
        assert "東京の天気" in text
        assert text.endswith("\n")
        assert [json.loads(line) for line in text.splitlines()] == examples
    assert [path.name for path in file.parent.iterdir()] == ["train.jsonl"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


def test_a_failed_export_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    export_jsonl([example("a")], file)
    before = file.read_bytes()
    with pytest.raises(TypeError):
        export_jsonl([example("b", weight=object())], file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]
    with pytest.raises(SettingsError, match="is a folder"):
        export_jsonl([example("a")], tmp_path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["list"], ["older", "in use", "bad is rejected"], id="list"),
        pytest.param(["show"], ["Card of newer", "newer is published"], id="show the one in use"),
        pytest.param(["show", "bad"], ["Card of bad", "rejected: bad is rejected"], id="show another"),
        pytest.param(["diff", "older", "newer"], ["Added: 2 launch; removed: 1 launch", "text of z"], id="diff"),
        pytest.param(["vetoes"], ["Never released"], id="vetoes"),
    ],
)
def test_the_commands_tell_what_the_tables_hold(published: Path, arguments: list[str], told: list[str]) -> None:
    result = CliRunner().invoke(app, ["release", *arguments, "--lake", str(published)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for part in told:
        assert part in result.output


def test_an_export_tells_what_the_format_cannot_carry(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    texts = ("play [it](now)", "play [x : y]", "play")
    write_lake(lake, [release_row("one", 7, "published")], {"one": [example(text) for text in texts]})
    for format_name, hidden in (("rasa", "play [it](now)"), ("massive", "play [x : y]")):
        out = tmp_path / format_name
        arguments = ["release", "export", "--lake", str(lake), "--out", str(out), "--format", format_name]
        result = CliRunner().invoke(app, arguments)
        assert "2 examples:" in result.output
        assert f"1 examples are left out, for {format_name} cannot carry them" in result.output
        assert repr(hidden) in result.output
