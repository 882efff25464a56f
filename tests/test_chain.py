"""The absorbing chain equals a dense inverse, its components plain union and find; both are checked after every run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from scipy import sparse

from selflearn.errors import DataError
from selflearn.ragged import Floats, Ints
from selflearn.rewrites import chain
from selflearn.rewrites.chain import ABANDONED, OTHER_GOALS, Chain, absorb
from selflearn.rewrites.components import components, spark_components, spark_verify, verify
from selflearn.rewrites.transitions import CHANCES, chances, solve

MASSES = pa.schema([("source", pa.int64()), ("target", pa.int64()), ("goal", pa.int64()), ("mass", pa.float64())])
Rows = list[tuple[int, int | None, int | None, float]]


def as_table(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(MASSES.names, row, strict=True)) for row in rows], MASSES)


@st.composite
def masses(draw: st.DrawFn) -> Rows:
    """Links and ways out of few utterances; some have no way out, some loops have none, some links none back."""
    size = draw(st.integers(2, 14))
    vertex, mass = st.integers(0, size - 1), st.sampled_from([0.0, 1e-6, 0.3, 1.0, 40.0])
    links = draw(st.lists(st.tuples(vertex, vertex, st.none(), mass), min_size=1, max_size=30))
    linked = sorted({end for source, target, _, _ in links for end in (source, target)})
    goal = st.none() | st.sampled_from([-(2**63), -7, 0, 2**62])
    return [*links, *draw(st.lists(st.tuples(st.sampled_from(linked), st.none(), goal, mass), max_size=20))]


def plain_chances(rows: Rows) -> dict[int, dict[int | None, float]]:
    """The twin: masses to chances one by one, then a dense inverse. A goal of None is giving up."""
    states = sorted({end for source, target, _, _ in rows if target is not None for end in (source, target)})
    goals: list[int | None] = [
        None,
        *sorted({goal for _, target, goal, _ in rows if target is None and goal is not None}),
    ]
    q, r = np.zeros((len(states), len(states))), np.zeros((len(states), len(goals)))
    for source, target, goal, mass in rows:
        if target is None:
            r[states.index(source), goals.index(goal)] += mass
        else:
            q[states.index(source), states.index(target)] += mass
    for k in range(len(states)):
        total = q[k].sum() + r[k].sum()
        if total == 0:
            r[k, 0] = 1.0
        elif r[k, 0] < chain.LEAST_ABANDONED * total:
            # What is added counts in the total as well.
            r[k, 0] += (chain.LEAST_ABANDONED * total - r[k, 0]) / (1 - chain.LEAST_ABANDONED)
        total = q[k].sum() + r[k].sum()
        q[k], r[k] = q[k] / total, r[k] / total
    x = np.linalg.inv(np.eye(len(states)) - q) @ r
    return {state: dict(zip(goals, row, strict=True)) for state, row in zip(states, x, strict=True)}


METHODS = {"dense": (48, 2_000), "LU": (0, 2_000), "iteration": (0, 0)}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_equals_the_dense_inverse(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "DENSE_STATES", METHODS[method][0])
    monkeypatch.setattr(chain, "LU_STATES", METHODS[method][1])
    monkeypatch.setattr(chain, "_CELLS_AT_ONCE", 20)

    @given(masses())
    def check(rows: Rows) -> None:
        found = solve(as_table(rows)).to_pylist()
        expected = plain_chances(rows)
        assert [row["utterance"] for row in found] == sorted(expected)
        for row in found:
            ends = expected[row["utterance"]]
            assert row["p_abandoned"] == pytest.approx(ends[None], abs=1e-9)
            most = max((p for goal, p in ends.items() if goal is not None), default=0.0)
            assert row["p_success"] == pytest.approx(most if most > 1e-4 else 0.0, abs=1e-9)
            if row["goal"] is not None:
                assert ends[row["goal"]] == pytest.approx(most, abs=1e-9)
            assert row["residual"] <= 10 * chain.TOLERANCE

    check()


def random_chain(n: int, n_links: int, n_exits: int, seed: int) -> tuple[Chain, Ints]:
    rng = np.random.default_rng(seed)

    def drawn(n_columns: int) -> sparse.coo_array:
        ends = rng.integers(0, n, n_links), rng.integers(0, n_columns, n_links)
        return sparse.coo_array((rng.exponential(1.0, n_links), ends), (n, n_columns))

    links = drawn(n)
    label = sparse.csgraph.connected_components(links, directed=False)[1]
    return Chain.of_masses(links, drawn(n_exits)), label.astype(np.int64)


def inverse_twin(chain: Chain) -> Floats:
    n = chain.links.shape[0]
    return np.linalg.inv(np.eye(n) - chain.links.toarray()) @ chain.exits.toarray()


@pytest.mark.parametrize("method", METHODS)
def test_all_exits_of_larger_components_equal_the_dense_inverse(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "DENSE_STATES", 1_000 if method == "dense" else 3)
    monkeypatch.setattr(chain, "LU_STATES", METHODS[method][1])
    for seed in range(5):
        made, component = random_chain(300, 420, 12, seed)
        found = absorb(made, component)
        assert np.abs(found.chances.toarray() - inverse_twin(made)).max() < 1e-9
        assert found.chances.sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("steps", [1, 3, 1_000])
def test_it_may_be_far_to_the_end(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long path with circles on the way; what is further away than the steps that are taken is solved at once."""
    monkeypatch.setattr(chain, "_MOST_STEPS", steps)
    n = 200
    path = np.arange(n - 1)
    circles = np.arange(0, n - 2, 10)
    start, end = np.concatenate([path, circles + 2]), np.concatenate([path + 1, circles])
    links = sparse.coo_array((np.ones(len(start)), (start, end)), (n, n))
    exits = sparse.coo_array((np.full(n, 0.1), (np.arange(n), OTHER_GOALS + 1 + np.arange(n) % 5)), (n, 7))
    made = Chain.of_masses(links, exits)
    found = absorb(made, np.zeros(n, dtype=np.int64))
    assert np.abs(found.chances.toarray() - inverse_twin(made)).max() < 1e-9


def test_rare_goals_of_a_large_component_share_an_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    made, component = random_chain(300, 900, 12, 1)
    everything = inverse_twin(made)
    monkeypatch.setattr(chain, "LU_STATES", 100)
    monkeypatch.setattr(chain, "LARGE_CELLS", 300 * 4)
    found = absorb(made, component).chances.toarray()
    kept = np.flatnonzero(found.sum(axis=0))
    giant = component == np.bincount(component).argmax()
    assert len(np.flatnonzero(found[giant].sum(axis=0))) == 2 + 4
    own = [column for column in kept if column > OTHER_GOALS and found[giant, column].any()]
    assert found[giant][:, [ABANDONED, *own]] == pytest.approx(everything[giant][:, [ABANDONED, *own]], abs=1e-9)
    assert found.sum(axis=1) == pytest.approx(1.0)


def test_a_loop_without_a_way_out_is_given_up() -> None:
    [one, other] = solve(as_table([(1, 2, None, 3.0), (2, 1, None, 1.0)])).to_pylist()
    assert one["p_abandoned"] == pytest.approx(1.0)
    assert (one["goal"], one["p_success"], one["component"], one["n_states"]) == (None, 0.0, 1, 2)
    assert other["component"] == 1


@given(masses(), st.randoms(use_true_random=False))
def test_the_order_of_the_masses_does_not_matter(rows: Rows, random: Callable[[], float]) -> None:
    distinct = list({row[:3]: row for row in rows}.values())
    shuffled = sorted(distinct, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert solve(as_table(distinct)).equals(solve(as_table(shuffled)))


def plain_components(edges: list[tuple[int, int]]) -> dict[int, int]:
    """The twin: each vertex's component by union and find, the smaller root always on top."""
    parent: dict[int, int] = {}

    def root(vertex: int) -> int:
        while parent.setdefault(vertex, vertex) != vertex:
            vertex = parent[vertex]
        return vertex

    for source, target in edges:
        one, other = sorted((root(source), root(target)))
        parent[other] = one
    return {vertex: root(vertex) for vertex in parent}


KEYS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 12)


@given(st.lists(st.tuples(KEYS, KEYS), min_size=1))
def test_components_equal_union_and_find(edges: list[tuple[int, int]]) -> None:
    source, target = np.array(edges).T
    vertices, component = components(source, target)
    assert dict(zip(vertices.tolist(), component.tolist(), strict=True)) == plain_components(edges)
    verify(source, target, vertices, component)


BROKEN = {
    "a vertex is missing": ([1, 2, 5, 6], [1, 1, 5, 5], "not those that are linked"),
    "a vertex too many": ([1, 2, 3, 4, 5, 6], [1, 1, 1, 4, 5, 5], "not those that are linked"),
    "an edge leaves": ([1, 2, 3, 5, 6], [1, 1, 3, 5, 5], "1 of 3 links leave their component"),
    "a strange name": ([1, 2, 3, 5, 6], [1, 1, 1, 4, 4], "not its own"),
    "a name of others": ([1, 2, 3, 5, 6], [5, 5, 5, 1, 1], "not its own"),
}
EDGES = [(1, 2), (2, 3), (5, 6)]


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_labelling_is_caught(case: str) -> None:
    vertices, component, message = BROKEN[case]
    with pytest.raises(DataError, match=message):
        verify(*np.array(EDGES).T, np.array(vertices), np.array(component))


def edges_frame(spark: SparkSession, edges: list[tuple[int, int]]) -> DataFrame:
    return spark.createDataFrame(edges, "source bigint, target bigint")


def test_workers_find_the_components_that_the_driver_finds(spark: SparkSession) -> None:
    rng = np.random.default_rng(4)
    path = [(k, k + 1) for k in range(100, 140)]
    edges = [*path, (7, 7), *map(tuple, rng.integers(-40, 40, (30, 2)).tolist())]
    found = spark_components(edges_frame(spark, edges), spark_landed).collect()
    assert {row["vertex"]: row["component"] for row in found} == plain_components(edges)
    assert len(found) == len(plain_components(edges))


def test_workers_catch_a_broken_labelling(spark: SparkSession) -> None:
    for vertices, component, message in BROKEN.values():
        labelled = spark.createDataFrame(list(zip(vertices, component, strict=True)), "vertex bigint, component bigint")
        with pytest.raises(DataError, match=message):
            spark_verify(edges_frame(spark, EDGES), labelled)


def test_workers_solve_as_the_driver_does(spark: SparkSession) -> None:
    rng = np.random.default_rng(6)
    links = [
        (int(s), int(s // 10 * 10 + t), None, float(m))
        for s, t, m in zip(*rng.integers(0, 60, (1, 90)), rng.integers(0, 10, 90), rng.exponential(1, 90), strict=True)
    ]
    linked = sorted({end for source, target, _, _ in links for end in (source, target)})
    left = [(state, None, goal, float(rng.exponential())) for state in linked for goal in (None, state // 10, 99)]
    frame = spark.createDataFrame([*links, *left], "source bigint, target bigint, goal bigint, mass double")
    one, other = (chances(frame, most, spark_landed) for most in (10_000, 0))
    assert one.schema == other.schema == spark.createDataFrame([], CHANCES).schema
    names = [name for name in one.columns if name != "residual"]
    assert sorted(one.select(names).collect()) == sorted(other.select(names).collect())


def spark_landed(rows: DataFrame) -> DataFrame:
    """Rows as a local relation: what a landing does for a plan that would grow."""
    return rows.sparkSession.createDataFrame(rows.collect(), rows.schema)
