"""Sums over turns in one pass, however the pass is cut; and how many people a sketch stands for."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from selflearn.graph.people import SKETCH_SIZE, count_people, merged, n_people, sketch
from selflearn.graph.tally import ORDER, SUMS, tally_turns

DAYS = [date(2025, 1, 1), date(2025, 1, 2)]
TURNS = pa.schema(
    [
        ("utterance_id", pa.string()),
        ("turn_date", pa.date32()),
        ("person", pa.int64()),
        ("turn_id", pa.string()),
        ("locale", pa.string()),
        ("context", pa.string()),
        ("text", pa.string()),
        ("goal", pa.string()),
        ("nlu_score", pa.float64()),
        ("goals", pa.list_(pa.string())),
        ("goal_scores", pa.list_(pa.float64())),
        ("is_acted_on", pa.bool_()),
        ("p_friction", pa.float64()),
        ("p_gave_up", pa.float64()),
        ("outcome_log_odds", pa.float64()),
    ]
)
SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.9])
GOALS = st.sampled_from(["g", "h"])

Row = dict[str, Any]
Sums = dict[tuple[Any, ...], list[float]]


@st.composite
def turns(draw: st.DrawFn) -> list[Row]:
    """Few utterances, people and goals, so that nearly everything is said more than once."""
    rows = []
    for number in range(draw(st.integers(1, 40))):
        alternatives = draw(st.lists(st.tuples(GOALS, SCORES), max_size=2, unique_by=lambda reading: reading[0]))
        utterance = draw(st.sampled_from("uvw"))
        rows.append(
            {
                "utterance_id": utterance,
                "turn_date": draw(st.sampled_from(DAYS)),
                "person": draw(st.integers(-2, 2)),
                "turn_id": f"{number:02}",
                "locale": "tr",
                "context": "",
                "text": f"text of {utterance}",
                "goal": draw(st.none() | GOALS),
                "nlu_score": draw(st.none() | SCORES),
                "goals": [goal for goal, _ in alternatives],
                "goal_scores": [score for _, score in alternatives],
                "is_acted_on": draw(st.booleans()),
                "p_friction": draw(SCORES),
                "p_gave_up": draw(SCORES),
                "outcome_log_odds": draw(st.sampled_from([-2.0, 0.5])),
            }
        )
    return sorted(rows, key=lambda row: [row[name] for name in ORDER])


def plain(rows: list[Row]) -> tuple[Sums, dict[tuple[Any, ...], set[int]]]:
    """The twin: each turn's share of its user's vote, added up one by one."""
    mine = defaultdict(int)
    for row in rows:
        mine[row["utterance_id"], row["turn_date"], row["person"]] += 1
    sums: Sums = defaultdict(lambda: [0.0] * len(SUMS))
    people = defaultdict(set)

    def add(key: tuple[Any, ...], *values: float) -> None:
        sums[key] = [old + new for old, new in zip(sums[key], values, strict=True)]

    for row in rows:
        said = row["utterance_id"], row["turn_date"]
        share = 1 / mine[*said, row["person"]]
        people[said].add(row["person"])
        add((*said, ""), share, share, share * row["p_friction"], share * row["p_gave_up"], 0, 0)
        readings = list(zip(row["goals"], row["goal_scores"], strict=True))
        if not readings and row["goal"]:
            readings = [(row["goal"], 1.0 if row["nlu_score"] is None else row["nlu_score"])]
        total = max(1.0, sum(score for _, score in readings))
        for goal, score in readings:
            acted = share * (goal == row["goal"] and row["is_acted_on"])
            add(
                (*said, goal),
                share,
                share * score / total,
                acted * row["p_friction"],
                0,
                acted,
                acted * row["outcome_log_odds"],
            )
    return sums, people


@given(turns(), st.sets(st.integers(1, 39)))
def test_sums_are_the_same_however_the_turns_are_cut_into_batches(rows: list[Row], cuts: set[int]) -> None:
    table = pa.Table.from_pylist(rows, TURNS)
    ends = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    batches = [table.slice(start, end - start).combine_chunks().to_batches()[0] for start, end in pairwise(ends)]
    found = [row for batch in tally_turns(batches) for row in batch.to_pylist()]
    sums, people = plain(rows)
    keys = [(row["source_utterance"], row["turn_date"], row["target"]) for row in found]
    assert sorted(keys) == sorted(sums)
    for key, row in zip(keys, found, strict=True):
        assert [row[name] for name in SUMS] == pytest.approx(sums[key])
        is_utterance = row["kind"] == "utterance"
        assert is_utterance == (row["target"] == "")
        assert row["text"] == (f"text of {key[0]}" if is_utterance else None)
        assert row["users"] == (sorted(people[key[:2]]) if is_utterance else None)


def test_a_popular_utterance_keeps_the_smallest_hashes() -> None:
    hashes = np.random.default_rng(1).permutation(1000) - 500
    row = dict.fromkeys(TURNS.names) | {"utterance_id": "yes", "turn_date": DAYS[0], "goals": [], "goal_scores": []}
    rows = [
        row | {"person": int(person), "turn_id": str(person), "is_acted_on": True, "p_friction": 0.0, "p_gave_up": 0.0}
        for person in sorted(hashes)
    ]
    table = pa.Table.from_pylist([row | {"outcome_log_odds": 0.0} for row in rows], TURNS)
    batches = [table.slice(start, 100).combine_chunks().to_batches()[0] for start in range(0, 1000, 100)]
    [only] = [row for batch in tally_turns(batches) for row in batch.to_pylist()]
    assert only["n"] == 1000
    assert only["users"] == list(range(-500, -500 + SKETCH_SIZE))


def test_people_are_counted_while_they_are_few_and_estimated_beyond(spark: SparkSession) -> None:
    day = F.when(F.col("id") < 60_000, 1).otherwise(2)
    people = spark.range(100_000).select(F.xxhash64("id").alias("person"), day.alias("day"))
    days = people.groupBy("day").agg(sketch(F.col("person")).alias("users"))
    few = people.limit(255).agg(n_people(sketch(F.col("person"))).alias("n")).first()
    one, two = (row["users"] for row in days.orderBy("day").collect())
    together = days.agg(n_people(merged(F.col("users"))).alias("n")).first()
    nobody = people.limit(0).agg(n_people(sketch(F.col("person"))).alias("n")).first()
    assert few is not None
    assert nobody is not None
    assert together is not None
    assert (few["n"], nobody["n"]) == (255, 0)
    assert together["n"] == pytest.approx(100_000, rel=0.2)
    hashes = np.array([*one, *two, *one[:3]])
    group = np.repeat([0, 2], [len(hashes) - 3, 3])
    assert count_people(group, hashes, 3).tolist() == [together["n"], 0, 3]
