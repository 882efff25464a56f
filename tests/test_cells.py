"""Cells and blocks: near pairs equal a plain comparison of all with all, whatever way rows are cut."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selflearn.variants import blocks, cells
from selflearn.variants.blocks import Block, Near, nearest_in_block
from selflearn.variants.cells import SCALE, learn_centres, n_cells, nearest_cells, whole

Found = dict[int, dict[int, float]]


def clustered(n: int, n_clusters: int, seed: int, spread: float = 0.6, dimension: int = 32) -> npt.NDArray[np.float32]:
    """Unit vectors around random centres; the greater the spread, the further from them."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_clusters, dimension))
    vectors = centres[rng.integers(n_clusters, size=n)] + spread * rng.standard_normal((n, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def block_of(vectors: npt.NDArray[np.float32], users: list[list[int]], number: int = 0, others: object = None) -> Block:
    return Block(
        number,
        whole(vectors)[0],
        np.full((len(vectors), 1), number) if others is None else np.array(others),
        np.array([min(2, len(of)) for of in users]),
        np.array([of[0] if len(of) == 1 else 0 for of in users]),
    )


def plain(vectors: npt.NDArray[np.float32], users: list[list[int]], min_cosine: float, most: int) -> Found:
    """The twin: all with all, one after the other."""
    rounded = whole(vectors)[0].astype(int).tolist()
    found: Found = defaultdict(dict)
    for i, left in enumerate(rounded):
        near = []
        for j, right in enumerate(rounded):
            norms = math.sqrt(sum(x * x for x in left) * sum(y * y for y in right))
            cosine = round(sum(x * y for x, y in zip(left, right, strict=True)) / norms, 6)
            if i != j and len({*users[i], *users[j]}) >= 2 and cosine >= min_cosine:
                near.append((-cosine, j))
        found[i] = {j: -negative for negative, j in sorted(near)[:most]}
    return found


def as_found(near: Near) -> Found:
    found: Found = defaultdict(dict)
    for i, j, cosine in zip(near.row.tolist(), near.neighbour.tolist(), near.cosine.tolist(), strict=True):
        assert j not in found[i]
        found[i][j] = cosine
    return found


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    users=st.lists(st.lists(st.integers(1, 4), max_size=3, unique=True), min_size=40, max_size=40),
    min_cosine=st.sampled_from([0.05, 0.5, 0.8, 1.0]),
    most=st.integers(1, 8),
    at_once=st.sampled_from([1, 50, 10_000]),
)
def test_a_block_equals_a_plain_comparison_of_all_with_all(
    seed: int, n: int, users: list[list[int]], min_cosine: float, most: int, at_once: int
) -> None:
    vectors = clustered(n, 5, seed, dimension=4)
    vectors[n // 2 :: 3] = vectors[0]
    expected = plain(vectors, users[:n], min_cosine, most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_ELEMENTS_AT_ONCE", at_once)
        found = as_found(nearest_in_block(block_of(vectors, users[:n]), min_cosine, most))
    for i in range(n):
        assert found[i] == pytest.approx(expected[i], abs=2e-6)


def test_users_who_are_one_and_the_same_make_no_pair() -> None:
    vectors = np.ones((6, 3), dtype=np.float32)
    users = [[7], [7], [8], [7, 8], [], []]
    near = nearest_in_block(block_of(vectors, users), 0.9, 10)
    pairs = {(i, j) for i, j in zip(near.row.tolist(), near.neighbour.tolist(), strict=True) if i < j}
    assert pairs == {(0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (3, 4), (3, 5)}
    assert set(near.cosine) == {1.0}
    # Of one user's many wordings, none takes the place of another user's.
    crowd = np.ones((50, 3), dtype=np.float32)
    crowd[49] = [1, 1, 0.9]
    near = nearest_in_block(block_of(crowd, [[1]] * 49 + [[2]]), 0.9, 3)
    assert {(i, 49) for i in range(49)} <= set(zip(near.row.tolist(), near.neighbour.tolist(), strict=True))


def test_a_pair_that_several_blocks_hold_is_found_in_the_first_of_them() -> None:
    vectors, users = np.ones((3, 2), dtype=np.float32), [[1], [2], [3]]
    others = [[4, 9], [9, 4], [9, 11]]
    first = nearest_in_block(block_of(vectors[:2], users[:2], 4, others[:2]), 0.5, 5)
    second = nearest_in_block(block_of(vectors, users, 9, others), 0.5, 5)
    assert sorted(zip(first.row.tolist(), first.neighbour.tolist(), strict=True)) == [(0, 1), (1, 0)]
    found = sorted(zip(second.row.tolist(), second.neighbour.tolist(), strict=True))
    assert found == [(0, 2), (1, 2), (2, 0), (2, 1)]


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-18, 18))
def test_whole_numbers_keep_directions(seed: int, exponent: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((30, int(rng.integers(2, 400)))).astype(np.float32)
    found, is_zero = whole(vectors * np.float32(10**exponent))
    assert not is_zero.any()
    lengths = np.linalg.norm(found.astype(np.float64), axis=1)
    assert lengths == pytest.approx(np.full(30, SCALE), rel=5e-3)
    exact = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    products = found.astype(np.float64) @ found.astype(np.float64).T
    assert products / np.outer(lengths, lengths) == pytest.approx(exact, abs=2e-3)
    # So no sum on the way to a product leaves the range in which float32 holds every whole number.
    magnitudes = np.abs(found.astype(np.int64))
    assert (magnitudes @ magnitudes.T).max() < 2**24


def test_rows_of_zeros_have_no_direction() -> None:
    found, is_zero = whole(np.array([[0, 0], [0, 1e-30], [3, 4]], dtype=np.float32))
    assert is_zero.tolist() == [True, False, False]
    assert found.tolist() == [[0, 0], [0, SCALE], [0.6 * SCALE, 0.8 * SCALE]]


def test_cells_are_the_nearest_and_do_not_depend_on_how_rows_are_cut() -> None:
    vectors = whole(clustered(3_000, 40, 3))[0]
    centres = learn_centres(vectors, 60, 1)
    assert centres.shape == (60, 32)
    np.testing.assert_array_equal(centres, learn_centres(vectors, 60, 1))
    found = nearest_cells(vectors, centres, 4)
    products = vectors.astype(np.int64) @ centres.astype(np.int64).T
    np.testing.assert_array_equal(found, np.argsort(-products, axis=1, kind="stable")[:, :4])
    cut = [nearest_cells(vectors[start : start + 7], centres, 4) for start in range(0, len(vectors), 7)]
    np.testing.assert_array_equal(found, np.concatenate(cut))


def test_centres_come_to_lie_where_vectors_are() -> None:
    vectors = whole(clustered(2_000, 8, 5, spread=0.3))[0]
    centres = learn_centres(vectors, 24, 2)
    nearest = nearest_cells(vectors, centres, 1)[:, 0]
    cosines = np.einsum("ij,ij->i", vectors.astype(float), centres[nearest]) / SCALE**2
    start = vectors[np.random.default_rng(0).choice(2_000, 24, replace=False)].astype(np.float32)
    before = (vectors.astype(float) @ start.T).max(axis=1) / SCALE**2
    assert 1 - cosines.mean() < 0.8 * (1 - before.mean())


def test_equal_vectors_make_one_cell() -> None:
    equal = np.tile(whole(clustered(1, 1, 0))[0], (500, 1))
    centres = learn_centres(equal, 50, 0)
    assert centres.shape == (1, 32)
    assert nearest_cells(equal, centres, 4).tolist() == [[0]] * 500


def test_few_vectors_lie_in_one_cell_and_cells_grow_with_the_root() -> None:
    assert [n_cells(n) for n in (0, 3, 4_096)] == [1, 1, 1]
    assert n_cells(4_000_000) == 2 * n_cells(1_000_000) == 4_000


def test_few_near_pairs_share_no_cell() -> None:
    n = 6_000
    vectors = clustered(n, 600, 9, spread=0.45, dimension=64)
    laid = nearest_cells(whole(vectors)[0], learn_centres(whole(vectors[::2])[0], n_cells(n), 0), 4)
    exact = np.triu(vectors @ vectors.T, 1)
    for min_cosine in (0.7, 0.8):
        left, right = np.nonzero(exact >= min_cosine)
        assert len(left) > 10_000
        shares = (laid[left][:, :, None] == laid[right][:, None, :]).any(axis=(1, 2))
        assert shares.mean() >= 0.97


def test_products_of_whole_numbers_are_exact() -> None:
    one = whole(np.random.default_rng(4).standard_normal((100, 1_000)).astype(np.float32))[0]
    exact = one.astype(np.int64) @ one.astype(np.int64).T
    np.testing.assert_array_equal(one.astype(np.float32) @ one.astype(np.float32).T, exact)
    assert cells.SCALE**2 < 2**24
