"""Neighbours on Spark equal the kernels run in this process, however rows lie, and bad input is refused or counted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, cycle, pairwise, takewhile

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from selflearn.errors import DataError, VolumeError
from selflearn.variants.blocks import Block, nearest_in_block
from selflearn.variants.cells import learn_centres, nearest_cells, whole
from selflearn.variants.neighbours import PAIRS, Limits, _comparer, nearest_pairs
from selflearn.variants.placement import PROBES, _in_whole_numbers, _placer
from test_cells import clustered

SCHEMA = "locale string, utterance_id string, vector array<float>, users array<bigint>"
Pairs = dict[tuple[str, str], float]


def frame(
    spark: SparkSession, vectors: npt.NDArray[np.float32], users: Sequence[list[int]], locales: Sequence[str]
) -> DataFrame:
    rows = pd.DataFrame(
        {
            "locale": locales,
            "utterance_id": [f"{locale} {k:05}" for k, locale in enumerate(locales)],
            "vector": list(vectors),
            "users": users,
        }
    )
    return spark.createDataFrame(rows, SCHEMA)


def people(n: int, seed: int = 0) -> list[list[int]]:
    """Who said each utterance: one or two of five."""
    rng = np.random.default_rng(seed)
    return [sorted({int(person) for person in rng.integers(5, size=rng.integers(1, 3))}) for _ in range(n)]


def found_in(vectors: DataFrame, limits: Limits) -> tuple[Pairs, dict[str, float]]:
    pairs, metrics = nearest_pairs(vectors, limits)
    assert pairs.schema == vectors.sparkSession.createDataFrame([], PAIRS).schema
    rows = pairs.collect()
    found = {(row["left_utterance"], row["right_utterance"]): row["cosine"] for row in rows}
    assert len(found) == len(rows)
    for row in rows:
        assert row["left_utterance"] < row["right_utterance"]
        assert all(row[f"{end}_utterance"].startswith(row[f"{end}_locale"]) for end in ("left", "right"))
    return found, metrics


def all_with_all(
    vectors: npt.NDArray[np.float32], users: list[list[int]], locales: Sequence[str], limits: Limits
) -> Pairs:
    """Pairs of one block for each locale, or of one for all."""
    found: Pairs = {}
    tags = np.array(locales)
    for locale in [None] if limits.across_locales else sorted(set(locales)):
        rows = np.flatnonzero((tags == locale) | (locale is None))
        order = rows[np.argsort([f"{locales[k]} {k:05}" for k in rows])]
        n_people = np.array([min(2, len(users[k])) for k in order])
        person = np.array([users[k][0] if users[k] else 0 for k in order])
        block = Block(0, whole(vectors[order])[0], np.zeros((len(order), 1), dtype=int), n_people, person)
        near = nearest_in_block(block, limits.min_cosine, limits.max_neighbours)
        names = [f"{locales[k]} {k:05}" for k in order]
        for i, j, cosine in zip(near.row.tolist(), near.neighbour.tolist(), near.cosine.tolist(), strict=True):
            found[min(names[i], names[j]), max(names[i], names[j])] = cosine
    return found


def cut(rows: pa.Table, sizes: list[int]) -> list[pa.RecordBatch]:
    """Batches of these sizes, over and over."""
    starts = [*takewhile(lambda at: at < len(rows), accumulate(cycle(sizes), initial=0)), len(rows)]
    return [rows.slice(start, end - start).combine_chunks().to_batches()[0] for start, end in pairwise(starts)]


@given(cuts=st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_placement_is_the_same_in_any_batch(cuts: list[int]) -> None:
    vectors = clustered(80, 4, 6, dimension=8)
    vectors[5], vectors[50], vectors[51, 2] = 0, np.nan, np.inf
    rows = pa.table(
        {
            "group": ["a", "b"] * 40,
            "locale": ["a", "b"] * 40,
            "utterance_id": [f"{k:02}" for k in range(80)],
            "n_people": pa.array([2] * 80, pa.int32()),
            "person": pa.array([0] * 80, pa.int64()),
            "vector": pa.array(list(vectors), pa.list_(pa.float32())),
        }
    )
    centres = learn_centres(whole(vectors[60:])[0], 9, 0)
    in_whole_numbers = pa.Table.from_batches(_in_whole_numbers(cut(rows, cuts)))
    assert set(in_whole_numbers["dimension"].to_pylist()) == {8}
    faults = dict(zip(*(in_whole_numbers[name].to_pylist() for name in ("utterance_id", "fault")), strict=True))
    assert {name: fault for name, fault in faults.items() if fault} == {
        "05": "no direction",
        "50": "not finite",
        "51": "not finite",
    }
    comparable = in_whole_numbers.filter(pc.is_null(in_whole_numbers["fault"]))
    placed = pa.Table.from_batches(_placer({"a": centres})(cut(comparable, cuts)))
    nearest = nearest_cells(whole(np.nan_to_num(vectors, posinf=0))[0], centres, PROBES)
    assert len(placed) == 77
    for row in placed.to_pylist():
        k = int(row["utterance_id"])
        assert row["cells"] == ([0] if k % 2 else nearest[k].tolist())
        assert row["vector"] == whole(vectors[k : k + 1])[0].tobytes()


@given(
    cuts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    blocks=st.lists(st.integers(0, 5), min_size=80, max_size=80),
)
def test_blocks_may_be_cut_anywhere_between_batches(cuts: list[int], blocks: list[int]) -> None:
    vectors = clustered(80, 4, 6, dimension=8)
    lists = pa.array([[block] for block in sorted(blocks)], pa.list_(pa.int64()))
    rows = pa.table(
        {
            "group": ["a"] * 30 + ["b"] * 50,
            "locale": ["a"] * 30 + ["b"] * 50,
            "utterance_id": [f"{k:02}" for k in range(80)],
            "n_people": pa.array([2] * 80, pa.int32()),
            "person": pa.array([0] * 80, pa.int64()),
            "vector": pa.array([row.tobytes() for row in whole(vectors)[0]], pa.binary()),
            "blocks": lists,
            "block": lists.flatten(),
        }
    )
    compare = _comparer(0.5, 3)
    found = pa.Table.from_batches(compare(cut(rows, cuts)))
    assert found.equals(pa.Table.from_batches(compare(rows.combine_chunks().to_batches())))
    ends = zip(found["from_utterance"].to_pylist(), found["to_utterance"].to_pylist(), strict=True)
    number = list(zip(rows["group"].to_pylist(), rows["block"].to_pylist(), strict=True))
    assert all(number[int(start)] == number[int(end)] for start, end in ends)
    assert len(found) > 80


def test_pairs_of_small_locales_are_all_found(spark: SparkSession) -> None:
    vectors, users = clustered(303, 30, 1), people(303)
    locales = ["tr-TR"] * 3 + ["en-GB", "de-DE"] * 150
    for across in (False, True):
        limits = Limits(min_cosine=0.6, max_neighbours=4, across_locales=across)
        found, metrics = found_in(frame(spark, vectors, users, locales), limits)
        expected = all_with_all(vectors, users, locales, limits)
        assert found == expected
        assert len(found) > 300
        assert any(left[:2] != right[:2] for left, right in found) == across
        sizes = [303] if across else [3, 150, 150]
        assert metrics == {
            "utterances": 303,
            "utterances_without_vector": 0,
            "cells": len(sizes),
            "pairs_forecast": sum(n * (n - 1) / 2 for n in sizes),
            "pairs_over_cell_cap": 0,
        }


def test_of_many_utterances_few_pairs_are_missed_and_none_depends_on_how_rows_lie(spark: SparkSession) -> None:
    n = 4_500
    vectors, users = clustered(n, 450, 2, spread=0.45), people(n)
    limits = Limits(max_neighbours=5)
    rows = frame(spark, vectors, users, ["en-GB"] * n)
    found, metrics = found_in(rows, limits)
    assert metrics["cells"] > 100
    assert metrics["pairs_forecast"] < n * (n - 1) / 2
    expected = all_with_all(vectors, users, ["en-GB"] * n, limits)
    assert len(expected.keys() & found.keys()) >= 0.97 * len(expected)
    assert {pair: cosine for pair, cosine in found.items() if pair in expected}.items() <= expected.items()
    assert found_in(rows.repartition(5, "vector"), limits) == (found, metrics)


def test_a_cell_that_holds_half_the_data_is_cut_and_what_that_costs_is_counted(spark: SparkSession) -> None:
    n = 4_400
    vectors = clustered(n, 600, 3, spread=0.3)
    vectors[: n // 2] = vectors[0]
    rows = frame(spark, vectors, [[k] for k in range(n)], ["en-GB"] * n)
    limits = Limits(max_neighbours=3, max_cell=500)
    found, metrics = found_in(rows, limits)
    # Equal utterances lie in the same cells, all of which are cut.
    whole_cells = PROBES * n / 2 * (n / 2 - 1) / 2
    assert 0.7 * whole_cells < metrics["pairs_over_cell_cap"] < whole_cells
    _, uncut = found_in(rows, Limits(max_cell=n))
    assert metrics["pairs_forecast"] + metrics["pairs_over_cell_cap"] == uncut["pairs_forecast"]
    # Nobody is left without neighbours: each part has enough of them.
    equal = {f"en-GB {k:05}" for k in range(n // 2)}
    assert equal <= {end for pair, cosine in found.items() if cosine == 1 for end in pair}


def test_equal_vectors_are_neighbours_up_to_the_limit(spark: SparkSession) -> None:
    n = 60
    rows = frame(spark, np.ones((n, 4), dtype=np.float32), [[k] for k in range(n)], ["en-GB"] * n)
    found, _ = found_in(rows, Limits(max_neighbours=2))
    assert set(found.values()) == {1.0}
    # Of equally near ones the first by id count: each utterance has the first two others.
    first = [f"en-GB {k:05}" for k in range(3)]
    assert all(left in first for left, _ in found)
    assert len(found) == 1 + 2 * (n - 2)


def test_vectors_without_a_direction_are_counted_and_have_no_neighbours(spark: SparkSession) -> None:
    vectors = np.ones((4, 3), dtype=np.float32)
    vectors[2] = 0
    found, metrics = found_in(frame(spark, vectors, [[1], [2], [3], []], ["en-GB"] * 4), Limits())
    assert found == {("en-GB 00000", "en-GB 00001"): 1.0}
    assert (metrics["utterances"], metrics["utterances_without_vector"]) == (4, 1)


def test_nothing_makes_no_pairs(spark: SparkSession) -> None:
    assert found_in(spark.createDataFrame([], SCHEMA), Limits())[1]["utterances"] == 0


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0], [float("nan"), 1.0]], "1 vectors hold numbers that are missing or not finite"),
        ([[1.0, 2.0], [float("inf"), 1.0]], "1 vectors hold numbers"),
        ([[1.0, 2.0], [None, 1.0]], "1 vectors hold numbers"),
        ([[1.0, 2.0], [1.0, 2.0, 3.0]], "there are 1 of dimension 2, 1 of dimension 3, and 0 are missing"),
        ([[1.0, 2.0], None], "there are 1 of dimension 2, and 1 are missing"),
        ([[1.0, 2.0], []], "and 1 are missing"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused(
    spark: SparkSession, vectors: list[list[float | None] | None], message: str
) -> None:
    rows = spark.createDataFrame([("en-GB", f"u{k}", vector, [k]) for k, vector in enumerate(vectors)], SCHEMA)
    with pytest.raises(DataError, match=message):
        nearest_pairs(rows, Limits())


def test_more_pairs_than_the_limit_stop_the_run(spark: SparkSession) -> None:
    rows = frame(spark, clustered(50, 5, 4), people(50), ["en-GB"] * 50)
    with pytest.raises(VolumeError, match=r"1,225 pairs of utterances would be compared, at most 1,000 may be"):
        nearest_pairs(rows, Limits(max_pairs=1_000))
