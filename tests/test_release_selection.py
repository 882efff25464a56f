"""What a release is made of: labels chosen, capped and balanced, held-out people, vetoes."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date, datetime
from math import ceil
from random import Random
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import ArrayType, BooleanType, DateType, StructField, StructType

from selflearn.errors import SettingsError
from selflearn.lakehouse import tables
from selflearn.lakehouse.schema import WEIGHED_INTENT
from selflearn.release import (
    select_labels,
    veto,
    with_first_said,
    without_vetoed,
)
from selflearn.release.selection import CHOSEN, hard_negatives
from selflearn.settings import Release

LABELS = StructType(
    [
        *(field for field in tables.WEAK_LABELS.schema if field.name != "as_of"),
        StructField("is_label", BooleanType()),
        StructField("first_day", DateType()),
        StructField("is_held_out", BooleanType()),
        StructField("other_intents", ArrayType(WEIGHED_INTENT)),
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
        "is_label": True,
        "first_day": DAY,
        "is_held_out": False,
        "other_intents": None,
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
            p_correct=0.5 + number / 500,
            **rng.choice(
                [
                    {"is_new": True},
                    *[{"is_new": False}] * 3,
                    *(
                        {"is_new": False, "is_label": False, "is_held_out": one, "other_intents": [("wait", 0.2)]}
                        for one in (True, False, False)
                    ),
                ]
            ),
            p_correct_lb=rng.choice([0.3, 0.5, 0.7]),
            n_users=rng.choice([1, 2, 2, 5]),
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
    drawn = [sorted(rng.sample(names, 2)) for _ in range(150)]
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
    hard = opposed([row for row in mined if row["is_label"]], variants)
    origins = {
        row["utterance_id"]: "unsure"
        if not row["is_label"]
        else "corrected"
        if row["is_new"]
        else "hard_negative"
        if row["utterance_id"] in hard
        else "confirmed"
        for row in mined
    }
    rank = {"corrected": 0, "hard_negative": 1, "confirmed": 2, "unsure": 2}.__getitem__
    best_first = sorted(
        mined,
        key=lambda row: (
            rank(origins[row["utterance_id"]]),
            -row["p_correct_lb"] if row["is_new"] else 0,
            -row["n_users"],
            row["utterance_id"],
        ),
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
        unsure = [name for name in names if origins[name] == "unsure"]
        others = [name for name in names if name not in {*new, *unsure}][: ceil(len(new) * settings.confirmed_share)]
        found |= {name: origins[name] for name in [*new, *unsure, *others]}
    return found


def test_selection_equals_the_plain_rule(
    chosen: list[Row], labels: list[Row], launch: list[Row], variants: set[tuple[str, str]]
) -> None:
    expected = selected(labels, launch, variants, SETTINGS)
    assert set(expected.values()) == {"corrected", "hard_negative", "confirmed", "unsure"}
    assert {row["utterance_id"]: row["origin"] for row in chosen} == expected
    p_correct = {row["utterance_id"]: row["p_correct"] for row in labels}
    assert {row["utterance_id"]: row["weight"] for row in chosen} == pytest.approx(
        {name: p_correct[name] for name in expected}
    )
    assert {row["utterance_id"]: row["other_intents"] for row in chosen} == {
        name: [{"intent": "wait", "weight": 0.2}] if origin == "unsure" else [] for name, origin in expected.items()
    }


def test_caps_hold_and_what_is_new_comes_first(chosen: list[Row]) -> None:
    assert max(Counter((row["locale"], row["intent"]) for row in chosen).values()) == SETTINGS.max_per_goal
    for locale in {row["locale"] for row in chosen}:
        origins = Counter(row["origin"] for row in chosen if row["locale"] == locale)
        assert 0 < origins["confirmed"] + origins["hard_negative"] <= ceil(origins["corrected"] * 0.2)


def test_what_is_unsure_is_trained_on_whoever_said_it(chosen: list[Row], labels: list[Row]) -> None:
    said_by_held_out = {row["utterance_id"] for row in labels if row["is_held_out"]}
    unsure = {row["utterance_id"]: row["is_held_out"] for row in chosen if row["origin"] == "unsure"}
    assert set(unsure) & said_by_held_out
    assert not any(unsure.values())


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
