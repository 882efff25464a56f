"""Ingest: what a row becomes, the same from every format, and the launch set beside it."""

from __future__ import annotations

import csv
import json
import unicodedata
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from selflearn.errors import DataError, SettingsError
from selflearn.lakehouse.tables import QUARANTINE, TURNS
from selflearn.settings import Settings, Source, Turns
from selflearn.turns import (
    LAUNCH_COLUMNS,
    Ingested,
    canonical_locale,
    frame_goal,
    hash_user,
    ingest,
    normalise_text,
    read_launch_set,
    read_source,
    utterance_id,
)
from selflearn.turns.validation import is_empty, is_known_locale, locale_column

KEY = b"a key that is long enough"
DAY = date(2026, 3, 2)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
RICH: dict[str, Any] = {
    "turn_id": "t1",
    "session_id": "s1",
    "user_id": "+44 20 7946 0958",
    "ts": "2026-03-02T10:00:00.25Z",
    "locale": "en_gb",
    "text": "Call  0171 1234567",
    "text_alternatives": [{"text": "call 0171 1234567", "score": -0.5}, {"text": "caller", "score": -2.0}],
    "asr_score": 0.75,
    "intent": "call",
    "slots": [{"name": "number", "value": "0171 1234567"}, {"name": "app", "value": "Phone"}],
    "nlu_score": 0.5,
    "nlu_alternatives": [
        {"intent": "text", "slots": [], "score": 0.125},
        {"intent": "call", "slots": [{"name": "app", "value": "PHONE"}], "score": 0.25},
        {"intent": "call", "slots": [{"name": "app", "value": "phone"}], "score": 0.125},
        {"intent": None, "slots": [], "score": 0.9},
    ],
    "prompt": "Whom, bob@example.com?",
    "response": "Calling.",
    "context": "ask_number",
    "fallback": False,
    "barge_in": True,
    "error": None,
    "cancelled": False,
    "completed": True,
    "feedback": -1,
    "rewrite_id": "",
    "model_version": "nlu-3",
}
BARE = {"turn_id": "t2", "session_id": "s1", "ts": "2026-03-02T10:00:09Z", "locale": "de", "text": "stopp"}


def run(spark: SparkSession, source: Source, **rules: Any) -> Ingested:
    settings = Settings(lake="unused", source=source, turns=Turns(**rules))
    return ingest(read_source(spark, source, [DAY]), settings, [DAY], NOW, KEY)


def write_lines(file: Path, *rows: Any) -> Source:
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return Source(path=str(file))


@pytest.fixture(scope="module")
def canonical(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    return run(spark, write_lines(tmp_path_factory.mktemp("canonical") / "log.jsonl", BARE, RICH))


@pytest.fixture(scope="module")
def turns(canonical: Ingested) -> list[Row]:
    return canonical.turns.sort("turn_index").collect()


def test_a_rich_row_keeps_all_but_personal_data(turns: list[Row]) -> None:
    goal = frame_goal("call", [("app", "phone"), ("number", "<phone>")])
    call_app = frame_goal("call", [("app", "phone")])
    assert turns[0].asDict(recursive=True) == {
        "turn_date": DAY,
        "turn_id": "t1",
        "session_id": "s1",
        "turn_index": 0,
        "user_id": hash_user("+44 20 7946 0958", KEY),
        "ts": datetime(2026, 3, 2, 10, 0, 0, 250_000),
        "locale": "en-GB",
        "context": "ask_number",
        "text": "Call  <phone>",
        "normalised_text": "call <phone>",
        "utterance_id": utterance_id("en-GB", "ask_number", "call <phone>"),
        "text_alternatives": [{"text": "call <phone>", "score": -0.5}, {"text": "caller", "score": -2.0}],
        "asr_score": 0.75,
        "intent": "call",
        "slots": [{"name": "app", "value": "Phone"}, {"name": "number", "value": "<phone>"}],
        "goal": goal,
        "nlu_score": 0.5,
        "nlu_alternatives": [
            {"goal": call_app, "score": 0.375},
            {"goal": '{"intent":"text","slots":[]}', "score": 0.125},
        ],
        "prompt": "Whom, <email>?",
        "response": "Calling.",
        "fallback": False,
        "barge_in": True,
        "error": None,
        "cancelled": False,
        "completed": True,
        "feedback": -1,
        "rewrite_id": None,
        "model_version": "nlu-3",
    }


def test_a_bare_row_has_all_that_is_required(turns: list[Row]) -> None:
    bare = turns[1]
    assert (bare.turn_index, bare.context, bare.user_id) == (1, "", hash_user("session:s1", KEY))
    optional = [field.name for field in TURNS.schema if field.nullable]
    assert all(bare[name] is None for name in optional)
    assert all(bare[field.name] is not None for field in TURNS.schema if not field.nullable)


def test_columns_are_those_of_the_tables(canonical: Ingested) -> None:
    for rows, table in ((canonical.turns, TURNS), (canonical.quarantine, QUARANTINE)):
        found = [(field.name, field.dataType.simpleString()) for field in rows.schema]
        assert found == [(field.name, field.dataType.simpleString()) for field in table.schema]


def test_the_key_is_in_no_plan(canonical: Ingested, capsys: pytest.CaptureFixture[str]) -> None:
    for mode in ("extended", "codegen", "cost", "formatted"):
        canonical.turns.explain(mode=mode)
    shown = capsys.readouterr().out
    assert "clean_batch" in shown
    assert KEY.decode() not in shown
    assert KEY.hex() not in shown


def test_masking_can_be_switched_off(spark: SparkSession, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "log.jsonl", RICH)
    (row,) = run(spark, source, mask_personal_data=False).turns.collect()
    assert row.text == RICH["text"]
    assert row.normalised_text == "call 0171 1234567"
    assert row.prompt == RICH["prompt"]
    assert '"0171 1234567"' in row.goal


def test_all_formats_give_the_same_turns(spark: SparkSession, tmp_path: Path, turns: list[Row]) -> None:
    rows = spark.read.json(spark.sparkContext.parallelize([json.dumps(RICH), json.dumps(BARE)]))
    rows.write.parquet(str(tmp_path / "log.parquet"))
    rows.write.format("delta").save(str(tmp_path / "log.delta"))
    names = list(RICH)
    with (tmp_path / "log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in (RICH, BARE):
            cells = [row.get(name) for name in names]
            writer.writerow([json.dumps(cell) if isinstance(cell, list) else cell for cell in cells])
    for kind in ("parquet", "delta", "csv"):
        source = Source(path=str(tmp_path / f"log.{kind}"), format=kind)
        assert run(spark, source).turns.sort("turn_index").collect() == turns, kind


def test_columns_can_be_mapped(spark: SparkSession, tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "log.jsonl",
        {"id": 1, "who": {"name": "ann"}, "millis": 1772445600250, "said": [{"t": "Hi", "log": 0.0}], "slots": []},
        {"id": 2, "who": None, "millis": 1772445601000, "said": [{"t": "x", "log": -1e9}], "slots": []},
        {"id": 3, "who": {"name": "bob"}, "millis": None, "said": [], "slots": [], "model_version": 3},
    )
    columns = {
        "turn_id": "id",
        "user_id": "who.name",
        "ts": "timestamp_millis(millis)",
        "locale": "'en-GB'",
        "text": "get(said, 0).t",
        "asr_score": "exp(get(said, 0).log)",
        "text_alternatives": "transform(said, one -> named_struct('score', one.log, 'text', one.t))",
    }
    ingested = run(spark, source.model_copy(update={"columns": columns}))
    (row,) = ingested.turns.collect()
    assert (row.turn_id, row.user_id, row.text, row.asr_score) == ("1", hash_user("ann", KEY), "Hi", 1.0)
    assert (row.locale, row.slots, row.text_alternatives) == ("en-GB", [], [Row(text="Hi", score=0.0)])
    reasons = {row.reason: json.loads(row.raw_row)["id"] for row in ingested.quarantine.collect()}
    assert reasons == {"missing_session": 2, "missing_time": 3}


def test_a_map_can_be_slots(spark: SparkSession, tmp_path: Path) -> None:
    """Agents call tools with named arguments."""
    source = write_lines(tmp_path / "log.jsonl", BARE | {"tool": "stop", "arguments": {"n": 2, "all": None, "a": "X"}})
    source = source.model_copy(
        update={
            "columns": {"intent": "tool", "slots": "arguments"},
            "raw_schema": "turn_id string, session_id string, ts string, locale string, text string, tool string, "
            "arguments map<string, string>",
        }
    )
    (row,) = run(spark, source).turns.collect()
    assert row.slots == [Row(name="a", value="X"), Row(name="n", value="2")]
    assert row.goal == frame_goal("stop", [("a", "x"), ("n", "2")])


def test_columns_agree_with_their_plain_twins(spark: SparkSession) -> None:
    characters = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) != "Cs"]
    rows = spark.createDataFrame([(c,) for c in characters if not c.isalnum()], "text string")
    empty = {row.text for row in rows.where(is_empty(F.col("text"))).collect()}
    assert empty == {c for c in characters if not normalise_text(c)}
    tags = [
        "en_gb",
        "EN-gb",
        "en-GB",
        "zh_hant_tw",
        "es-419",
        "no",
        "de-CH-1996",
        "english",
        "e",
        "en-",
        "12-34",
        "en GB",
    ]
    locale = locale_column(F.col("tag"))
    found = spark.createDataFrame([(tag,) for tag in tags], "tag string").select(
        "tag", F.when(is_known_locale(locale, None), locale).alias("locale")
    )
    assert {row.tag: row.locale for row in found.collect()} == {tag: canonical_locale(tag) for tag in tags}


def test_a_launch_set_has_the_utterances_of_turns(spark: SparkSession, tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "launch.jsonl",
        {"text": "Call 0171 1234567", "locale": "en-gb", "intent": "call", "context": "ask_number"},
        {"text": "Play  Björk", "locale": "en-GB", "intent": "play", "slots": [{"name": "artist", "value": "Björk"}]},
    )
    rows = read_launch_set(spark, source)
    assert tuple(rows.columns) == LAUNCH_COLUMNS
    call, play = rows.sort("intent").collect()
    assert call.utterance_id == utterance_id("en-GB", "ask_number", "call <phone>")
    assert call.goal == frame_goal("call", [])
    assert (play.context, play.normalised_text, play.slots) == ("", "play björk", [Row(name="artist", value="Björk")])
    assert play.goal == frame_goal("play", [("artist", "björk")])


def test_an_unfit_launch_set_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    good = {"text": "stop", "locale": "en", "intent": "stop"}
    source = write_lines(tmp_path / "launch.jsonl", good, good | {"text": " "}, good | {"intent": None}, "stop")
    with pytest.raises(DataError, match=r"3 unfit rows \(1 empty_text, 1 malformed_json, 1 missing_intent\)"):
        read_launch_set(spark, source)
    with pytest.raises(DataError, match="no file matches"):
        read_launch_set(spark, Source(path=str(tmp_path / "nowhere.jsonl")))
    with pytest.raises(SettingsError, match=r"words: .*there are text, locale, context, intent, slots"):
        read_launch_set(spark, source.model_copy(update={"columns": {"words": "text"}}))


def test_what_is_landed_is_masked_and_hashed_already(spark: SparkSession, tmp_path: Path) -> None:
    before = RICH | {"turn_id": "t0", "ts": "2026-03-01T09:00:00Z", "text": "the day before, 0171 1234567"}
    source = write_lines(tmp_path / "log.jsonl", RICH, BARE, before)
    landed: list[str] = []

    def land(rows: DataFrame) -> DataFrame:
        landed.extend(str(row) for row in rows.collect())
        return rows

    settings = Settings(lake="unused", source=source)
    ingested = ingest(read_source(spark, source, [DAY]), settings, [DAY], NOW, KEY, land)
    assert ingested.turns.count() == 2
    assert any("t0" in row for row in landed)
    for secret in ("7946", "1234567", "example.com", "the day before"):
        assert not any(secret in row for row in landed)
