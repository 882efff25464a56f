"""Detect on Spark: what runs on many machines gives what a plain loop gives."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy.special import expit

from plain_friction import Pair, outcome
from plain_merging import merged
from plain_pairs import Row, compare
from selflearn.detect import (
    FOLLOW_UP_SIGNALS,
    PAIR_SIGNALS,
    Detector,
    FrictionModel,
    LevelModel,
    detection,
    rephrase_pairs,
    sample_sessions,
    score_turns,
    turn_outcomes,
)
from selflearn.detect.additive import AdditiveModel
from selflearn.detect.friction import Seeding
from selflearn.detect.merging import LEAST_PROBABLE
from selflearn.detect.signals import levels
from selflearn.lakehouse import tables
from selflearn.settings import Detect

DAYS = [date(2025, 1, 1) + timedelta(days=k) for k in range(3)]
GOALS = [
    json.dumps({"intent": intent, "slots": [{"name": name, "value": value} for name, value in slots]})
    for intent in ("weather", "traffic")
    for slots in ([], [("city", "paris")], [("city", "berlin"), ("day", "friday")])
]
TEXTS = ["weather in paris", "whether in paris", "traffic berlin", "東京の天気", "حالة الطقس", "no"]
SETTINGS = Detect(max_turns=3, max_gap_minutes=2, max_turns_per_session=9)

FLAGS = ("fallback", "error", "cancelled", "completed", "barge_in")


def a_turn(rng: Random, session: str, index: int, at: float) -> Row:
    goals = rng.sample(GOALS, rng.randint(0, 3))
    heard = rng.sample(TEXTS, rng.randint(0, 3))
    return {
        "turn_date": DAYS[int(session[1:]) % len(DAYS)],
        "turn_id": f"{session}-{index:02}",
        "session_id": session,
        "turn_index": index,
        "user_id": "u",
        "ts": datetime(2025, 1, 1, 8) + timedelta(seconds=at),
        "locale": "en-US",
        "context": rng.choice(["", "city?"]),
        "text": "as it was typed",
        "normalised_text": rng.choice(TEXTS),
        "utterance_id": rng.choice(["x", "y"]),
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
        "goals": [goal for goal, _ in readings] if readings else readings,
        "goal_scores": [score for _, score in readings] if readings else readings,
        "at": (row["ts"] - datetime(1970, 1, 1)) // timedelta(microseconds=1),
        "failed": bool(row["error"] or row["cancelled"]),
    }


def compared(rows: list[Row], settings: Detect) -> dict[tuple[str, str], tuple[dict[str, float], float]]:
    """The plain twin of the comparison: every two turns of a session, in two loops; signals and seeds by ids."""
    sessions = defaultdict(dict)
    for row in rows:
        sessions[row["session_id"]][row["turn_index"]] = row
    pairs = {}
    for session in sessions.values():
        # What lies beyond the cap is not compared, and not seen.
        ends = {max(session), settings.max_turns_per_session - 1}
        for i, source in sorted(session.items()):
            for j, target in sorted(session.items()):
                gap = target["ts"] - source["ts"]
                if (
                    j < settings.max_turns_per_session
                    and 0 < j - i <= settings.max_turns
                    and gap <= timedelta(minutes=settings.max_gap_minutes)
                ):
                    found = compare(prepared(source), prepared(target), j - i, is_last=j in ends)
                    pairs[source["turn_id"], target["turn_id"]] = found
    return pairs


def pair_model(seed: int) -> LevelModel:
    rng = np.random.default_rng(seed)
    match, unmatch = (
        tuple((0.0, *map(float, rng.dirichlet(np.ones(signal.n_levels - 1)))) for signal in PAIR_SIGNALS)
        for _ in range(2)
    )
    reliance = tuple(map(float, rng.uniform(0.2, 1, len(PAIR_SIGNALS))))
    names = tuple(signal.name for signal in PAIR_SIGNALS)
    edges = tuple(signal.edges for signal in PAIR_SIGNALS)
    return LevelModel("pair", names, edges, match, unmatch, reliance, -1.0 + seed, 0.3, 0.75, 1e4, 1)


def friction_model(seed: int) -> FrictionModel:
    rng = np.random.default_rng(seed)
    rows = tuple(tuple(map(float, rng.normal(0, 0.5, signal.n_levels))) for signal in FOLLOW_UP_SIGNALS)
    weights = AdditiveModel(tuple(signal.name for signal in FOLLOW_UP_SIGNALS), rows, -1.0)
    path_trouble = {'["weather", "city?", ""]': 2.0, '[null, "", null]': 0.5}
    evidence = AdditiveModel(weights.signals[1:], tuple(tuple(2 * w for w in row) for row in weights.weights[1:]), -1.5)
    return FrictionModel(
        Seeding(0.2 + 0.1 * seed, 0.03, (0.1, 0.4), (0.05, 0.5)), weights, evidence, path_trouble, {"x": 0.6}, 1e4
    )


DETECTORS = {day: Detector(pair_model(k), friction_model(k)) for k, day in enumerate(DAYS)}


@pytest.mark.usefixtures("small_batches")
def test_scores_of_turns_and_pairs_equal_plain_loops(turns: DataFrame, rows: list[Row]) -> None:
    expected = compared(rows, SETTINGS)
    assert 100 < len(expected) < len(compared(rows, Detect()))
    scored = score_turns(turns.repartition(5), DETECTORS, SETTINGS).cache()
    outcomes = {row["turn_id"]: row for row in turn_outcomes(scored).collect()}
    pairs = {(row["source_turn_id"], row["target_turn_id"]): row for row in rephrase_pairs(scored).collect()}
    assert scored.count() == len(outcomes) == len(rows)
    assert turn_outcomes(scored).schema.names == tables.TURN_OUTCOMES.schema.names
    assert rephrase_pairs(scored).schema.names == tables.REPHRASE_PAIRS.schema.names
    scored.unpersist()
    assert pairs.keys() == expected.keys()

    after, cuts = defaultdict(list), {}
    by_id = {row["turn_id"]: row for row in rows}
    most = SETTINGS.max_turns_per_session
    for (source, target), (signals, seed) in expected.items():
        cuts[source, target] = levels(np.array([list(signals.values())]), PAIR_SIGNALS)
        model = DETECTORS[by_id[source]["turn_date"]].pair
        p = expit(model.log_odds(cuts[source, target], np.array([seed]))[0])
        after[source].append(Pair(by_id[target]["turn_index"] % most, signals, float(p)))
        assert pairs[source, target]["p_rephrase"] == pytest.approx(p, abs=1e-9)
    compared_together = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["turn_index"]):
        compared_together[row["session_id"], row["turn_index"] // most].append(prepared(row))
    for session in compared_together.values():
        for at, row in enumerate(session):
            model = DETECTORS[row["turn_date"]].friction
            for name, value in outcome(model, session, at, after[row["turn_id"]]).items():
                assert outcomes[row["turn_id"]][name] == pytest.approx(value, abs=1e-9), name
    for (source, target), row in pairs.items():
        assert row["pattern"] == "".join(map(str, cuts[source, target][0]))
        assert row["p_friction_source"] == outcomes[source]["p_friction"]
        assert row["p_friction_target"] == outcomes[target]["p_friction"]
        assert row["p_same_goal"] == pytest.approx(min(1.0, row["p_rephrase"] / row["p_friction_source"]), abs=1e-9)
        ends = by_id[source], by_id[target]
        assert [row[f"{end}_turn_index"] for end in ("source", "target")] == [end["turn_index"] for end in ends]
        assert [row[f"{end}_utterance"] for end in ("source", "target")] == [end["utterance_id"] for end in ends]
        assert (row["turn_date"], row["session_id"]) == (ends[0]["turn_date"], ends[0]["session_id"])
        goal, p_merged = merged(*map(prepared, ends)) if row["p_rephrase"] >= LEAST_PROBABLE else (None, 0.0)
        assert (row["merged_goal"], row["p_merged"]) == (goal, None if goal is None else pytest.approx(p_merged))


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
    scored = score_turns(endless, DETECTORS, settings).select("turn_id", F.explode_outer("pairs").alias("pair"))
    found = scored.agg(
        F.count_distinct("turn_id").alias("turns"), F.count("pair").alias("pairs"), F.max("pair.target_turn_index")
    )
    assert tuple(found.first() or ()) == (50_000, 2 * 600 - 3, 599)


def test_a_large_day_is_sampled_by_whole_sessions(
    spark: SparkSession, turns: DataFrame, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_turns = dict(Counter(row["turn_date"] for row in rows))
    monkeypatch.setattr(detection, "MAX_SAMPLED_PER_DAY", min(n_turns.values()) - 1)

    def sampled(turns: DataFrame, n_turns: dict[date, int]) -> list[Row]:
        return sample_sessions(turns, n_turns).to_pylist()

    found = sampled(turns, n_turns)
    ordered = [(row["turn_date"], row["turn_id"]) for row in found]
    assert ordered == sorted(ordered)
    per_day = Counter(row["turn_date"] for row in found)
    assert all(0 < per_day[day] < n_turns[day] for day in n_turns)
    whole = {session: {row["turn_id"] for row in rows if row["session_id"] == session} for session in sessions(found)}
    assert set.union(*whole.values()) == {row["turn_id"] for row in found}
    # A day's sample depends on nothing but the day.
    alone = sampled(turns.repartition(7, "user_id").where(F.col("turn_date") == DAYS[0]), {DAYS[0]: n_turns[DAYS[0]]})
    assert alone == [row for row in found if row["turn_date"] == DAYS[0]]
    # Of an endless session its beginning stands for it, and small days are taken whole.
    monkeypatch.setattr(detection, "MAX_SAMPLED_PER_DAY", 10_000)
    monkeypatch.setattr(detection, "_SAMPLED_PER_SESSION", 3)
    beginnings = sampled(turns, n_turns)
    assert {row["turn_id"] for row in beginnings} == {row["turn_id"] for row in rows if row["turn_index"] < 3}


def sessions(rows: list[Row]) -> set[str]:
    return {row["session_id"] for row in rows}


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_batches_are_cut_where_sessions_end(size: int) -> None:
    lengths = [3, 1, 1, 7, 12, 2]
    ids = [f"s{k}" for k, length in enumerate(lengths) for _ in range(length)]
    indexes = [index for length in lengths for index in range(length)]
    table = pa.table({"session_id": ids, "turn_index": pa.array(indexes, pa.int32())})
    cut = list(detection._whole_sessions(table.to_batches(max_chunksize=size), most=5))
    assert pa.concat_tables(cut).equals(table)
    pieces = [{(row["session_id"], row["turn_index"] // 5) for row in piece.to_pylist()} for piece in cut]
    assert sum(map(len, pieces)) == len(set.union(*pieces)) == len({*zip(ids, (k // 5 for k in indexes), strict=True)})
    assert all(len(piece) <= size + 5 for piece in cut)
