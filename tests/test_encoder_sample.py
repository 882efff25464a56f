"""What of a log an encoder learns from: sentences that reached their goal, and what was surely said again."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from selflearn.errors import DataError
from selflearn.lakehouse.schema import Table
from selflearn.lakehouse.tables import REPHRASE_PAIRS, TURN_OUTCOMES, TURNS
from selflearn.variants import sample
from selflearn.variants.corpus import SEVERAL
from selflearn.variants.sample import sample_corpus

DAY = date(2026, 3, 2)
LAUNCH = "normalised_text string, goal string"


def frame(spark: SparkSession, table: Table, rows: list[dict[str, Any]]) -> DataFrame:
    return spark.createDataFrame([tuple(map(row.get, table.schema.fieldNames())) for row in rows], table.schema)


def turn(turn_id: str, user: str, text: str, goal: str | None, **fields: Any) -> dict[str, Any]:
    own = {"turn_id": turn_id, "user_id": user, "text": text, "normalised_text": text, "goal": goal}
    rest = {"session_id": user, "turn_index": 0, "ts": datetime(2026, 3, 2, tzinfo=UTC), "locale": "en"}
    return {"turn_date": DAY, "context": "", "utterance_id": text, **rest, **own, **fields}


def outcome(turn_id: str, p_friction: float) -> dict[str, Any]:
    numbers = {field.name: 0.0 for field in TURN_OUTCOMES.schema if field.dataType.typeName() == "double"}
    return (
        numbers
        | {"turn_date": DAY, "turn_id": turn_id, "user_id": "u", "utterance_id": "u"}
        | {"p_friction": p_friction}
    )


def pair(source: str, target: str, p: float) -> dict[str, Any]:
    ends = {"source_turn_id": source, "target_turn_id": target, "source_turn_index": 0, "target_turn_index": 1}
    names = dict.fromkeys(("session_id", "locale", "user_id", "source_utterance", "target_utterance", "pattern"), "x")
    scores = {"p_friction_source": 1.0, "p_friction_target": 0.0, "p_same_goal": p, "p_rephrase": p}
    return {"turn_date": DAY} | ends | names | scores


def test_an_encoder_learns_from_what_reached_its_goal_and_was_surely_said_again(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [
        turn("1", "ann", "lights on", "bright"),
        turn("2", "bob", "lights on", "bright"),
        turn("3", "ann", "make it bright", "bright"),
        turn("4", "ann", "make it brighter", "bright"),
        turn("5", "bob", "lights of", "of"),
        turn("6", "bob", "lights off", "off"),
        turn("7", "bob", "dim", "off", fallback=True),
        turn("8", "bob", "dark", "off", rewrite_id="r"),
        turn("9", "bob", "hm", None),
        # A goal that no encoder may know: the calibration of goal variants is measured on it.
        turn("10", "bob", "be quiet", "quiet"),
    ]
    friction = {"5": 0.9}
    outcomes = frame(
        spark, TURN_OUTCOMES, [outcome(row["turn_id"], friction.get(row["turn_id"], 0.1)) for row in turns]
    )
    pairs = frame(
        spark, REPHRASE_PAIRS, [pair("5", "6", 0.9), pair("3", "4", 0.3), pair("1", "2", 0.9), pair("9", "10", 0.9)]
    )
    launch = spark.createDataFrame([("lights on", "bright"), ("lights please", "bright")], LAUNCH)
    said = frame(spark, TURNS, turns)
    corpus = sample_corpus(said, outcomes, pairs, launch)
    found = dict(zip(corpus.sentences, zip(corpus.goals, corpus.speakers.tolist(), strict=True), strict=True))
    assert {text: goal for text, (goal, _) in found.items()} == {
        "lights on": "bright",
        "make it bright": "bright",
        "make it brighter": "bright",
        "lights off": "off",
        "lights please": "bright",
    }
    assert found["lights on"][1] == found["lights please"][1] == SEVERAL
    assert found["make it bright"][1] == found["make it brighter"][1] != found["lights off"][1]
    assert corpus.rephrased == [("lights of", "lights off")]
    assert set(corpus.texts) == {row["text"] for row in turns} | {"lights please"}
    monkeypatch.setattr(sample, "MAX_PER_GOAL", 2)
    fewer = sample_corpus(said.repartition(3), outcomes, pairs, None)
    assert sorted(fewer.goals) == ["bright", "bright", "off"]
    with pytest.raises(DataError, match="no turns to learn from"):
        sample_corpus(said.limit(0), outcomes, pairs, None)
