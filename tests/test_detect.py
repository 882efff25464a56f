"""Detect on Spark: what runs on many machines gives what a plain loop gives."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from random import Random

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from plain_pairs import Row, compare
from selflearn.detect import (
    FRICTION_SIGNALS,
    PAIR_SIGNALS,
    LevelModel,
    compare_turns,
    count_patterns,
    daily_sampling,
    friction,
    rephrase_pairs,
    sample,
    score_pairs,
    score_turns,
    scoring,
    turn_levels,
)
from selflearn.detect.friction import level
from selflearn.detect.signals import PAIR_SIGNAL_NAMES, levels
from selflearn.lakehouse import tables
from selflearn.settings import Detect

DAYS = [date(2025, 1, 1) + timedelta(days=k) for k in range(3)]
GOALS = [
    json.dumps({"intent": intent, "slots": [{"name": "city", "value": city}] if city else []})
    for intent in ("weather", "traffic")
    for city in ("paris", "berlin", "")
]
TEXTS = ["weather in paris", "whether in paris", "traffic berlin", "東京の天気", "حالة الطقس", "no"]
SETTINGS = Detect(max_turns=3, max_gap_minutes=2, max_turns_per_session=9)

HAPPENED = [k for k, signal in enumerate(FRICTION_SIGNALS) if signal.group == "outcome"]
FLAGS = ("fallback", "error", "cancelled", "completed", "barge_in")


def a_turn(rng: Random, session: str, index: int, at: float) -> Row:
    goals = rng.sample(GOALS, rng.randint(0, 3))
    heard = rng.sample(TEXTS, rng.randint(0, 3))
    return {
        "turn_date": DAYS[0],
        "turn_id": f"{session}-{index:02}",
        "session_id": session,
        "turn_index": index,
        "user_id": "u",
        "ts": datetime(2025, 1, 1, 8) + timedelta(seconds=at),
        "locale": "en-US",
        "context": rng.choice(["", "city?"]),
        "text": "as it was typed",
        "normalised_text": rng.choice(TEXTS),
        "utterance_id": "x",
        "text_alternatives": rng.choice([None, [(text, rng.choice([None, -1.0, -2.5])) for text in heard]]),
        "asr_score": rng.choice([None, rng.random()]),
        "goal": rng.choice([None, *goals[:1]]),
        "nlu_score": rng.choice([None, rng.random()]),
        "nlu_alternatives": rng.choice([None, [(goal, rng.random()) for goal in goals]]),
        "prompt": rng.choice([None, "which city?"]),
        **{flag: rng.choice([None, False, True]) for flag in FLAGS},
        "feedback": rng.choice([None, -1, 0, 1]),
    }


def as_turns(spark: SparkSession, rows: list[Row]) -> DataFrame:
    listed = [tuple(row.get(name) for name in tables.TURNS.schema.fieldNames()) for row in rows]
    return spark.createDataFrame(listed, tables.TURNS.schema)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Sessions of 1 to 14 turns, some pauses in them longer than the largest gap, in no order at all."""
    rng = Random(11)
    found = []
    for number in range(25):
        at = 0.0
        for index in range(rng.randint(1, 14)):
            at += rng.choice([3.0, 20.0, 59.5, 120.0, 400.0])
            found.append(a_turn(rng, f"s{number:02}", index, at))
    rng.shuffle(found)
    return found


@pytest.fixture(scope="module")
def turns(spark: SparkSession, rows: list[Row]) -> DataFrame:
    names = tables.TURNS.schema.fieldNames()
    return spark.createDataFrame([tuple(row.get(name) for name in names) for row in rows], tables.TURNS.schema)


@pytest.fixture
def small_batches(spark: SparkSession) -> Iterator[None]:
    name = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(name)
    spark.conf.set(name, "7")
    yield
    spark.conf.set(name, str(before))


def prepared(row: Row) -> Row:
    heard, readings = row["text_alternatives"], row["nlu_alternatives"]
    return {
        **row,
        "texts": [text for text, _ in heard] if heard else heard,
        "text_scores": [score for _, score in heard] if heard else heard,
        "goals": [goal for goal, _ in readings] if readings else readings,
        "goal_scores": [score for _, score in readings] if readings else readings,
        "at": (row["ts"] - datetime(1970, 1, 1)) // timedelta(microseconds=1),
        "fallback": bool(row["fallback"]),
        "trouble": bool(row["error"] or row["cancelled"] or row["feedback"] == -1),
    }


def compared(rows: list[Row], settings: Detect) -> dict[tuple[str, str], tuple[list[float], float]]:
    """The plain twin of `compare_turns`: every two turns of a session, in two loops."""
    sessions = defaultdict(dict)
    for row in rows:
        if row["turn_index"] < settings.max_turns_per_session:
            sessions[row["session_id"]][row["turn_index"]] = row
    pairs = {}
    for session in sessions.values():
        for i, source in session.items():
            for j, target in session.items():
                gap = target["ts"] - source["ts"]
                if 0 < j - i <= settings.max_turns and gap <= timedelta(minutes=settings.max_gap_minutes):
                    signals, seed = compare(prepared(source), prepared(target), j - i)
                    pairs[source["turn_id"], target["turn_id"]] = list(signals.values()), seed
    return pairs


@pytest.mark.usefixtures("small_batches")
def test_pairs_of_turns_equal_two_plain_loops(turns: DataFrame, rows: list[Row]) -> None:
    expected = compared(rows, SETTINGS)
    assert 100 < len(expected) < len(compared(rows, Detect()))
    found = compare_turns(turns.repartition(5), SETTINGS).collect()
    assert len(found) == len(expected)
    assert found[0].asDict().keys() == set(tables.PAIR_SIGNALS.schema.fieldNames())
    for row in found:
        signals, seed = expected[row["source_turn_id"], row["target_turn_id"]]
        given = np.array([math.nan if value is None else value for value in row["signals"]])
        np.testing.assert_allclose(given, signals, rtol=0, atol=1e-9)
        assert row["seed"] == pytest.approx(seed, abs=1e-12)
        assert row["levels"] == levels(given[None, :], PAIR_SIGNALS)[0].tolist()
        assert row["turn_date"] == DAYS[0]
        ends = (row["source_turn_index"], row["target_turn_index"])
        assert ends == (int(row["source_turn_id"][-2:]), int(row["target_turn_id"][-2:]))


def test_a_user_who_talks_all_day_costs_the_cap(spark: SparkSession, rows: list[Row]) -> None:
    number = spark.range(50_000, numPartitions=3).select(F.col("id").cast("int").alias("number"))
    endless = number.crossJoin(F.broadcast(as_turns(spark, rows[:1]))).withColumns(
        {
            "turn_index": F.col("number"),
            "turn_id": F.concat(F.lit("t"), F.col("number").cast("string")),
            "ts": F.timestamp_seconds(F.col("number")),
        }
    )
    settings = Detect(max_turns=2, max_turns_per_session=600)
    pairs = compare_turns(endless, settings).agg(F.count("*").alias("n"), F.max("target_turn_index").alias("last"))
    assert tuple(pairs.first() or ()) == (2 * 600 - 3, 599)


def a_model(name: str, seed: int) -> LevelModel:
    rng = np.random.default_rng(seed)
    signals = PAIR_SIGNALS if name == "pair" else FRICTION_SIGNALS
    match, unmatch = (
        tuple((0.0, *map(float, rng.dirichlet(np.ones(signal.n_levels - 1)))) for signal in signals) for _ in range(2)
    )
    return LevelModel(name, tuple(s.name for s in signals), match, unmatch, -1.0 + seed, 0.3, 0.75, 1e4, 1)


def test_friction_of_turns_and_pairs_equals_plain_python(turns: DataFrame, rows: list[Row]) -> None:
    pair_model, friction_model = a_model("pair", 1), a_model("friction", 2)
    scored = score_pairs(compare_turns(turns, SETTINGS), {DAYS[0]: pair_model, DAYS[1]: a_model("pair", 3)})
    levelled = turn_levels(turns, scored)
    outcomes = score_turns(levelled, {DAYS[0]: friction_model}).cache()
    pairs = rephrase_pairs(scored, outcomes).collect()
    found = {row["turn_id"]: row for row in outcomes.collect()}
    patterns = {row["turn_id"]: row for row in levelled.collect()}
    outcomes.unpersist()

    def sigmoid(log_odds: float) -> float:
        return 1 / (1 + math.exp(-log_odds))

    p_rephrase, followed = {}, defaultdict(list)
    for (source, target), (signals, seed) in compared(rows, SETTINGS).items():
        cut = levels(np.array([signals]), PAIR_SIGNALS)
        p_rephrase[source, target] = sigmoid(pair_model.log_odds(cut, np.array([seed]))[0])
        followed[source].append((p_rephrase[source, target], signals))
    assert len(found) == len(rows)
    for row in rows:
        after = followed[row["turn_id"]]
        following = [signals for _, signals in after if signals[PAIR_SIGNAL_NAMES.index("distance")] == 1]
        of_next = following[0] if following else [math.nan] * len(PAIR_SIGNALS)
        again = max((p for p, _ in after), default=0.0)
        unread = bool(row["fallback"]) or row["goal"] is None
        trouble = bool(row["error"] or row["cancelled"])
        known = [
            row["nlu_score"], unread, row["asr_score"], trouble, row["completed"], row["feedback"], again,
            row["barge_in"], of_next[PAIR_SIGNAL_NAMES.index("prompt_repeated")], bool(after),
        ]  # fmt: skip
        cut = levels(np.array([[math.nan if v is None else float(v) for v in known]]), FRICTION_SIGNALS)
        read_right = 0.1 if unread else 1.0 if row["nlu_score"] is None else row["nlu_score"]
        doubt = 1 - read_right * (1.0 if row["asr_score"] is None else row["asr_score"])
        seed = doubt * (again + (1 - again) * friction._ACCEPTED_DOUBT)
        if unread or trouble or row["feedback"] == -1 or row["completed"] is False:
            seed = max(seed, 0.9)
        assert patterns[row["turn_id"]]["levels"] == cut[0].tolist()
        assert patterns[row["turn_id"]]["seed"] == pytest.approx(seed, abs=1e-9)
        p_friction = sigmoid(friction_model.log_odds(cut, np.array([seed]))[0])
        outcome = 0.3 * sum(friction_model.weights()[k][cut[0, k]] for k in HAPPENED)
        assert found[row["turn_id"]]["p_friction"] == pytest.approx(p_friction, abs=1e-9)
        assert found[row["turn_id"]]["outcome_log_odds"] == pytest.approx(outcome, abs=1e-9)
    assert len(pairs) == len(p_rephrase)
    for row in pairs:
        p = p_rephrase[row["source_turn_id"], row["target_turn_id"]]
        of_source = found[row["source_turn_id"]]["p_friction"]
        assert row["p_rephrase"] == pytest.approx(p, abs=1e-9)
        assert row["p_friction_source"] == of_source
        assert row["p_same_goal"] == pytest.approx(min(1.0, p / of_source), abs=1e-9)


def test_level_column_cuts_where_the_array_is_cut(spark: SparkSession) -> None:
    edges = sorted({edge for signal in PAIR_SIGNALS + FRICTION_SIGNALS for edge in signal.edges})
    values = [None, -1.0, *edges, *(np.nextafter(edge, -np.inf).item() for edge in edges), 1e9]
    known = [(None if value is None else float(value),) for value in values]
    frame = spark.createDataFrame(known, "value double")
    signals = PAIR_SIGNALS + FRICTION_SIGNALS
    cut = [level(F.col("value"), signal).alias(str(k)) for k, signal in enumerate(signals)]
    found = [tuple(row) for row in frame.select(*cut).collect()]
    matrix = np.repeat(np.array(values, dtype=float)[:, None], len(signals), axis=1)
    assert found == [tuple(row) for row in levels(matrix, signals).tolist()]


def test_patterns_are_counted_and_a_large_day_is_sampled_by_its_keys(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = Random(5)
    rows = [
        (DAYS[k % 3], f"t{k}", [rng.randint(0, 1), rng.randint(0, 2)], rng.randint(0, 4) / 4)
        for k in range(600)
        if k % 3 < 2 or k < 60
    ]
    frame = spark.createDataFrame(rows, "turn_date date, turn_id string, levels array<tinyint>, seed double")
    found = count_patterns(sample(frame, "turn_id", daily_sampling(frame)), "pair").collect()
    expected: dict[tuple[date, str], list[float]] = defaultdict(list)
    for day, _, pattern, seed in rows:
        expected[day, "".join(map(str, pattern))].append(seed)
    assert {row["model"] for row in found} == {"pair"}
    assert {(row["turn_date"], row["pattern"]): (row["n"], row["seed_sum"]) for row in found} == {
        key: (len(seeds), sum(seeds)) for key, seeds in expected.items()
    }

    monkeypatch.setattr(scoring, "MAX_SAMPLED_PER_DAY", 50)

    def sampled(frame: DataFrame) -> set[tuple[date, str]]:
        chosen = sample(frame, "turn_id", daily_sampling(frame))
        assert chosen.columns == frame.columns
        return {(row["turn_date"], row["turn_id"]) for row in chosen.collect()}

    once = sampled(frame)
    per_day = Counter(day for day, _ in once)
    assert all(20 <= per_day[day] <= 80 for day in DAYS[:2])
    assert per_day[DAYS[2]] == 20
    # A day's sample depends on nothing but the day.
    alone = sampled(frame.repartition(7, "levels").where(F.col("turn_date") == DAYS[0]))
    assert alone == {(day, turn) for day, turn in once if day == DAYS[0]}
