"""Who asks to be forgotten stands in no file of the lake, whose tables are as if they had never been there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from in_files import files_holding
from selflearn.cli import main
from selflearn.erasure import held_by, traces, without_people
from selflearn.errors import InfrastructureError, SettingsError
from selflearn.lakehouse import lease, tables
from selflearn.lakehouse.lease import leased
from selflearn.lakehouse.store import CommitLabel, Lakehouse
from selflearn.pipeline import MINING, STAGES, removal, run_pipeline, run_stage
from selflearn.pipeline.forgetting import forget
from selflearn.pipeline.job import forget_main
from selflearn.settings import USER_KEY_VARIABLE, Settings, load_settings
from selflearn.turns import hash_user, utterance_id
from test_pipeline import content

DAY, BEFORE = date(2026, 1, 5), date(2025, 12, 29)
KEY = "a key for tests only"
THEY = "zaphod|4711"
THEIR_WORD = "quixotic"
THEIR_SENTENCE = f"{THEIR_WORD} melodies please"
MINED = sorted({table.name for stage in MINING for table in stage.writes})
LABEL = CommitLabel("made by a test", "0123456789ab")


@pytest.fixture(scope="module", autouse=True)
def user_key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(USER_KEY_VARIABLE, KEY)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forget")


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    """Few people talk in this log, so little is asked of a label; the file of requests lies outside the lake."""
    file = folder / "settings.yaml"
    content = {
        "lake": "lake",
        "source": {"path": "logs/{date}.jsonl"},
        "turns": {"max_quarantined_share": 0.5},
        "labels": {"threshold": 0.5, "min_users": 2},
        "maintenance": {"erasure_requests": "requests.txt"},
    }
    file.write_text(yaml.safe_dump(content))
    return load_settings(file)


@pytest.fixture(scope="module")
def before(spark: SparkSession, settings: Settings, folder: Path) -> Mapping[str, list[str]]:
    """A day mined and learnt from, an older graph and an older release: the tables as they are then."""
    write(folder, log_lines())
    lake = Lakehouse(spark, settings.lake)
    for _ in run_pipeline(lake, settings, [DAY]):
        pass
    for table in (tables.GRAPH_NODES, tables.GRAPH_EDGES, tables.WEAK_LABELS):
        lake.replace(table, lake.read(table).withColumn("as_of", F.lit(BEFORE)), LABEL, as_of=[BEFORE])
    utterance = utterance_id("en-GB", "", THEIR_SENTENCE)
    example = (
        "older",
        "1",
        "train",
        "corrected",
        "en-GB",
        "",
        THEIR_SENTENCE,
        "play",
        [],
        True,
        "",
        0.9,
        [],
        utterance,
        "",
    )
    rows = spark.createDataFrame([example], tables.TRAINING_SETS.schema)
    lake.replace(tables.TRAINING_SETS, rows, LABEL, release_id=["older"])
    release = lake.read(tables.RELEASES).withColumn("release_id", F.lit("older"))
    lake.replace(tables.RELEASES, release, LABEL, release_id=["older"])
    return {table.name: content(lake, table) for table in tables.ALL_TABLES if lake.exists(table)}


@pytest.fixture(scope="module")
def lake(spark: SparkSession, settings: Settings, folder: Path, before: Mapping[str, list[str]]) -> Lakehouse:
    """The lake without them: the erasure is killed after its first step, and finished by the job of the DAG."""
    lake = Lakehouse(spark, settings.lake)
    killed = forget(lake, settings, [THEY])
    assert next(killed).stage == "forget"
    killed.close()
    (folder / "requests.txt").write_text(f"{THEY}\n\nnobody\n")
    forget_main(["--settings", str(folder / "settings.yaml"), "--from", DAY.isoformat()])
    return lake


def test_no_file_of_the_lake_holds_them(lake: Lakehouse, before: Mapping[str, list[str]]) -> None:
    """Neither their id, in any form, nor a word that nobody else said."""
    utterance = utterance_id("en-GB", "", THEIR_SENTENCE)
    person = lake.spark.range(1).select(F.xxhash64(F.lit(hash_user(THEY, KEY.encode()))).alias("person")).first()
    assert person
    words = (THEY, hash_user(THEY, KEY.encode()), THEIR_WORD, utterance, str(person["person"]), "zaphods-session")
    rows = "".join(row for of_table in before.values() for row in of_table)
    assert [word for word in words if word not in rows] == [], "these were never there"
    assert files_holding(Path(lake.root), *words) == []


def test_every_day_is_as_if_they_had_never_been_there(
    spark: SparkSession, lake: Lakehouse, settings: Settings, folder: Path, before: Mapping[str, list[str]]
) -> None:
    write(folder, [line for line in log_lines() if "zaphod" not in line])
    never = settings.model_copy(update={"lake": str(folder / "never")})
    other = Lakehouse(spark, never.lake)
    for _ in run_pipeline(other, never, [DAY], MINING):
        pass
    for name in MINED:
        assert content(lake, name) == content(other, name), name
    for name in ("turns", "quarantine", "turn_outcomes", "rephrase_pairs", "evidence", "utterances"):
        assert len(content(lake, name)) < len(before[name]), name
    # And that though the source still holds them.
    write(folder, log_lines())
    run_stage(STAGES["ingest"], lake, settings, [DAY])
    for name in ("turns", "quarantine"):
        assert content(lake, name) == content(other, name), name
    assert files_holding(Path(lake.root), THEY, THEIR_WORD, hash_user(THEY, KEY.encode())) == []


def test_labels_that_rested_on_them_are_gone(lake: Lakehouse, before: Mapping[str, list[str]]) -> None:
    """Two people said it, one of them is forgotten, and two is the floor; older labels go like new ones."""
    was = {(row["as_of"], row["text"]) for row in map(json.loads, before["weak_labels"])}
    days = (str(DAY), str(BEFORE))
    assert {(day, text) for day in days for text in ("wake me early", "play jazz")} <= was
    now = {(row["as_of"], row["text"]) for row in map(json.loads, content(lake, "weak_labels"))}
    assert not {(day, "wake me early") for day in days} & now
    assert {(day, "play jazz") for day in days} <= now


def test_a_release_that_held_their_words_is_withdrawn_and_named(lake: Lakehouse) -> None:
    releases = DeltaTable(f"{lake.root}/releases").to_pandas().set_index("release_id")["state"]
    assert releases["older"] == "withdrawn"
    assert "published" in set(releases.drop("older"))
    runs = DeltaTable(f"{lake.root}/runs").to_pandas()
    messages = runs[runs["stage"] == "forget"]["message"].dropna()
    assert any("releases withdrawn, which held sentences of theirs alone: older" in message for message in messages)


def test_asked_again_nothing_is_left_to_do(
    lake: Lakehouse, settings: Settings, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(forget(lake, settings, [THEY, "nobody"])) == []
    with pytest.raises(SystemExit):
        main(["forget", "--settings", str(folder / "settings.yaml"), "--user", THEY])
    assert "Erased before; nothing was left to do." in capsys.readouterr().out


def test_nobody_else_may_write_the_lake_meanwhile(
    lake: Lakehouse, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    said = "a run over May has been writing the learning tables"
    with (
        leased(lake, "learning", "a run over May"),
        pytest.raises(InfrastructureError, match=said),
    ):
        next(forget(lake, settings, ["another"]))


def test_a_file_of_requests_that_is_not_there_is_named(lake: Lakehouse, folder: Path) -> None:
    (folder / "requests.txt").rename(folder / "moved.txt")
    with pytest.raises(SystemExit) as ended:
        forget_main(["--settings", str(folder / "settings.yaml"), "--from", DAY.isoformat()])
    assert ended.value.code == SettingsError.exit_code


def test_who_is_nowhere_in_the_lake_is_kept_out_all_the_same(lake: Lakehouse) -> None:
    states = DeltaTable(f"{lake.root}/erasures").to_pandas()
    assert states["erasure_id"].nunique() == 2
    assert set(states[states["state"] == "erased"]["erasure_id"]) == set(states["erasure_id"])


def test_every_table_that_tells_of_people_or_their_words_is_looked_through() -> None:
    """A table that is added later must be added there, too."""
    users = {table.name for table in tables.ALL_TABLES if "user_id" in table.schema.fieldNames()}
    assert users == {table.name for table in (tables.TURNS, *removal._OF_USERS)}
    words = {table.name for table in tables.ALL_TABLES if set(traces._WORDED) & set(table.schema.fieldNames())}
    seen = (tables.TURNS, tables.EVIDENCE, *removal._OF_USERS, *removal._OF_WORDS)
    assert words == {table.name for table in seen}


def test_evidence_of_days_whose_turns_are_gone_loses_what_is_theirs_alone(spark: SparkSession) -> None:
    """What others said too stays, in a spelling of nobody's, and they leave its sketch of people."""
    rows = [
        evidence_row("utterance", "shared", "", [1, 7], "Play JAZZ"),
        evidence_row("utterance", "theirs", "", [7, 8], "Wake me"),
        evidence_row("utterance", "others", "", [1], "Turn It Up"),
        *(evidence_row("reading", name, "goal", None) for name in ("shared", "theirs", "others")),
        evidence_row("pair", "shared", "others", [8]),
        evidence_row("pair", "others", "shared", [1, 2, 8]),
    ]
    evidence = spark.createDataFrame(rows, tables.EVIDENCE.schema)
    people = spark.createDataFrame([(7,), (8,), (9,)], "person long")
    spellings = spark.createDataFrame(
        [("shared", "play jazz"), ("others", "turn it up")], "utterance_id string, text string"
    )
    left = without_people(evidence, people, spellings).collect()
    found = {(row["kind"], row["source_utterance"]): (row["text"], row["users"]) for row in left}
    assert found == {
        ("utterance", "shared"): ("play jazz", [1]),
        ("utterance", "others"): ("Turn It Up", [1]),
        ("reading", "shared"): (None, None),
        ("reading", "others"): (None, None),
        ("pair", "others"): (None, [1, 2]),
    }
    assert {row["source_utterance"] for row in held_by(evidence, people).collect()} == {"shared", "theirs", "others"}


def evidence_row(
    kind: str, source: str, target: str, users: list[int] | None, text: str | None = None
) -> tuple[Any, ...]:
    return (DAY, kind, "en-GB", source, target, None, text, *[1.0] * 6, users)


def log_lines() -> list[str]:
    """A day of nine people, one of whom is to be forgotten; some lines are bad."""
    lines: list[str] = []
    for number, user in enumerate([*(f"u{k}" for k in range(8)), THEY]):
        name = "zaphods-session" if user == THEY else f"session-{number}"
        noon = datetime.combine(DAY, datetime.min.time()) + timedelta(hours=12, minutes=10 * number)
        said = [
            ("plya jazz", None, {}, {"fallback": True, "nlu_score": 0.1}),
            ("play jazz", "play", {"genre": "jazz"}, {}),
            ("turn it up", "volume_up", {}, {}),
        ]
        if user in ("u0", THEY):
            said.append(("wake me early", "wake", {}, {}))
        if user == THEY:
            said.append((THEIR_SENTENCE, "play", {"genre": f"{THEIR_WORD} melodies"}, {}))
            said.append((THEIR_SENTENCE.upper(), "play", {"genre": f"{THEIR_WORD} melodies"}, {}))
        for place, (text, intent, slots, more) in enumerate(said):
            row = {
                "turn_id": f"{name}-{place}",
                "session_id": name,
                "user_id": user,
                "ts": (noon + timedelta(seconds=8 * place)).isoformat() + "Z",
                "locale": "en-GB",
                "text": text,
                "intent": intent,
                "slots": [{"name": slot, "value": value} for slot, value in slots.items()],
                "nlu_score": 0.9,
                "completed": intent is not None,
                **more,
            }
            lines.append(json.dumps(row))
    bad: list[Any] = [
        {"user_id": THEY, "session_id": "zaphods-session", "text": f"{THEIR_WORD} and bad", "asr_score": "high"},
        {"user_id": "u3", "session_id": "session-3", "text": "bad, too", "asr_score": "high"},
    ]
    cut_off = [json.dumps({"user_id": user, "session_id": "s", "text": THEIR_WORD})[:-8] for user in (THEY,)]
    at = {"ts": f"{DAY}T13:00:00Z", "locale": "en-GB"}
    return [*lines, *(json.dumps({**row, **at}) for row in bad), *cut_off, '{"user_id": "u4", "text": "cut']


def write(folder: Path, lines: list[str]) -> None:
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "logs" / f"{DAY}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
