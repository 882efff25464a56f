"""Lists of different lengths as two flat arrays: what belongs to row k lies from `offsets[k]` to `offsets[k + 1]`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def offsets_of(counts: npt.ArrayLike) -> Ints:
    """Offsets of lists of the given lengths; one more than there are lists."""
    return np.concatenate([[0], np.cumsum(np.asarray(counts, dtype=np.int64))])


def places(offsets: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Places in the flat array of all elements of the given rows, and offsets of the lists they make.

    >>> places(np.array([0, 2, 3]), np.array([1, 0]))[0].tolist()
    [2, 0, 1]
    """
    counts = offsets[rows + 1] - offsets[rows]
    taken = offsets_of(counts)
    return np.arange(taken[-1]) + np.repeat(offsets[rows] - taken[:-1], counts), taken


def products(n_left: Ints, n_right: Ints) -> tuple[Ints, Ints, Ints]:
    """Every combination of `n_left[k]` by `n_right[k]` elements, for each k.

    Returns the left element, the right element, both counted from 0 within k, and offsets by k.
    """
    counts = n_left * n_right
    offsets = offsets_of(counts)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    left, right = np.divmod(within, np.repeat(n_right, counts))
    return left, right, offsets


def max_of(values: Floats, offsets: Ints, empty: float) -> Floats:
    """Largest element of each list; `empty` of an empty one."""
    return _reduced(np.maximum, values, offsets, empty)


def sum_of(values: Floats, offsets: Ints) -> Floats:
    """Sum of each list."""
    return _reduced(np.add, values, offsets, 0.0)


def _reduced(operation: np.ufunc, values: Floats, offsets: Ints, empty: float) -> Floats:
    found = np.full(len(offsets) - 1, empty)
    filled = offsets[1:] > offsets[:-1]
    if filled.any():
        found[filled] = operation.reduceat(values, offsets[:-1][filled])
    return found
