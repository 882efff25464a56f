"""Labels: only goals that people stand behind, and the likeliest intents where there is none."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from selflearn.encoding import Encoder, LexicalEncoder, load_on_worker
from selflearn.labels import (
    Calibration,
    chosen_labels,
    unsure_intents,
    weak_labels,
    with_support,
)
from selflearn.labels.labelling import SUPPORT, wilson_lower_bound
from selflearn.lakehouse import tables
from selflearn.lakehouse.tables import OTHER_GOAL
from selflearn.settings import Labels

AS_OF = date(2025, 1, 31)
SETTINGS = Labels(threshold=0.8, thresholds={"stop": 0.95}, margin=0.1, min_users=3)

Row = dict[str, Any]


def goal(intent: str, *slots: tuple[str, str]) -> str:
    pairs = [{"name": name, "value": value} for name, value in sorted(slots)]
    return json.dumps({"intent": intent, "slots": pairs}, ensure_ascii=False, separators=(",", ":"))


def node(utterance: str, goal_: str, posterior: float, **fields: Any) -> Row:
    return {
        "as_of": AS_OF,
        "locale": "en-US",
        "utterance_id": utterance,
        "context": "",
        "text": "play jazz",
        "goal": goal_,
        "rank": 1,
        "posterior": posterior,
        "nlu_evidence": -1.0,
        "outcome_evidence": 2.0,
        "pair_evidence": 0.5,
        "variant_evidence": 1.5,
        "prior_evidence": -3.0,
        "refit_evidence": 0.0,
        "merge_evidence": 0.0,
        "posterior_without_one": 0.9,
        "p_nlu": 0.9,
        "n_turns": 8.0,
        "n_pairs": 0.0,
        "friction": 0.25,
        "n_users": 4,
        "n_users_behind": 4,
    } | fields


JAZZ, ROCK = goal("play", ("genre", "jazz")), goal("play", ("genre", "rock"))
STOP, WAIT = goal("stop"), goal("wait")


def nodes_frame(spark: SparkSession, nodes: list[Row]) -> DataFrame:
    schema = tables.GRAPH_NODES.schema
    return spark.createDataFrame([tuple(row[name] for name in schema.fieldNames()) for row in nodes], schema)


def labelled(
    spark: SparkSession,
    nodes: list[Row],
    calibration: Calibration | None = None,
    load: Callable[[], Encoder] | None = None,
) -> dict[str, Row]:
    chosen = chosen_labels(nodes_frame(spark, nodes), SETTINGS, calibration)
    labels = weak_labels(chosen, load=load)
    assert labels.columns == [name for name in tables.WEAK_LABELS.schema.fieldNames() if name not in SUPPORT]
    rows = labels.collect()
    found = {row["utterance_id"]: row.asDict(recursive=True) for row in rows}
    assert len(found) == len(rows)
    return found


def hand_made() -> Iterator[Row]:
    yield node("confirmed", JAZZ, 0.95)
    yield node("confirmed", ROCK, 0.05, rank=2, p_nlu=0.1)
    yield node("misread", JAZZ, 0.9, p_nlu=0.3, n_pairs=2.5)
    yield node("misread", ROCK, 0.1, rank=2, p_nlu=0.7, n_pairs=2.5, nlu_evidence=0.5, outcome_evidence=-1.0)
    yield node("unsure", JAZZ, 0.9, p_nlu=0.45)
    yield node("unsure", ROCK, 0.1, rank=2, p_nlu=0.4)
    yield node("unread", JAZZ, 0.9, p_nlu=0.0)
    yield node("unread", OTHER_GOAL, 0.1, rank=2, p_nlu=1.0)
    yield node("not in its words", ROCK, 0.9)
    yield node("its words say another", ROCK, 0.95, text="play jazz")
    yield node("its words say another", JAZZ, 0.05, rank=2, p_nlu=0.99, text="play jazz")
    yield node("too improbable", JAZZ, 0.7999)
    yield node("just probable", JAZZ, 0.8)
    yield node("too few people", JAZZ, 0.99, n_users_behind=2)
    yield node("sure of its intent", JAZZ, 0.5, p_nlu=0.4)
    yield node("sure of its intent", ROCK, 0.4, rank=2, p_nlu=0.6)
    yield node("sure of its intent", OTHER_GOAL, 0.1, rank=3, p_nlu=0.0)
    yield node("below its intent's threshold", STOP, 0.94)
    yield node("above its intent's threshold", STOP, 0.96)
    yield node("one person's", JAZZ, 0.99, posterior_without_one=0.49)
    yield node("none of them", OTHER_GOAL, 0.99)
    yield node("none of them", JAZZ, 0.01, rank=2)


def test_labels_say_what_is_new_and_who_stands_behind_it(spark: SparkSession) -> None:
    found = labelled(spark, list(hand_made()))
    assert {u: row["is_new"] for u, row in found.items()} == {
        "confirmed": False,
        "misread": True,
        "unsure": True,
        "unread": True,
        "not in its words": False,
        "just probable": False,
        "sure of its intent": False,
        "above its intent's threshold": False,
    }
    alone = found.pop("sure of its intent")
    assert (alone["goal"], alone["intent"], alone["slots"], alone["is_intent_only"]) == (None, "play", [], True)
    assert (alone["p_correct"], alone["p_slots"]) == (pytest.approx(0.9), None)
    assert "its intent alone" in alone["reason"]
    assert (found["misread"]["p_intent"], found["misread"]["p_slots"]) == (
        pytest.approx(1, abs=1e-5),
        pytest.approx(0.9),
    )
    votes = {vote["signal"]: vote["lead"] for vote in found["misread"]["votes"]}
    assert votes == {"nlu": -1.5, "outcome": 3.0, "pair": 0.0, "variant": 0.0, "refit": 0.0}
    assert found["misread"]["annotated_utterance"] == "play [genre : jazz]"
    assert found["misread"]["slots"] == [{"name": "genre", "value": "jazz", "start": 5, "end": 9}]
    assert not found["misread"]["is_intent_only"]
    assert found["not in its words"]["is_intent_only"]
    assert (found["not in its words"]["slots"], found["not in its words"]["intent"]) == ([], "play")
    assert (found["misread"]["nlu_goal"], found["unread"]["nlu_goal"]) == (ROCK, None)
    assert {row["goal"] for row in found.values()} == {JAZZ, ROCK, STOP}
    reasons = {utterance: row["reason"] for utterance, row in found.items()}
    assert all("4 people" in reason and "failed 25 %" in reason for reason in reasons.values())
    assert "reads it so with 0.90" in reasons["confirmed"]
    assert "reads other values with 0.70" in reasons["misread"]
    assert "linked by 2.5 pairs" in reasons["misread"]
    assert "rephrases" not in reasons["confirmed"]
    assert "no reading" in reasons["unread"]
    assert "outcomes +2.0" in reasons["unread"]
    assert "variants +1.5" in reasons["unread"]


def test_values_are_put_on_words_that_mean_them_where_there_is_an_encoder(spark: SparkSession) -> None:
    nodes = [node("u", goal("on", ("device", "wall lamp")), 0.95, text="lamp wall on")]
    load = partial(load_on_worker, None, LexicalEncoder.encoder_id)
    assert labelled(spark, nodes, load=load)["u"]["annotated_utterance"] == "[device : lamp wall] on"
    assert labelled(spark, nodes)["u"]["is_intent_only"]


def test_the_likeliest_intent_is_known_though_no_goal_is_sure(spark: SparkSession) -> None:
    nodes = [
        node("of two goals", JAZZ, 0.3),
        node("of two goals", ROCK, 0.25, rank=2),
        node("of two goals", STOP, 0.25, rank=3, posterior_without_one=0.2),
        node("of two goals", WAIT, 0.1, rank=4, posterior_without_one=0.01),
        node("no likelier than the limit", STOP, 0.4),
        node("of none of them", OTHER_GOAL, 0.5),
        node("of none of them", STOP, 0.45, rank=2),
        node("of few people", STOP, 0.6, n_users=2, n_users_behind=2, refit_evidence=0.9),
        node("one person's that others read", STOP, 0.6, n_users=1, n_users_behind=1, refit_evidence=0.5),
        node("one person's that others hardly read", STOP, 0.6, n_users=1, n_users_behind=1, refit_evidence=0.2),
        node("one person's that nothing reads", STOP, 0.6, n_users=1, n_users_behind=1, nlu_evidence=-0.1),
        node("one person's", JAZZ, 0.7, posterior_without_one=0.2),
        node("one person's", STOP, 0.2, rank=2, posterior_without_one=0.3),
        node("anybody's", JAZZ, 0.5, posterior_without_one=0.3),
        node("anybody's", STOP, 0.3, rank=2, posterior_without_one=0.2),
        node("anybody's", OTHER_GOAL, 0.2, rank=3, posterior_without_one=0.5),
    ]
    nodes = [row | {"text": "play ja"} for row in nodes]
    found = {row["utterance_id"]: row for row in unsure_intents(nodes_frame(spark, nodes), SETTINGS, 0.4).collect()}
    assert {name: (row["intent"], round(row["p_correct"], 6)) for name, row in found.items()} == {
        "of two goals": ("play", 0.55),
        "anybody's": ("play", 0.5),
        "one person's that others read": ("stop", 0.6),
    }
    one = found["of two goals"]
    assert (one["is_intent_only"], one["slots"], one["annotated_utterance"]) == (True, [], "play ja")
    assert "the likeliest intent" in one["reason"]
    others = {name: {other["intent"]: other["weight"] for other in row["other_intents"]} for name, row in found.items()}
    # Without any one person, and nothing of what is of no intent or hardly probable.
    assert others == {
        "of two goals": {"stop": pytest.approx(0.2)},
        "anybody's": {"stop": pytest.approx(0.2)},
        "one person's that others read": {},
    }
    sure = nodes_frame(spark, [node("certain", STOP, 1.0)])
    assert unsure_intents(sure, SETTINGS, 1.0).collect() == []


def plain_label(rows: list[Row], calibration: Calibration) -> tuple[Any, ...] | None:
    """Goal (None: of its intent alone), probability, NLU's goal and whether it is new; None of no label."""
    first, *others = sorted(rows, key=lambda row: row["rank"])
    intent_of = {row["goal"]: row["goal"] != OTHER_GOAL and json.loads(row["goal"])["intent"] for row in rows}
    if first["goal"] == OTHER_GOAL or first["n_users_behind"] < SETTINGS.min_users:
        return None
    readings = [(-row["p_nlu"], row["goal"]) for row in rows if row["goal"] != OTHER_GOAL and row["p_nlu"] > 0]
    surest, nlu_goal = min(readings, default=(0.0, None))
    intent = intent_of[first["goal"]]
    mass = sum(row["posterior"] for row in rows if intent_of[row["goal"]] == intent)

    def p(posterior: float) -> float:
        return float(calibration.of(np.array([posterior]))[0])

    threshold = SETTINGS.thresholds.get(intent, SETTINGS.threshold)
    lead = first["posterior"] - max((row["posterior"] for row in others), default=0.0)
    if p(first["posterior"]) >= threshold and lead >= SETTINGS.margin:
        # The words of all of them are "play jazz".
        if (first["goal"], nlu_goal) == (ROCK, JAZZ):
            return None
        is_new = nlu_goal != first["goal"] or first["p_nlu"] < 0.5
        return first["goal"], p(first["posterior"]), nlu_goal, is_new
    if p(mass) >= threshold and mass - sum(row["posterior"] for row in rows) + mass >= SETTINGS.margin:
        is_new = nlu_goal is None or intent_of[nlu_goal] != intent or -surest < 0.5
        return None, max(p(mass), p(first["posterior"])), nlu_goal, is_new
    return None


def test_labels_equal_the_plain_rule(spark: SparkSession) -> None:
    rng = Random(9)
    calibration = Calibration(base=0.2, slope=1.3)
    nodes: list[Row] = []
    for number in range(300):
        people = rng.randint(1, 5)
        shares = sorted((rng.random() ** rng.choice([1, 4, 12]) for _ in range(4)), reverse=True)
        for rank, goal_ in enumerate(rng.sample([JAZZ, ROCK, STOP, WAIT, OTHER_GOAL], 4), start=1):
            p_nlu = rng.choice([0.0, 0.4, 0.5, 0.6])
            posterior = shares[rank - 1] / sum(shares)
            nodes.append(node(f"u{number}", goal_, posterior, rank=rank, p_nlu=p_nlu, n_users_behind=people))
    by_utterance = defaultdict(list)
    for row in nodes:
        by_utterance[row["utterance_id"]].append(row)
    expected = {name: found for name, rows in by_utterance.items() if (found := plain_label(rows, calibration))}
    found = labelled(spark, nodes, calibration)
    assert len({goal_ for goal_, *_ in expected.values()}) == 5
    assert {name: (row["goal"], row["nlu_goal"], row["is_new"]) for name, row in found.items()} == {
        name: (goal_, nlu_goal, is_new) for name, (goal_, _, nlu_goal, is_new) in expected.items()
    }
    for name, row in found.items():
        assert row["p_correct"] == pytest.approx(expected[name][1])
        assert 0 < row["p_correct_lb"] < row["p_correct"] <= row["p_intent"]


def test_support_counts_days_and_linked_utterances(spark: SparkSession) -> None:
    nodes = nodes_frame(spark, [node(name, JAZZ, 0.99) for name in "ab"])
    labels = weak_labels(chosen_labels(nodes, SETTINGS))
    said = [("utterance", "a", "1"), ("utterance", "a", "2"), ("utterance", "a", "2"), ("reading", "a", "3")]
    evidence = spark.createDataFrame(said, "kind string, source_utterance string, turn_date string")
    edges = spark.createDataFrame(
        [("a", "x"), ("y", "a"), ("x", "y")], "source_utterance string, target_utterance string"
    )
    found = with_support(labels, evidence, edges)
    assert found.columns == tables.WEAK_LABELS.schema.fieldNames()
    assert {row["utterance_id"]: (row["n_days"], row["n_edges"]) for row in found.collect()} == {
        "a": (2, 2),
        "b": (0, 0),
    }


def test_wilson_bound_is_below_p_and_rises_with_people(spark: SparkSession) -> None:
    cases = [(k / 20, n) for k in range(21) for n in (1, 2, 5, 50, 10_000)]
    frame = spark.createDataFrame(cases, "p double, n long")
    bound = {
        (row["p"], row["n"]): row["bound"]
        for row in frame.withColumn("bound", wilson_lower_bound(F.col("p"), F.col("n"))).collect()
    }
    for (p, n), found in bound.items():
        root = math.sqrt(p * (1 - p) / n + 1.645**2 / (4 * n**2))
        wilson = (p + 1.645**2 / (2 * n) - 1.645 * root) / (1 + 1.645**2 / n)
        assert found == pytest.approx(max(0.0, wilson), abs=1e-12)
        assert 0 <= found <= p
        if n > 1 and p > 0:
            assert found > bound[p, min(m for m in (1, 2, 5, 50) if m < n)]
    assert bound[0.9, 10_000] == pytest.approx(0.9, abs=0.01)
