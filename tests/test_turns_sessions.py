"""Sessions against a plain twin: over midnights, by id and by gap, day by day and all at once."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from selflearn.settings import Settings, Source, Turns
from selflearn.turns import Ingested, ingest, read_source

KEY = b"a key that is long enough"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
FIRST = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = [FIRST.date() + timedelta(days=step) for step in range(3)]
GAP, REACH = timedelta(minutes=30), timedelta(hours=6)
LOOKBACK = min(REACH, timedelta(days=1) - REACH)


@dataclass(frozen=True)
class Turn:
    """A turn of the twin's world."""

    turn_id: str
    key: str
    has_session: bool
    ts: datetime

    def as_json(self) -> str:
        fields: dict[str, Any] = {
            "turn_id": self.turn_id,
            "user_id": None if self.has_session else self.key,
            "session_id": self.key if self.has_session else None,
            "ts": self.ts.isoformat(timespec="milliseconds"),
            "locale": "en-GB",
            "text": f"turn {self.turn_id}",
        }
        return json.dumps(fields)


def twin(turns: Iterable[Turn]) -> dict[str, tuple[date, tuple[str, datetime], int]]:
    """Day, piece of a session (key and start) and index of each turn."""
    found = {}
    by_key = defaultdict(list)
    for turn in turns:
        by_key[turn.key].append(turn)
    for key, own in by_key.items():
        previous, start, index = None, FIRST, 0
        for turn in sorted(own, key=lambda one: (one.ts, one.turn_id)):
            midnight = turn.ts.replace(hour=0, minute=0, second=0, microsecond=0)
            is_over = previous is None or previous < midnight - LOOKBACK
            is_idle = previous is not None and not turn.has_session and turn.ts - previous > GAP
            is_cut = start < midnight and turn.ts >= midnight + REACH
            if is_over or is_idle or is_cut:
                start, index = turn.ts, 0
            found[turn.turn_id] = (start.date(), (key, start), index)
            previous, index = turn.ts, index + 1
    return found


def random_turns(seed: int, n_keys: int) -> list[Turn]:
    """Turns that dwell around midnights and the ends of their reach, at their very microseconds too."""
    chance = random.Random(seed)
    edges = [
        FIRST + timedelta(days=day) + offset
        for day in range(-1, 5)
        for offset in (timedelta(0), REACH, -LOOKBACK, timedelta(hours=12))
    ]
    turns = []
    for number in range(n_keys):
        key, has_session = f"k{number}", chance.random() < 0.5
        pace = chance.choice([timedelta(minutes=10), timedelta(minutes=40), timedelta(hours=3), timedelta(hours=9)])
        ts = chance.choice(edges) - chance.random() * timedelta(hours=2)
        for step in range(chance.randint(1, 30)):
            if chance.random() < 0.15:
                ts = max(ts, chance.choice(edges))
            turns.append(Turn(f"{key}-{step:02d}", key, has_session, _to_milliseconds(ts)))
            ts += chance.random() * pace * 2
    return turns


def _to_milliseconds(ts: datetime) -> datetime:
    return ts.replace(microsecond=ts.microsecond // 1000 * 1000)


def write_logs(folder: Path, turns: Iterable[Turn], lines: Mapping[date, Sequence[str]] | None = None) -> None:
    by_day = defaultdict(list)
    for turn in turns:
        by_day[turn.ts.date()].append(turn.as_json())
    folder.mkdir(exist_ok=True)
    for day in by_day.keys() | (lines or {}).keys():
        content = by_day[day] + list((lines or {}).get(day, []))
        (folder / f"{day}.jsonl").write_text("\n".join(content) + "\n", encoding="utf-8")


def run(spark: SparkSession, folder: Path, days: Sequence[date]) -> Ingested:
    source = Source(path=str(folder / "{date}.jsonl"))
    rules = Turns(session_gap_minutes=GAP.total_seconds() / 60, max_session_hours=REACH.total_seconds() / 3600)
    settings = Settings(lake="unused", source=source, turns=rules)
    return ingest(read_source(spark, source, days), settings, days, NOW, KEY)


@pytest.fixture(scope="module")
def turns() -> list[Turn]:
    return random_turns(seed=5, n_keys=300)


@pytest.fixture(scope="module")
def folder(turns: list[Turn], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Days of turns, with lines that are the same on several days, bad or doubled."""
    folder = tmp_path_factory.mktemp("logs")
    day_before = FIRST.date() - timedelta(days=1)
    doubled = [turn.as_json() for turn in turns if turn.key == "k7"]
    lines = {day: ["not json", "not json", '{"locale": "en"}'] for day in [day_before, *DAYS]}
    write_logs(folder, turns, {**lines, DAYS[1]: lines[DAYS[1]] + doubled})
    return folder


@pytest.fixture(scope="module")
def whole(spark: SparkSession, folder: Path) -> tuple[list[Row], list[Row]]:
    return collect(run(spark, folder, DAYS))


def collect(ingested: Ingested) -> tuple[list[Row], list[Row]]:
    return ingested.turns.collect(), ingested.quarantine.collect()


def test_sessions_are_those_of_the_twin(whole: tuple[list[Row], list[Row]], turns: list[Turn]) -> None:
    expected = {turn: place for turn, place in twin(turns).items() if place[0] in DAYS}
    found = {row.turn_id: row for row in whole[0]}
    assert found.keys() == expected.keys()
    assert {turn: (row.turn_date, row.turn_index) for turn, row in found.items()} == {
        turn: (day, index) for turn, (day, _, index) in expected.items()
    }
    named = {(expected[turn][1], row.turn_date, row.session_id) for turn, row in found.items()}
    n_pieces = len({piece for _, piece, _ in expected.values()})
    assert len(named) == len({(day, session) for _, day, session in named}) == n_pieces


def test_every_turn_is_on_one_day(whole: tuple[list[Row], list[Row]], turns: list[Turn]) -> None:
    assert len({row.turn_id for row in whole[0]}) == len(whole[0])
    crossing = [row for row in whole[0] if row.ts.date() != row.turn_date]
    assert len(crossing) > 100
    cut = [row for row in whole[0] if "~" in row.session_id]
    assert len(cut) > 100
    assert all(row.session_id.endswith(f"~{row.turn_date}") for row in cut)


def test_days_one_by_one_are_the_days_at_once(
    spark: SparkSession, folder: Path, whole: tuple[list[Row], list[Row]]
) -> None:
    singles = [collect(run(spark, folder, [day])) for day in DAYS]
    for part, at_once in enumerate(whole):
        one_by_one = [row for single in singles for row in single[part]]
        assert sorted(map(repr, one_by_one)) == sorted(map(repr, at_once))
    assert Counter(row.reason for row in whole[1])["malformed_json"] == 2 * len(DAYS)


def test_days_need_not_be_neighbours(spark: SparkSession, folder: Path, whole: tuple[list[Row], list[Row]]) -> None:
    some = [DAYS[2], DAYS[0]]
    found, _ = collect(run(spark, folder, some))
    assert sorted(map(repr, found)) == sorted(repr(row) for row in whole[0] if row.turn_date in some)


def test_one_user_may_talk_all_day(spark: SparkSession, tmp_path: Path) -> None:
    step = timedelta(seconds=1.5)
    start = FIRST + timedelta(hours=2)
    turns = [Turn(f"t{n:05d}", "one", False, start + n * step) for n in range(50_000)]
    write_logs(tmp_path / "logs", turns)
    rows = run(spark, tmp_path / "logs", DAYS[:1]).turns
    found = rows.agg(
        F.count("*").alias("n"), F.count_distinct("session_id").alias("sessions"), F.max("turn_index").alias("last")
    ).first()
    assert found is not None
    assert found.asDict() == {"n": 50_000, "sessions": 1, "last": 49_999}


@pytest.fixture(scope="module")
def nameless(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Turns without ids; two of them the same to the byte, two in all but the response."""
    folder = tmp_path_factory.mktemp("nameless")
    base = {"user_id": "u", "ts": "2026-03-02T10:00:00Z", "locale": "en", "text": "yes"}
    rows = [base, base, base | {"response": "fine"}, base | {"ts": "2026-03-02T10:00:01Z"}]
    content = "\n".join(json.dumps(row) for row in rows)
    (folder / f"{DAYS[0]}.jsonl").write_text(content, encoding="utf-8")
    return run(spark, folder, DAYS[:1]).turns.sort("turn_index").collect()


def test_turns_without_an_id_are_told_apart(nameless: list[Row]) -> None:
    assert [row.turn_index for row in nameless] == [0, 1, 2, 3]
    ids = [row.turn_id for row in nameless]
    assert len(set(ids)) == 4
    assert ids[:3] == sorted(ids[:3])
    assert ids[1:3] == [f"{ids[0]}-000000002", f"{ids[0]}-000000003"]
