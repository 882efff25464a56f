"""Releases: what is chosen, when two are the same, and how they are read without Spark."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import date, datetime
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from selflearn.errors import DataError
from selflearn.lakehouse import tables
from selflearn.lakehouse.store import CommitLabel, Lakehouse
from selflearn.release import content_hash, export_jsonl, load_training_set, select_examples
from selflearn.settings import Release

ROOT = Path(__file__).parents[1]
LABEL = CommitLabel("run", "fingerprint")
LABELS = StructType([field for field in tables.WEAK_LABELS.schema if field.name != "as_of"])
LAUNCH_COLUMNS = (
    "utterance_id", "locale", "context", "text", "intent", "slots", "is_intent_only", "annotated_utterance",
)  # fmt: skip
LAUNCH = StructType([tables.WEAK_LABELS.schema[name] for name in LAUNCH_COLUMNS])
SETTINGS = Release(max_per_goal=6, confirmed_share=0.2)

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
            is_new=rng.random() < 0.25,
            p_correct=0.5 + number / 500,
            p_correct_lb=rng.choice([0.3, 0.5, 0.7]),
        )
        for number in range(200)
    ]


@pytest.fixture(scope="module")
def launch(labels: list[Row]) -> list[Row]:
    return [row | {"annotated_utterance": row["text"], "intent": "other"} for row in labels[:20]]


@pytest.fixture(scope="module")
def examples(spark: SparkSession, labels: list[Row], launch: list[Row]) -> list[Row]:
    chosen = select_examples(frame(spark, LABELS, labels), frame(spark, LAUNCH, launch), SETTINGS)
    assert ["release_id", *chosen.columns] == tables.TRAINING_SETS.schema.fieldNames()
    return [row.asDict(recursive=True) for row in chosen.collect()]


def selected(labels: list[Row], launch: list[Row], settings: Release) -> dict[str, str]:
    """The plain twin: utterance to origin."""
    known = {row["utterance_id"]: "launch" for row in launch}
    best_first = sorted(
        (row for row in labels if row["utterance_id"] not in known),
        key=lambda row: (not row["is_new"], -row["p_correct_lb"], row["utterance_id"]),
    )
    n_of_goal: Counter[tuple[str, str]] = Counter()
    of_locale = defaultdict(list)
    for row in best_first:
        n_of_goal[row["locale"], row["intent"]] += 1
        if n_of_goal[row["locale"], row["intent"]] <= settings.max_per_goal:
            of_locale[row["locale"]].append(row)
    for rows in of_locale.values():
        new = [row["utterance_id"] for row in rows if row["is_new"]]
        confirmed = [row["utterance_id"] for row in rows if not row["is_new"]]
        known |= dict.fromkeys(new, "corrected")
        known |= dict.fromkeys(confirmed[: ceil(len(new) * settings.confirmed_share)], "confirmed")
    return known


def test_selection_equals_the_plain_rule(examples: list[Row], labels: list[Row], launch: list[Row]) -> None:
    expected = selected(labels, launch, SETTINGS)
    assert set(expected.values()) == {"launch", "corrected", "confirmed"}
    assert {row["utterance_id"]: row["origin"] for row in examples} == expected
    assert len(examples) == len({row["example_id"] for row in examples}) == len(expected)


def test_launch_sentences_win_and_weigh_one(examples: list[Row], labels: list[Row], launch: list[Row]) -> None:
    by_utterance = {row["utterance_id"]: row for row in examples}
    for row in launch:
        found = by_utterance[row["utterance_id"]]
        assert (found["origin"], found["intent"], found["weight"]) == ("launch", "other", 1.0)
        assert found["annotated_utterance"] == row["text"]
    p_correct = {row["utterance_id"]: row["p_correct"] for row in labels}
    mined = [row for row in examples if row["origin"] != "launch"]
    assert {row["utterance_id"]: row["weight"] for row in mined} == pytest.approx(
        {row["utterance_id"]: p_correct[row["utterance_id"]] for row in mined}
    )


def test_caps_hold_and_what_is_new_comes_first(examples: list[Row]) -> None:
    mined = [row for row in examples if row["origin"] != "launch"]
    assert max(Counter((row["locale"], row["intent"]) for row in mined).values()) == SETTINGS.max_per_goal
    for locale in {row["locale"] for row in mined}:
        origins = Counter(row["origin"] for row in mined if row["locale"] == locale)
        assert 0 < origins["confirmed"] == ceil(origins["corrected"] * 0.2)


def test_split_belongs_to_the_words_alone(
    spark: SparkSession, examples: list[Row], labels: list[Row], launch: list[Row]
) -> None:
    split = {row["utterance_id"]: row["split"] for row in examples}
    twice = [row | {"intent": "another"} for row in launch]
    elsewhere = [
        row | {"utterance_id": f"{row['utterance_id']} elsewhere", "context": "ask?", "text": row["text"].upper()}
        for row in labels
    ]
    other = select_examples(
        frame(spark, LABELS, labels + elsewhere).repartition(5, "intent"),
        frame(spark, LAUNCH, launch + twice),
        Release(max_per_goal=1_000, confirmed_share=10),
    )
    splits: dict[str, set[str]] = defaultdict(set)
    n_examples: Counter[str] = Counter()
    for row in other.select("utterance_id", "split").collect():
        splits[row["utterance_id"].split()[0]].add(row["split"])
        n_examples[row["utterance_id"]] += 1
    assert len(splits) == len(labels)
    assert all(splits[utterance] == {of} for utterance, of in split.items())
    assert all(n_examples[row["utterance_id"]] == 2 for row in launch)
    shares = Counter(of for ofs in splits.values() for of in ofs)
    assert shares["train"] / len(labels) == pytest.approx(0.8, abs=0.08)
    assert min(shares["validation"], shares["test"]) / len(labels) == pytest.approx(0.1, abs=0.06)


def test_without_a_launch_set_or_labels_a_release_is_what_is_there(spark: SparkSession) -> None:
    labels = frame(spark, LABELS, [label("a"), label("b", is_new=False), label("c", is_new=False)])
    found = {row["utterance_id"]: row["origin"] for row in select_examples(labels, None, SETTINGS).collect()}
    assert found == {"a": "corrected", "b": "confirmed"}
    launch = frame(spark, LAUNCH, [label("z")])
    (row,) = select_examples(labels.limit(0), launch, SETTINGS).collect()
    assert (row["utterance_id"], row["origin"]) == ("z", "launch")


def test_content_hash_is_of_the_content_alone(spark: SparkSession, labels: list[Row]) -> None:
    rows = [row | {"weight": row["p_correct"], "reason": None if k % 3 else "people"} for k, row in enumerate(labels)]
    schema = StructType([*LAUNCH, tables.TRAINING_SETS.schema["weight"], tables.TRAINING_SETS.schema["reason"]])
    examples = frame(spark, schema, rows)
    known = content_hash(examples)
    assert len(known) == 10
    assert set(known) <= set("0123456789abcdef")
    shuffled = frame(spark, schema, Random(1).sample(rows, len(rows))).repartition(7)
    assert content_hash(shuffled.select(*reversed(shuffled.columns))) == known
    first = F.col("utterance_id") == rows[0]["utterance_id"]
    one_less = examples.where(~first)
    changed = {
        content_hash(one_less),
        content_hash(one_less.limit(0)),
        content_hash(examples.unionByName(examples.where(first))),
        content_hash(examples.withColumn("text", F.when(first, "another").otherwise(F.col("text")))),
        content_hash(examples.withColumn("slots", F.when(~first, F.col("slots")).otherwise(F.array()))),
        content_hash(examples.withColumn("weight", F.when(first, 0.123).otherwise(F.col("weight")))),
    }
    assert len(changed - {known}) == 6


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of three releases: two published, of which `newer` has the later day, and one withdrawn."""
    root = tmp_path_factory.mktemp("published")
    house = Lakehouse(spark, str(root))
    examples = select_examples(frame(spark, LABELS, [label("b"), label("a"), label("كلمة")]), None, SETTINGS)
    moment = datetime(2025, 1, 9)
    rows = [
        (name, date(2025, 1, day), state, moment, "fingerprint", 0, 3, 0)
        for name, day, state in (("newer", 7, "published"), ("older", 6, "published"), ("gone", 8, "withdrawn"))
    ]
    house.append(tables.RELEASES, spark.createDataFrame(rows, tables.RELEASES.schema).coalesce(1), LABEL)
    of_each = examples.withColumn("release_id", F.explode(F.array(F.lit("newer"), F.lit("older"))))
    cut = of_each.where("release_id = 'newer' OR utterance_id = 'a'").coalesce(1)
    house.replace(tables.TRAINING_SETS, cut, LABEL, release_id=["newer", "older"])
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
    assert load_training_set(str(published), "older")["utterance_id"].tolist() == ["a"]
    code = f"import selflearn; print(len(selflearn.load_training_set({str(published)!r})))"
    bare = {"PATH": "", "JAVA_HOME": str(published / "no java"), "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=False)
    assert (result.stdout, result.returncode) == ("3\n", 0), result.stderr


def test_what_is_not_there_is_told_with_what_is(published: Path, tmp_path: Path) -> None:
    for unknown in ("newest", "gone"):
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


def sentences(**changes: Any) -> pd.DataFrame:
    slots = [[{"name": "c", "value": "東京", "start": 0, "end": 2}], []]
    rows = {"text": ["東京の天気", 'say "hi"\n'], "slots": slots, "weight": [0.5, 1.0], "reason": ["people", None]}
    return pd.DataFrame(rows | changes)


def test_export_is_one_object_a_line(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "train.jsonl"
    for examples in (sentences(), sentences().iloc[::-1]):
        assert export_jsonl(examples, file) == 2
        text = file.read_text(encoding="utf-8")
        assert "東京の天気" in text
        assert text.endswith("\n")
        read = [json.loads(line) for line in text.splitlines()]
        assert read == examples.to_dict("records")
    assert [path.name for path in file.parent.iterdir()] == ["train.jsonl"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


def test_a_failed_export_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    export_jsonl(sentences(), file)
    before = file.read_bytes()
    with pytest.raises(TypeError):
        export_jsonl(sentences(weight=[0.5, object()]), file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
