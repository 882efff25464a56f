"""Windows of evidence: half-lives by domain, bursts, habits, and preferences that change."""

from __future__ import annotations

import json
from datetime import date, timedelta
from math import comb
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from selflearn.graph import (
    PoolWeights,
    by_words,
    first_messages,
    goal_masses,
    goal_names,
    goal_prior,
    graph_edges,
    graph_nodes,
    links,
    merge_messages,
    own_beliefs,
    pool_evidence,
    sum_window,
    weighted,
)
from selflearn.graph.window import is_burst
from selflearn.lakehouse import tables
from selflearn.settings import Graph

AS_OF = date(2025, 6, 30)
HALF_LIFE = 10
PEOPLE = 12

Row = dict[str, Any]


def goal(intent: str) -> str:
    return json.dumps({"intent": intent, "slots": []}, separators=(",", ":"))


def row(age: int, kind: str, utterance: str, target: str = "", n: float = 3.0, **sums: Any) -> Row:
    """Of some days ago; another three of all people each day."""
    known = dict.fromkeys(tables.EVIDENCE.schema.fieldNames())
    numbers = dict.fromkeys(("p_sum", "friction_sum", "gave_up_sum", "n_outcomes", "outcome_sum"), 0.0)
    words = {"context": "", "text": utterance} if kind == "utterance" else {}
    users = None if kind == "reading" else [(age * 3 + k) % PEOPLE for k in range(3)]
    of = {"turn_date": AS_OF - timedelta(age), "kind": kind, "locale": "en", "source_utterance": utterance}
    return known | numbers | of | {"target": target, "n": n, "users": users} | words | sums


def frame(spark: SparkSession, rows: list[Row]) -> Any:
    names = tables.EVIDENCE.schema.fieldNames()
    return spark.createDataFrame([tuple(of[name] for name in names) for of in rows], tables.EVIDENCE.schema)


def test_evidence_fades_with_the_half_life_of_its_domain(spark: SparkSession) -> None:
    halves = {"news": 2.0, "news.archive": 40.0}
    intents = {"a": "music.play", "b": "news.read", "c": "news.archive.find"}
    rows = [row(20, "reading", of, goal(intent), p_sum=2.0) for of, intent in intents.items()]
    rows += [row(20, "reading", of, goal("music.stop"), p_sum=0.5) for of in intents]
    rows += [row(20, "utterance", of) for of in intents] + [row(20, "pair", "b", "a")]
    settings = Graph(half_life_days=10, domain_half_life_days=halves)
    found = weighted(frame(spark, rows), AS_OF, settings).select("source_utterance", "kind", "weight").collect()
    expected = {"a": 0.5**2, "b": 0.5**10, "c": 0.5**0.5}
    assert [of["weight"] for of in found] == pytest.approx([expected[of["source_utterance"]] for of in found])
    assert {of["kind"] for of in found if of["source_utterance"] == "b"} == {"reading", "utterance", "pair"}


def test_the_longest_beginning_of_an_intent_names_its_half_life() -> None:
    settings = Graph(half_life_days=10.0, domain_half_life_days={"news": 2.0, "news.archive": 40.0})
    found = [settings.half_life_of(intent) for intent in ("music", "news", "newsletter", "news.archive.find")]
    assert found == [10.0, 2.0, 2.0, 40.0]


def test_a_burst_is_more_on_one_day_than_chance_gives(spark: SparkSession) -> None:
    cases = [(n, busiest) for n in range(1, 41) for busiest in range(1, n + 1)]
    rows = spark.createDataFrame([tuple(map(float, case)) for case in cases], "n double, busiest double")
    found = rows.select("n", "busiest", is_burst(F.col("n"), F.col("busiest")).alias("is_burst")).collect()
    bursts = {(int(of["n"]), int(of["busiest"])) for of in found if of["is_burst"]}
    for n, busiest in bursts:
        tail = sum(comb(n, k) * (1 / 7) ** k * (6 / 7) ** (n - k) for k in range(busiest, n + 1))
        assert 7 * tail < 0.001
    assert {(5, 5), (20, 13), (40, 18)} <= bursts
    assert not {(4, 4), (20, 8), (40, 12)} & bursts


def test_people_who_come_back_every_few_days_are_one_voice(spark: SparkSession) -> None:
    """A day's three people are others of twelve each day, so that in 16 days each says so on 4."""
    rows = [row(age, "pair", of, "v") for of, days in {"seldom": 12, "often": 16}.items() for age in range(days)]
    rows += [row(age, "utterance", of) for of in ("seldom", "often", "v") for age in range(16)]
    window = sum_window(frame(spark, rows), AS_OF, Graph(half_life_days=HALF_LIFE))
    votes = {of["source_utterance"]: of["n_votes"] for of in graph_edges(window, AS_OF).collect()}
    assert votes == {"seldom": PEOPLE, "often": 1.0}


def top_goal(spark: SparkSession, days_since_flip: int) -> str:
    """What `u` means, that meant `old` until some days ago: since then `old` fails and people go on to `v`."""
    rows = []
    for age in range(90):
        has_flipped = age < days_since_flip
        says = 2.0 if has_flipped else -2.0
        rows += [
            row(age, "utterance", "u", friction_sum=3.0 * has_flipped),
            row(age, "reading", "u", goal("old"), p_sum=2.1, n_outcomes=3.0, outcome_sum=3 * says),
            row(age, "reading", "u", goal("new"), p_sum=0.3),
            row(age, "utterance", "v"),
            row(age, "reading", "v", goal("new"), p_sum=2.7, n_outcomes=3.0, outcome_sum=-6.0),
        ]
        rows += [row(age, "pair", "u", "v", p_sum=2.4)] if has_flipped else []
    settings, weights = Graph(half_life_days=HALF_LIFE), PoolWeights()
    window = sum_window(frame(spark, rows), AS_OF, settings)
    masses = goal_masses(window)
    prior = goal_prior(masses)
    beliefs = own_beliefs(by_words(window.utterances), settings, weights, prior, {})
    messages = first_messages(links(graph_edges(window, AS_OF), None), beliefs)
    merged = merge_messages(window.merges, masses, prior)
    pooled = pool_evidence(beliefs, messages, merged, settings, weights, prior)
    nodes = graph_nodes(pooled, goal_names(masses), weights, AS_OF)
    (found,) = nodes.where("utterance_id = 'u' AND rank = 1").select("goal").collect()
    return str(json.loads(found["goal"])["intent"])


def test_a_change_of_preference_is_followed_within_two_half_lives(spark: SparkSession) -> None:
    assert top_goal(spark, 0) == "old"
    assert top_goal(spark, 2 * HALF_LIFE) == "new"
