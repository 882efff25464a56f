"""Releases: what is chosen, and how they are read, compared and exported without Spark."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, date, datetime
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import BooleanType, DateType, StructField, StructType
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
    select_labels,
    veto,
    with_first_said,
    without_vetoed,
)
from selflearn.release.export import export_jsonl
from selflearn.release.selection import CHOSEN, hard_negatives
from selflearn.settings import Release

ROOT = Path(__file__).parents[1]
LABELS = StructType(
    [
        *(field for field in tables.WEAK_LABELS.schema if field.name != "as_of"),
        StructField("first_day", DateType()),
        StructField("is_held_out", BooleanType()),
    ]
)
VARIANTS = tables.GOAL_VARIANTS.schema
SETTINGS = Release(max_per_goal=6, confirmed_share=0.2)
DAY = date(2025, 1, 5)

Row = dict[str, Any]


def label(utterance: str, **fields: Any) -> Row:
    return {
        "locale": "en-US",
        "utterance_id": utterance,
        "context": "",
        "text": f"text of {utterance}",
        "goal": "{}",
        "intent": "play",
        "slots": [("what", utterance, 8, 8 + len(utterance))],
        "is_intent_only": False,
        "annotated_utterance": f"text of [what : {utterance}]",
        "p_correct": 0.9,
        "p_correct_lb": 0.7,
        "p_intent": 0.95,
        "p_slots": 0.95,
        "nlu_goal": None,
        "is_new": True,
        "n_turns": 1.0,
        "n_pairs": 0.0,
        "n_users": 2,
        "n_users_behind": 2,
        "n_days": 1,
        "n_edges": 0,
        "friction": 0.5,
        "votes": [],
        "reason": "people",
        "first_day": DAY,
        "is_held_out": False,
    } | fields


def frame(spark: SparkSession, schema: StructType, rows: list[Row]) -> DataFrame:
    return spark.createDataFrame([tuple(row[name] for name in schema.fieldNames()) for row in rows], schema)


@pytest.fixture(scope="module")
def labels() -> list[Row]:
    rng = Random(4)
    return [
        label(
            f"u{number:03}",
            locale=rng.choice(["en-US", "ja-JP", "ar-EG"]),
            intent=rng.choice(["play", "play", "stop", "weather"]),
            goal=rng.choice("ab"),
            is_new=rng.random() < 0.25,
            p_correct=0.5 + number / 500,
            p_correct_lb=rng.choice([0.3, 0.5, 0.7]),
        )
        for number in range(200)
    ]


@pytest.fixture(scope="module")
def launch(labels: list[Row]) -> list[Row]:
    return labels[:20]


@pytest.fixture(scope="module")
def variants(labels: list[Row]) -> set[tuple[str, str]]:
    rng = Random(5)
    names = [row["utterance_id"] for row in labels]
    drawn = [sorted(rng.sample(names, 2)) for _ in range(40)]
    return {(left, right) for left, right in drawn}


def variants_frame(spark: SparkSession, pairs: set[tuple[str, str]]) -> DataFrame:
    rows = [(DAY, "en-US", "en-US", left, right, "semantic", 0.8, 0.3) for left, right in sorted(pairs)]
    return spark.createDataFrame(rows, VARIANTS)


@pytest.fixture(scope="module")
def chosen(spark: SparkSession, labels: list[Row], launch: list[Row], variants: set[tuple[str, str]]) -> list[Row]:
    found = select_labels(
        frame(spark, LABELS, labels), frame(spark, LABELS, launch), variants_frame(spark, variants), SETTINGS
    )
    assert tuple(found.columns) == CHOSEN
    return [row.asDict(recursive=True) for row in found.collect()]


def opposed(labels: list[Row], variants: set[tuple[str, str]]) -> set[str]:
    by_id = {row["utterance_id"]: row for row in labels}
    found = set()
    for ends in variants:
        for left, right in (ends, ends[::-1]):
            if {left, right} <= by_id.keys() and by_id[left]["is_new"] and not by_id[right]["is_new"]:
                found |= {right} if by_id[left]["goal"] != by_id[right]["goal"] else set()
    return found


def selected(labels: list[Row], launch: list[Row], variants: set[tuple[str, str]], settings: Release) -> dict[str, str]:
    """The plain twin: utterance to origin."""
    known = {row["utterance_id"] for row in launch}
    mined = [row for row in labels if row["utterance_id"] not in known]
    hard = opposed(mined, variants)
    origins = {
        row["utterance_id"]: "corrected"
        if row["is_new"]
        else "hard_negative"
        if row["utterance_id"] in hard
        else "confirmed"
        for row in mined
    }
    rank = ("corrected", "hard_negative", "confirmed").index
    best_first = sorted(
        mined, key=lambda row: (rank(origins[row["utterance_id"]]), -row["p_correct_lb"], row["utterance_id"])
    )
    n_of_goal: Counter[tuple[str, str]] = Counter()
    of_locale = defaultdict(list)
    for row in best_first:
        n_of_goal[row["locale"], row["intent"]] += 1
        if n_of_goal[row["locale"], row["intent"]] <= settings.max_per_goal:
            of_locale[row["locale"]].append(row["utterance_id"])
    found = {}
    for names in of_locale.values():
        new = [name for name in names if origins[name] == "corrected"]
        others = [name for name in names if origins[name] != "corrected"]
        found |= {name: origins[name] for name in [*new, *others[: ceil(len(new) * settings.confirmed_share)]]}
    return found


def test_selection_equals_the_plain_rule(
    chosen: list[Row], labels: list[Row], launch: list[Row], variants: set[tuple[str, str]]
) -> None:
    expected = selected(labels, launch, variants, SETTINGS)
    assert set(expected.values()) == {"corrected", "hard_negative", "confirmed"}
    assert {row["utterance_id"]: row["origin"] for row in chosen} == expected
    p_correct = {row["utterance_id"]: row["p_correct"] for row in labels}
    assert {row["utterance_id"]: row["weight"] for row in chosen} == pytest.approx(
        {name: p_correct[name] for name in expected}
    )


def test_caps_hold_and_what_is_new_comes_first(chosen: list[Row]) -> None:
    assert max(Counter((row["locale"], row["intent"]) for row in chosen).values()) == SETTINGS.max_per_goal
    for locale in {row["locale"] for row in chosen}:
        origins = Counter(row["origin"] for row in chosen if row["locale"] == locale)
        assert 0 < origins["confirmed"] + origins["hard_negative"] <= ceil(origins["corrected"] * 0.2)


def test_a_hard_negative_is_near_a_correction_and_means_something_else(spark: SparkSession) -> None:
    rows = [
        label("new", goal="on"),
        label("off", goal="off", is_new=False),
        label("same", goal="on", is_new=False),
        label("far", goal="off", is_new=False),
        label("other new", goal="off"),
    ]
    pairs = {("new", "off"), ("new", "same"), ("new", "other new"), ("far", "off"), ("not a label", "new")}
    found = hard_negatives(frame(spark, LABELS, rows), variants_frame(spark, pairs))
    assert [row["utterance_id"] for row in found.collect()] == ["off"]


def test_without_a_launch_set_or_variants_labels_are_chosen_all_the_same(spark: SparkSession) -> None:
    labels = frame(spark, LABELS, [label("a"), label("b", is_new=False), label("c", is_new=False)])
    found = {row["utterance_id"]: row["origin"] for row in select_labels(labels, None, None, SETTINGS).collect()}
    assert found == {"a": "corrected", "b": "confirmed"}


def test_what_only_held_out_people_said_is_held_out(spark: SparkSession) -> None:
    rows = [
        (day, kind, utterance, users)
        for utterance, day, kind, users in (
            ("quiet", date(2025, 1, 7), "utterance", [-10, 5]),
            ("quiet", date(2025, 1, 6), "utterance", [20]),
            ("quiet", date(2025, 1, 1), "pair", [1]),
            ("common", date(2025, 1, 6), "utterance", [5]),
            ("common", date(2025, 1, 7), "utterance", [5, 11]),
        )
    ]
    evidence = spark.createDataFrame(rows, "turn_date date, kind string, source_utterance string, users array<long>")
    labels = spark.createDataFrame([("quiet",), ("common",), ("unheard",)], "utterance_id string")
    found = {
        row["utterance_id"]: (row["is_held_out"], row["first_day"])
        for row in with_first_said(labels, evidence).collect()
    }
    assert found == {
        "quiet": (True, date(2025, 1, 6)),
        "common": (False, date(2025, 1, 6)),
        "unheard": (False, None),
    }


def test_vetoes_take_out_what_all_their_parts_fit(spark: SparkSession) -> None:
    said = [
        ("en-US", "Play  JAZZ", "play"),
        ("de-DE", "play jazz", "play"),
        ("en-US", "play jazz", "stop"),
        ("en-US", "stop", "stop"),
    ]
    rows = spark.createDataFrame(said, "locale string, text string, intent string")

    def left(*given: tuple[str, str, str]) -> list[tuple[str, ...]]:
        vetoes = [veto(*parts, "why") for parts in given]
        found = [(v.veto_id, datetime(2025, 1, 1), v.locale, v.normalised_text, v.intent, v.reason) for v in vetoes]
        return sorted(
            tuple(row) for row in without_vetoed(rows, spark.createDataFrame(found, tables.VETOES.schema)).collect()
        )

    assert left() == sorted(said)
    assert left(("", "play jazz", "")) == [said[3]]
    assert left(("en-US", "PLAY jazz", "play")) == sorted([said[1], said[2], said[3]])
    assert left(("", "", "stop"), ("de-DE", "", "play")) == [said[0]]


def test_a_veto_of_nothing_is_refused_and_one_of_the_same_is_the_same() -> None:
    with pytest.raises(SettingsError, match="the veto names nothing"):
        veto("en-US", "  ", "", "why")
    assert veto("", "Play jazz", "", "why").veto_id == veto("", " play  JAZZ", "", "because").veto_id
    assert veto("", "play", "", "").veto_id != veto("", "", "play", "").veto_id


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
    with pytest.raises(DataError, match="lacks card, issues, n_hard_negatives, reason: an earlier version wrote it"):
        read_releases(tmp_path)


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
