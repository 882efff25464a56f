"""Evidence and windows on Spark equal plain sums over people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from selflearn.graph import cap_users, evidence, sum_window, window_days
from selflearn.graph.people import n_people
from selflearn.lakehouse import tables
from selflearn.lakehouse.schema import Table
from selflearn.settings import Graph

DAYS = [date(2025, 1, 1) + timedelta(days=k) for k in range(2)]
SETTINGS = Graph(min_pair_probability=0.2, window_days=30, half_life_days=10)
SUMS = ("n", "p_sum", "friction_sum", "gave_up_sum", "n_outcomes", "outcome_sum")

Row = dict[str, Any]
Key = tuple[date, str, str, str, str]
Told = Callable[[str, str, str], Row]


def frame(spark: SparkSession, table: Table, rows: list[Row]) -> DataFrame:
    return spark.createDataFrame([tuple(map(row.get, table.schema.fieldNames())) for row in rows], table.schema)


def said(turn_id: str, user: str, utterance: str, **fields: Any) -> Row:
    return {
        "turn_date": DAYS[0],
        "turn_id": turn_id,
        "session_id": turn_id,
        "turn_index": 0,
        "user_id": user,
        "ts": datetime(2025, 1, 1, 12),
        "locale": "en-US",
        "context": f"context of {utterance}",
        "text": f"text of {utterance}",
        "normalised_text": utterance,
        "utterance_id": utterance,
    } | fields


def outcome(row: Row, p_friction: float, log_odds: float) -> Row:
    of_turn = {name: row[name] for name in ("turn_date", "turn_id", "user_id", "utterance_id")}
    unread = dict.fromkeys(tables.TURN_OUTCOMES.schema.fieldNames(), 0.0)
    return unread | of_turn | {"p_friction": p_friction, "p_gave_up": p_friction / 4, "outcome_log_odds": log_odds}


def pair(source: Row, target: Row, p: float, friction: float = 0.5) -> Row:
    return {
        "turn_date": source["turn_date"],
        "session_id": source["session_id"],
        "source_turn_id": source["turn_id"],
        "target_turn_id": target["turn_id"],
        "source_turn_index": 0,
        "target_turn_index": 1,
        "locale": source["locale"],
        "user_id": source["user_id"],
        "source_utterance": source["utterance_id"],
        "target_utterance": target["utterance_id"],
        "pattern": "",
        "p_friction_source": friction,
        "p_friction_target": 0.5,
        "p_same_goal": p,
        "p_rephrase": p,
    }


class Log:
    """Turns with their outcomes and pairs, as lists of plain rows."""

    def __init__(self, turns: list[Row], outcomes: list[Row], pairs: list[Row]) -> None:
        self.turns, self.outcomes, self.pairs = turns, outcomes, pairs

    def only(self, day: date) -> Log:
        return Log(*([row for row in part if row["turn_date"] == day] for part in vars(self).values()))

    def mined(self, spark: SparkSession, settings: Graph = SETTINGS) -> DataFrame:
        turns, _ = cap_users(frame(spark, tables.TURNS, self.turns), settings)
        return evidence(
            turns,
            frame(spark, tables.TURN_OUTCOMES, self.outcomes),
            frame(spark, tables.REPHRASE_PAIRS, self.pairs),
            settings,
        )


@pytest.fixture(scope="module")
def log() -> Log:
    """Few people, few utterances and few goals, so that nearly everything is said more than once."""
    rng = Random(3)
    turns, outcomes, pairs = [], [], []
    for number in range(160):
        goals = rng.sample(["g1", "g2", "g3"], rng.randint(0, 3))
        scores = [rng.choice([0.1, 0.4, 0.9]) for _ in goals]
        row = said(
            f"t{number}",
            f"user {rng.randint(0, 4)}",
            f"u{rng.randint(0, 5)}",
            turn_date=rng.choice(DAYS),
            goal=rng.choice([None, *goals, "g1"]),
            nlu_score=rng.choice([None, 0.8]),
            nlu_alternatives=rng.choice([None, list(zip(goals, scores, strict=True))]),
            fallback=rng.choice([None, False, True]),
        )
        turns.append(row)
        outcomes.append(outcome(row, rng.random(), rng.uniform(-3, 3)))
    for _ in range(120):
        source, target = rng.sample(turns, 2)
        if source["turn_date"] == target["turn_date"]:
            merge = rng.choice([(None, None), ("g1", 0.0), ("g1", 0.4), ("g2", 1.0)])
            found = pair(source, target, rng.choice([0.1, 0.2, 0.5, 0.9]), rng.random())
            pairs.append(found | dict(zip(("merged_goal", "p_merged"), merge, strict=True)))
    return Log(turns, outcomes, pairs)


def considered(row: Row) -> list[tuple[str, float]]:
    if row.get("nlu_alternatives"):
        total = max(1.0, sum(score for _, score in row["nlu_alternatives"]))
        return [(goal, score / total) for goal, score in row["nlu_alternatives"]]
    score = row.get("nlu_score")
    return [(row["goal"], 1.0 if score is None else score)] if row.get("goal") else []


def plain(log: Log) -> dict[Key, Row]:
    """The twin: every user's mean over a day's turns of an utterance, added up over users."""
    outcomes = {row["turn_id"]: row for row in log.outcomes}
    turns = {row["turn_id"]: row for row in log.turns}
    by_user = defaultdict(list)
    for row in log.turns:
        by_user[row["turn_date"], row["locale"], row["utterance_id"], row["user_id"]].append(row)
    found: dict[Key, Row] = defaultdict(lambda: dict.fromkeys(SUMS, 0.0) | {"users": set()})
    for (day, locale, utterance, user), mine in by_user.items():
        for row in mine:
            share, after = 1 / len(mine), outcomes[row["turn_id"]]
            node = found[day, "utterance", locale, utterance, ""]
            node["users"].add(user)
            node["n"] += share
            node["p_sum"] += share
            node["friction_sum"] += share * after["p_friction"]
            node["gave_up_sum"] += share * after["p_gave_up"]
            for goal, probability in considered(row):
                reading = found[day, "reading", locale, utterance, goal]
                reading["n"] += share
                reading["p_sum"] += share * probability
                if goal == row["goal"] and not row.get("fallback"):
                    reading["friction_sum"] += share * after["p_friction"]
                    reading["n_outcomes"] += share
                    reading["outcome_sum"] += share * after["outcome_log_odds"]
    strongest: dict[tuple[Any, ...], tuple[float, float]] = {}
    for row in log.pairs:
        source, target = turns[row["source_turn_id"]], turns[row["target_turn_id"]]
        ends = source["utterance_id"], target["utterance_id"]
        if row["p_rephrase"] >= SETTINGS.min_pair_probability and ends[0] != ends[1]:
            says = [("pair", ends[1], row["p_rephrase"])]
            if row["merged_goal"] and row["p_merged"]:
                says.append(("merge", row["merged_goal"], row["p_rephrase"] * row["p_merged"]))
            for kind, what, p_now in says:
                key = (row["turn_date"], kind, source["locale"], ends[0], what, source["user_id"])
                p, friction = strongest.get(key, (0.0, 0.0))
                strongest[key] = max(p, p_now), max(friction, row["p_friction_source"])
    for (*key, user), (p, friction) in strongest.items():
        edge = found[tuple(key)]
        edge["users"].add(user)
        edge["n"] += 1
        edge["p_sum"] += p
        edge["friction_sum"] += friction
    return found


def counted(mined: DataFrame) -> list[Row]:
    return [row.asDict() for row in mined.withColumn("n_users", n_people(F.col("users"))).collect()]


def keyed(rows: list[Row]) -> dict[Key, Row]:
    found = {tuple(row[name] for name in tables.EVIDENCE.key): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def mined(spark: SparkSession, log: Log) -> list[Row]:
    found = log.mined(spark)
    assert found.columns == tables.EVIDENCE.schema.fieldNames()
    return counted(found)


def assert_same(found: dict[Key, Row], expected: dict[Key, Row]) -> None:
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert {name: found[key][name] for name in SUMS} == pytest.approx({name: row[name] for name in SUMS}, abs=1e-9)
        assert found[key]["n_users"] == (len(row["users"]) or None)


def test_evidence_equals_the_plain_sums(mined: list[Row], log: Log) -> None:
    found, expected = keyed(mined), plain(log)
    assert {key[1] for key in expected} == {"utterance", "reading", "pair", "merge"}
    assert_same(found, expected)
    for (_, kind, _, utterance, _), row in found.items():
        words = (f"context of {utterance}", f"text of {utterance}") if kind == "utterance" else (None, None)
        assert (row["context"], row["text"]) == words


def test_a_day_alone_has_the_evidence_it_has_among_others(spark: SparkSession, mined: list[Row], log: Log) -> None:
    of_day = log.only(DAYS[1])
    among_others = [row for row in mined if row["turn_date"] == DAYS[1]]
    for rows in (among_others, counted(of_day.mined(spark))):
        assert_same(keyed(rows), plain(of_day))


@pytest.fixture(scope="module")
def told(spark: SparkSession) -> Told:
    """Hand-made turns; each case has an utterance of its own, so that one job serves all."""
    alike = {"goal": "g", "nlu_score": 0.6}
    loud = [said(f"loud{k}", "shouter", "loud", **alike) for k in range(50)]
    loud.append(said("calm", "somebody", "loud", **alike))
    above = [said("above", "u", "above one", goal="a", nlu_alternatives=[("a", 0.9), ("b", 0.6)])]
    fallback = [said("fallback", "u", "fell back", fallback=True, **alike)]
    unread = [said("unread", "u", "unread")]
    unscored = [said("unscored", "u", "unscored", goal="a", nlu_alternatives=[("a", None), ("b", -2.0)])]
    again = [said("again", "shouter", "said again"), said("again2", "somebody", "said again")]
    turns = [*loud, *above, *fallback, *unread, *unscored, *again]
    frictions = dict.fromkeys((row["turn_id"] for row in turns), 1.0)
    frictions["calm"] = 0.0
    pairs = [pair(row, again[0], 0.3) for row in loud[:49]] + [pair(loud[49], again[0], 0.8, 0.9)]
    pairs += [pair(loud[50], again[1], 0.199), pair(again[0], again[1], 0.9), pair(unread[0], again[0], 0.2)]
    outcomes = [outcome(row, frictions[row["turn_id"]], 2.0) for row in turns]
    rows = keyed(counted(Log(turns, outcomes, pairs).mined(spark)))
    return lambda kind, source, target: rows.get((DAYS[0], kind, "en-US", source, target), {})


def test_a_user_counts_once_per_edge_and_day(told: Told) -> None:
    node, reading = told("utterance", "loud", ""), told("reading", "loud", "g")
    edge = told("pair", "loud", "said again")
    assert (node["n"], node["n_users"]) == pytest.approx((2, 2))
    assert node["friction_sum"] == pytest.approx(1.0)
    assert (reading["n"], reading["n_outcomes"]) == pytest.approx((2, 2))
    assert reading["p_sum"] == pytest.approx(1.2)
    # The shouter's strongest pair counts, once; the other person's is too improbable to count.
    assert (edge["n"], edge["p_sum"], edge["friction_sum"], edge["n_users"]) == (1, 0.8, 0.9, 1)


def test_of_a_user_who_talks_all_day_about_the_cap_counts(spark: SparkSession) -> None:
    talk = [said(f"talk {k}", "talker", f"u{k}") for k in range(300)]
    turns = [*talk, *(said(f"other {k}", f"user {k}", "u0") for k in range(20))]
    log = Log(turns, [outcome(row, 0.5, 0.0) for row in turns], [])
    capped = SETTINGS.model_copy(update={"max_turns_per_user": 30})
    nodes = log.mined(spark, capped).where("kind = 'utterance'").collect()
    heard = {row["source_utterance"]: row["n"] for row in nodes}
    assert 15 <= len(heard) <= 50
    assert heard["u0"] >= 20
    given = frame(spark, tables.TURNS, turns)
    assert cap_users(given, capped)[1] == 270
    assert cap_users(given, SETTINGS) == (given, 0)


def test_probabilities_that_sum_above_one_are_scaled(told: Told) -> None:
    assert told("reading", "above one", "a")["p_sum"] == pytest.approx(0.6)
    assert told("reading", "above one", "b")["p_sum"] == pytest.approx(0.4)
    assert told("reading", "above one", "b")["n_outcomes"] == 0


def test_an_alternative_without_a_probability_has_one_all_the_same(told: Told) -> None:
    for goal in "ab":
        assert 0 <= told("reading", "unscored", goal)["p_sum"] <= 1


def test_a_fallback_is_no_outcome_of_the_reading(
    told: Told,
) -> None:
    reading = told("reading", "fell back", "g")
    assert (reading["n"], reading["p_sum"]) == (1, 0.6)
    assert reading["n_outcomes"] == reading["outcome_sum"] == reading["friction_sum"] == 0
    assert told("utterance", "fell back", "")["friction_sum"] == 1


def test_an_unread_utterance_has_pairs_and_no_readings(told: Told) -> None:
    assert told("utterance", "unread", "")["n"] == 1
    assert told("reading", "unread", "g") == {}
    assert told("pair", "unread", "said again")["p_sum"] == 0.2
    assert told("pair", "said again", "said again") == {}


READ = ("p_sum", "n_outcomes", "outcome_sum")


def test_window_sums_decay_by_half_per_half_life(spark: SparkSession, mined: list[Row], log: Log) -> None:
    as_of = DAYS[-1] + timedelta(days=5)
    window = sum_window(frame(spark, tables.EVIDENCE, mined), as_of, SETTINGS)
    sums: dict[tuple[str, ...], Row] = defaultdict(lambda: dict.fromkeys((*SUMS, "weight"), 0.0) | {"users": set()})
    for (day, *key), row in plain(log).items():
        weight = 0.5 ** ((as_of - day).days / 10)
        total = sums[tuple(key)]
        total["users"] |= row["users"]
        total["weight"] = max(total["weight"], weight)
        for name in SUMS:
            total[name] += weight * row[name]
    found = {}
    readings = window.utterances.select("locale", "utterance_id", F.inline("readings"))
    once = readings.groupBy("locale", "utterance_id", "goal").agg(*(F.sum(name).alias(name) for name in READ))
    for kind, rows, *key in (
        ("utterance", window.utterances.drop("readings"), "utterance_id"),
        ("reading", once, "utterance_id", "goal"),
        ("pair", window.pairs, "source_utterance", "target_utterance"),
        ("merge", window.merges, "utterance_id", "goal"),
    ):
        counted = rows if kind == "reading" else rows.withColumn("n_users", n_people(F.col("users")))
        for row in counted.collect():
            found[(kind, row["locale"], *(row[name] for name in key), "")[:4]] = row.asDict()
    assert found.keys() == sums.keys()
    for key, row in found.items():
        total = sums[key]
        total |= {"friction": total["friction_sum"] / total["n"], "p": total["p_sum"] / total["n"]}
        numbers = {name: value for name, value in row.items() if isinstance(value, float)}
        assert numbers == pytest.approx({name: total[name] for name in numbers}, abs=1e-9)
        assert row.get("n_users", 0) == (0 if key[0] == "reading" else len(total["users"]))


def test_a_turn_served_under_a_rewrite_counts_for_the_rewrite_alone(spark: SparkSession, log: Log) -> None:
    served = [
        said(f"served{k}", user, "u1", rewrite_id="r", goal="g1", nlu_score=0.9)
        for k, user in enumerate(["user 0", "user 0", "user 9"])
    ]
    outcomes = [outcome(row, p, 1.0) for row, p in zip(served, (0.2, 0.6, 0.8), strict=True)]
    organic = log.turns[0]
    pairs = [pair(served[0], organic, 0.9), pair(organic, served[1], 0.9)]
    both = Log([*log.turns, *served], [*log.outcomes, *outcomes], [*log.pairs, *pairs])
    found = keyed(counted(both.mined(spark)))
    rewrite = found.pop((DAYS[0], "rewrite", "en-US", "u1", "r"))
    assert {name: rewrite[name] for name in SUMS} == pytest.approx(
        {"n": 2, "p_sum": 2, "friction_sum": 0.4 + 0.8, "gave_up_sum": 0.3, "n_outcomes": 0, "outcome_sum": 0}
    )
    assert rewrite["n_users"] == 2
    assert_same(found, plain(log))


def test_window_ends_with_its_day() -> None:
    assert window_days(DAYS[1], SETTINGS.model_copy(update={"window_days": 2})) == DAYS
    assert len(window_days(DAYS[1], SETTINGS)) == 30
