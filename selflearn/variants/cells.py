"""Cells: vectors in whole numbers, centres learnt on a sample of them, and the cells nearest to each.

Vectors are scaled to the length `SCALE` and rounded. Their products are whole numbers below 2**24, which float32 adds
up without error in any order: what is found does not depend on how rows are cut into blocks, on threads or on machines.
They take half the room, and a cosine is off by about 1e-4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int16]
Vectors = npt.NDArray[np.float32]
Cells = npt.NDArray[np.int32]

SCALE = 4_000
SAMPLED_PER_CELL = 32
_SMALL = 4_096
_CELLS_PER_ROOT = 2.0
_ROUNDS = 6
_ELEMENTS_AT_ONCE = 1 << 22


def whole(vectors: Vectors) -> tuple[Whole, npt.NDArray[np.bool_]]:
    """Vectors, shape (rows, dimensions), in whole numbers; and which rows have no direction (all zeros).

    Rows that are not finite are the caller's to refuse.
    """
    largest = np.abs(vectors).max(axis=1, initial=0)
    is_zero = largest == 0
    # No square overflows or vanishes once the largest number is 1.
    scaled = vectors / np.where(is_zero, 1, largest)[:, None]
    lengths = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
    scaled *= (SCALE / np.where(is_zero, 1, lengths))[:, None]
    return np.rint(scaled, out=scaled).astype(np.int16), is_zero


def n_cells(n_vectors: int) -> int:
    """How many cells so many vectors are laid into: one where comparing all is quick, else a multiple of the root.

    With c cells and p of them for each vector, n vectors cost n c products with centres and about (p n)**2 / 2 c
    with each other: least where c is p times the root of n / 2.
    """
    return 1 if n_vectors <= _SMALL else int(_CELLS_PER_ROOT * n_vectors**0.5)


def learn_centres(sample: Whole, n: int, seed: int) -> Vectors:
    """At most `n` centres, shape (centres, dimensions): spherical k-means (Dhillon and Modha 2001), in whole numbers.

    The same sample in the same order gives the same centres on any machine. Fewer than `n` come of a sample that has
    fewer distinct vectors.
    """
    distinct = np.unique(sample, axis=0)
    chosen = np.random.default_rng(seed).choice(len(distinct), min(n, len(distinct)), replace=False)
    centres = distinct[np.sort(chosen)].astype(np.float32)
    for _ in range(_ROUNDS if len(centres) > 1 else 0):
        nearest = nearest_cells(sample, centres, 1)[:, 0]
        order = np.argsort(nearest, kind="stable")
        filled, starts = np.unique(nearest[order], return_index=True)
        sums = np.add.reduceat(sample[order], starts, axis=0, dtype=np.int32)
        centres[filled] = whole(sums.astype(np.float32))[0]
    return centres


def nearest_cells(vectors: Whole, centres: Vectors, n: int) -> Cells:
    """The `n` cells with the nearest centres, the nearest first; of equally near ones the first. Shape (rows, n)."""
    n = min(n, len(centres))
    found = np.zeros((len(vectors), n), dtype=np.int32)
    at_once = max(1, _ELEMENTS_AT_ONCE // len(centres))
    for start in range(0, len(vectors) if len(centres) > 1 else 0, at_once):
        products = vectors[start : start + at_once].astype(np.float32) @ centres.T
        rows = np.arange(len(products))
        for place in range(n):
            best = products.argmax(axis=1)
            found[start : start + at_once, place] = best
            products[rows, best] = -np.inf
    return found
