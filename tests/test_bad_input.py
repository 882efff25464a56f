"""Bad input ends in a counted quarantine row or a clear error: no stack trace, no lost good row."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import Row, SparkSession

from selflearn.errors import DataError, SettingsError
from selflearn.lakehouse.store import CommitLabel, Lakehouse
from selflearn.lakehouse.tables import QUARANTINE, TURNS
from selflearn.settings import Settings, Source, Turns
from selflearn.turns import Ingested, clear_read_errors, ingest, read_source

KEY = b"a key that is long enough"
DAY = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
GOOD: Mapping[str, Any] = {
    "turn_id": "good",
    "session_id": "s",
    "user_id": "u",
    "ts": "2026-03-02T10:00:00Z",
    "locale": "en-GB",
    "text": "play jazz",
}


def line(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}, ensure_ascii=False).encode()


# Bad lines, and the reason and offending value each must be counted under.
BAD: list[tuple[bytes, str, str | None]] = [
    (line()[:40], "malformed_json", line()[:40].decode()),
    (b"[" + line() + b"]", "malformed_json", None),
    (b'"just a text"', "malformed_json", '"just a text"'),
    (b"42", "malformed_json", "42"),
    (line(turn_id="x1") + line(turn_id="x2"), "malformed_json", None),
    (line(turn_id="x3") + b", " + line(turn_id="x4"), "malformed_json", None),
    (line(turn_id="x5") + b" and more", "malformed_json", None),
    (line(text="caf").replace(b"caf", b"caf\xe9"), "invalid_utf8", None),
    (line(asr_score="high"), "wrong_type", "asr_score=high"),
    (line(fallback="yes"), "wrong_type", "fallback=yes"),
    (line(slots={"city": "Bonn"}), "wrong_type", 'slots={"city":"Bonn"}'),
    (line(slots=[{"name": "city", "value": "Bonn"}, 7]), "wrong_type", None),
    (line(nlu_alternatives=[{"intent": "a", "slots": [], "score": "high"}]), "wrong_type", None),
    (line(text=42), "wrong_type", "text=42"),
    (line(text={"said": "play"}), "wrong_type", 'text={"said":"play"}'),
    (line(ts=1772445600), "wrong_type", "ts=1772445600"),
    (line(ts="yesterday"), "wrong_type", "ts=yesterday"),
    (line(ts="2026-03-02"), "wrong_type", "ts=2026-03-02"),
    (line(ts="T10:00"), "wrong_type", "ts=T10:00"),
    (line(session_id=None, user_id=" "), "missing_session", None),
    (line(ts=None), "missing_time", None),
    (line(ts="2026-03-02T12:30:00Z"), "future_time", "ts=2026-03-02 12:30:00"),
    (line(ts="9999-12-31T23:59:59Z"), "future_time", None),
    (line(ts="2026-02-02T10:00:00Z"), "misplaced_time", "ts=2026-02-02 10:00:00"),
    (line(locale=None), "missing_locale", None),
    (line(locale="English"), "unknown_locale", "locale=English"),
    (line(locale="fr-FR"), "unknown_locale", "locale=fr-FR"),
    (line(text=None), "empty_text", None),
    (line(text=" \t\u200f\u0000 "), "empty_text", None),
    (line(text="ha" * 50_000), "text_too_long", None),
    (line(asr_score=1.5), "score_out_of_range", "asr_score=1.5"),
    (line(nlu_score=float("nan")), "score_out_of_range", "nlu_score=NaN"),
    (line(asr_score=-0.1), "score_out_of_range", "asr_score=-0.1"),
    (line(feedback=3), "bad_feedback", "feedback=3.0"),
    (line(feedback=0.5), "bad_feedback", "feedback=0.5"),
]
# Odd but sound lines, and the turn id each must be found under.
ODD = {
    "number id": line(turn_id=17, session_id=4),
    "no user": line(turn_id="no user", user_id=None),
    "no session": line(turn_id="no session", session_id=None),
    "braces": line(turn_id="braces", text="} {", prompt='{"turn_id": "x"}'),
    "text like JSON": line(turn_id="text like JSON", text='["42"]'),
    "digits": line(turn_id="digits", text="42"),
    "extra": line(turn_id="extra", whatever=[{"a": 1}]),
    "blanks": b"  " + line(turn_id="blanks") + b"  \r",
    "zone": line(turn_id="zone", ts="2026-03-02T12:30:00.5+02:00"),
    "skew": line(turn_id="skew", ts="2026-03-02T12:05:00Z"),
    "locale": line(turn_id="locale", locale="EN_gb"),
    "NaN": line(turn_id="NaN", nlu_alternatives=[{"intent": "a", "slots": None, "score": float("nan")}]),
}


def run(spark: SparkSession, source: Source, **rules: Any) -> Ingested:
    settings = Settings(lake="unused", source=source, turns=Turns(**rules))
    return ingest(read_source(spark, source, [DAY]), settings, [DAY], NOW, KEY)


@pytest.fixture(scope="module")
def found(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], list[Row], int]:
    """Turns, quarantine and counts of a day with every kind of bad line, and a neighbour day with some."""
    folder = tmp_path_factory.mktemp("logs")
    lines = [line(), b"", b"   ", *ODD.values(), *[bad for bad, _, _ in BAD]]
    twice = [line(turn_id="twice", text=text, ts=f"2026-03-02T09:00:0{n}Z") for n, text in enumerate("cab")]
    lines += [twice[2], twice[0], twice[1], line(), b"42"]
    random.Random(2).shuffle(lines)
    (folder / f"{DAY}.jsonl").write_bytes(b"\n".join(lines))
    (folder / "2026-03-01.jsonl").write_bytes(b"not json\n" + line(ts="2026-03-01T10:00:00Z", asr_score=7))
    ingested = run(spark, Source(path=str(folder / "{date}.jsonl")), locales=("en-gb", "de"))
    quarantine = ingested.quarantine.collect()
    return ingested.turns.collect(), quarantine, ingested.rows.count()


def test_no_good_row_is_lost(found: tuple[list[Row], list[Row], int]) -> None:
    turns = {row.turn_id: row for row in found[0]}
    assert turns.keys() == (ODD.keys() - {"number id"}) | {"17", "good", "twice"}
    assert turns["text like JSON"].text == '["42"]'
    assert turns["zone"].ts == datetime(2026, 3, 2, 10, 30, 0, 500_000)
    assert turns["locale"].locale == "en-GB"
    assert turns["twice"].text == "c"


def test_every_bad_row_is_counted_under_its_reason(found: tuple[list[Row], list[Row], int]) -> None:
    reasons = Counter(row.reason for row in found[1])
    assert reasons == Counter([reason for _, reason, _ in BAD] + ["duplicate_turn_id"] * 3 + ["malformed_json"])
    assert found[2] == len(found[0]) + len(found[1])
    assert {row.turn_date for row in found[1]} == {DAY}
    assert len({row.row_hash for row in found[1]}) == len(found[1])


def test_bad_rows_keep_what_they_were(found: tuple[list[Row], list[Row], int]) -> None:
    by_raw_row = {row.raw_row: row for row in found[1]}
    for raw, reason, value in BAD:
        row = by_raw_row[raw.decode("utf-8", "replace")]
        assert row.reason == reason
        assert value is None or row.offending_value == value
        assert len(row.offending_value or "") <= 200
        assert row.source_file.endswith(f"{DAY}.jsonl")


def test_a_cut_off_archive_is_named_and_nothing_is_written(spark: SparkSession, tmp_path: Path, lake: Path) -> None:
    content = b"\n".join(line(turn_id=str(n), text=random.Random(n).randbytes(20).hex()) for n in range(5_000))
    archive = tmp_path / f"{DAY}.jsonl.gz"
    archive.write_bytes(gzip.compress(content)[:-9_000])
    ingested = run(spark, Source(path=str(tmp_path / "{date}.jsonl.gz")))
    store = Lakehouse(spark, str(lake))
    with pytest.raises(DataError, match=rf"{archive.name} is cut off before its end; nothing was written") as error:
        write(store, ingested)
    assert error.value.__cause__ is None
    assert "Next: copy the file again" in str(error.value)
    assert store.read(TURNS).count() == 0


def write(store: Lakehouse, ingested: Ingested) -> None:
    label = CommitLabel("run", "settings")
    store.create(TURNS)
    with clear_read_errors():
        store.replace(QUARANTINE, ingested.quarantine, label, turn_date=[DAY])
        store.replace(TURNS, ingested.turns, label, turn_date=[DAY])


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("noise.jsonl.gz", "jsonl", "noise.jsonl.gz is damaged or not of its format"),
        ("noise.parquet", "parquet", "noise.parquet is damaged or not of its format"),
        ("noise", "delta", "is no Delta table"),
    ],
)
def test_a_file_of_another_format_is_named(
    spark: SparkSession, tmp_path: Path, name: str, kind: str, message: str
) -> None:
    (tmp_path / name).write_bytes(random.Random(1).randbytes(5_000))
    with pytest.raises(DataError, match=message), clear_read_errors():
        run(spark, Source(path=str(tmp_path / name), format=kind)).turns.collect()  # type: ignore[arg-type]


def test_a_binary_file_is_quarantined_whole(spark: SparkSession, tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(20_000).replace(b"\r", b"")
    (tmp_path / f"{DAY}.jsonl").write_bytes(noise + b"\n" + line())
    ingested = run(spark, Source(path=str(tmp_path / "{date}.jsonl")))
    reasons = {row.reason for row in ingested.quarantine.collect()}
    assert reasons <= {"invalid_utf8", "malformed_json"}
    assert [row.turn_id for row in ingested.turns.collect()] == ["good"]


def test_a_path_that_leads_nowhere_is_named(spark: SparkSession, tmp_path: Path) -> None:
    for path in ("log.jsonl", "{date}.jsonl", "no/such/folder/*.jsonl"):
        with pytest.raises(DataError, match="no file matches the source path"):
            read_source(spark, Source(path=str(tmp_path / path)), [DAY])


def test_a_day_without_files_is_empty(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "2026-01-01.jsonl").write_bytes(line())
    (tmp_path / "2026-03-01.csv").write_bytes(b"")
    (tmp_path / "2026-03-01.jsonl").write_bytes(b"\n")
    ingested = run(spark, Source(path=str(tmp_path / "{date}.jsonl")))
    assert ingested.turns.collect() == ingested.quarantine.collect() == []
    nothing = read_source(spark, Source(path=str(tmp_path / "{date}.jsonl")), [date(2026, 6, 1)])
    assert nothing.collect() == []
    assert read_source(spark, Source(path=str(tmp_path / "{date}.csv"), format="csv"), [DAY]).collect() == []


def test_missing_columns_are_all_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("said,when\nplay jazz,2026-03-02T10:00:00Z\n")
    source = Source(path=str(tmp_path / "log.csv"), format="csv", columns={"ts": "when"})
    with pytest.raises(DataError, match=r"no column for session_id or user_id, locale, text; it has said, when"):
        read_source(spark, source, [DAY])


def test_wrong_expressions_are_all_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(line())
    columns = {
        "intnt": "text",
        "ts": "timestmp(ts)",
        "user_id": "nobody",
        "session_id": "max(session_id)",
        "locale": "'en' +",
        "asr_score": "array(1)",
        "text": "explode(array(text, text))",
    }
    with pytest.raises(SettingsError) as error:
        read_source(spark, Source(path=str(tmp_path / "log.jsonl"), columns=columns), [DAY])
    message = str(error.value)
    for column, expression in columns.items():
        assert f"- {column}: " in message
        assert expression in message or column == "intnt"
    assert "the source has locale, session_id, text, ts, turn_id, user_id" in message
    assert "SQLSTATE" not in message
    with pytest.raises(SettingsError, match="raw_schema"):
        read_source(spark, Source(path=str(tmp_path / "log.jsonl"), raw_schema="a strng,"), [DAY])


def test_a_value_that_breaks_an_expression_is_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(line(asr_score="high") + b"\n" + line(asr_score="0.5"))
    source = Source(
        path=str(tmp_path / "log.jsonl"),
        columns={"asr_score": "cast(asr_score AS double)"},
        raw_schema="session_id string, ts string, locale string, text string, asr_score string",
    )
    with pytest.raises(DataError, match=r"'high'.*\n.*try_cast"), clear_read_errors():
        run(spark, source).turns.collect()


def test_errors_of_another_kind_pass(spark: SparkSession) -> None:
    with pytest.raises(PySparkException), clear_read_errors():
        spark.sql("SELECT nothing FROM nowhere")


def test_bad_csv_rows_are_quarantined(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        b"session_id,ts,locale,text,asr_score,slots,completed",
        b's,2026-03-02T10:00:00Z,en,"play ""this""\nand that",0.5,"[{""name"": ""a"", ""value"": ""b""}]",true',
        b"s,2026-03-02T10:00:01Z,en",
        b"s,2026-03-02T10:00:02Z,en,caf\xe9,0.5,,",
        b"s,2026-03-02T10:00:03Z,en,stop,high,,",
        b"s,2026-03-02T10:00:04Z,en,stop,,no list,",
        b"s,2026-03-02T10:00:05Z,en,stop,,,perhaps",
        b"s,2026-03-02T10:00:06Z,en,stop,,,",
    ]
    (tmp_path / "log.csv").write_bytes(b"\n".join(rows))
    ingested = run(spark, Source(path=str(tmp_path / "log.csv"), format="csv"))
    reasons = {row.offending_value: row.reason for row in ingested.quarantine.collect()}
    assert Counter(reasons.values()) == Counter(["malformed_csv", "invalid_utf8"] + ["wrong_type"] * 3)
    assert {"asr_score=high", "slots=no list", "completed=perhaps"} <= reasons.keys()
    turns = ingested.turns.sort("ts").collect()
    assert [row.text for row in turns] == ['play "this"\nand that', "stop"]
    assert turns[0].slots == [Row(name="a", value="b")]
    assert turns[0].completed is True
