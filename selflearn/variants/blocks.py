"""Blocks: the utterances of one cell, each compared with all others in products of matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selflearn.ragged import Floats, Ints
from selflearn.variants.cells import Whole

MAX_BLOCK = 1 << 20
_ELEMENTS_AT_ONCE = 1 << 20
_STEPS = 1_000_000


@dataclass(frozen=True)
class Block:
    """Utterances that are compared with each other, in order of their ids.

    Attributes:
        number: which block this is.
        vectors: shape (rows, dimensions).
        others: the blocks that each utterance lies in, this one among them; shape (rows, probes).
        n_people: how many said it: 0, 1, or 2 for more than one.
        person: who, where that was one.
    """

    number: int
    vectors: Whole
    others: Ints
    n_people: Ints
    person: Ints


@dataclass(frozen=True)
class Near:
    """For each utterance of a block, in order, its nearest others, nearest first; row numbers within the block."""

    row: Ints
    neighbour: Ints
    cosine: Floats

    def __getitem__(self, kept: npt.NDArray[np.bool_]) -> Near:
        return Near(self.row[kept], self.neighbour[kept], self.cosine[kept])


def nearest_in_block(block: Block, min_cosine: float, most: int) -> Near:
    """At most `most` neighbours of each utterance with a cosine of at least `min_cosine`, not of one user alone.

    Cosines are multiples of 1e-6; of equally near neighbours the one with the smaller row comes first. A pair that
    several blocks hold is left to the first of them: each is found by comparing it, none loses its place to a pair
    that is found elsewhere.
    """
    size = len(block.vectors)
    if size > MAX_BLOCK:
        raise ValueError(f"a block of {size} rows: at most {MAX_BLOCK} can be numbered")
    vectors = block.vectors.astype(np.float32)
    inverse = 1 / np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    floor = np.float32(np.floor(min_cosine / max(inverse, default=1.0) ** 2) - 1)
    code = _person_codes(block)
    at_once = max(1, _ELEMENTS_AT_ONCE // max(1, size))
    room = np.empty((min(at_once, size), size), dtype=np.float32)
    found = []
    for start in range(0, size, at_once):
        products = np.matmul(vectors[start : start + at_once], vectors.T, out=room[: size - start])
        hits = np.flatnonzero(products >= floor)
        row, column = np.divmod(hits, size)
        row += start
        cosine = np.rint(products.ravel()[hits] * (inverse[row] * inverse[column] * _STEPS)).clip(max=_STEPS)
        is_candidate = (code[row] != code[column]) & (cosine >= min_cosine * _STEPS)
        is_candidate &= block.n_people[row] + block.n_people[column] >= 2
        best = _best(row[is_candidate], column[is_candidate], cosine[is_candidate], most)
        found.append(best[_is_first_common(block, best)])
    return Near(*(np.concatenate([getattr(part, name) for part in found]) for name in ("row", "neighbour", "cosine")))


def _person_codes(block: Block) -> Ints:
    """Equal for two utterances that one person alone said; each utterance of several people has a code of its own."""
    is_one = block.n_people == 1
    codes = np.arange(len(is_one))
    codes[is_one] = len(is_one) + np.unique(block.person[is_one], return_inverse=True)[1]
    return codes


def _best(row: Ints, column: Ints, cosine: Floats, most: int) -> Near:
    # One whole number sorts by row, then cosine, then column: far faster than sorting by three.
    key = (row << 40) | ((_STEPS - cosine.astype(np.int64)) << 20) | column
    key.sort()
    row, column, cosine = key >> 40, key & (MAX_BLOCK - 1), (_STEPS - ((key >> 20) & (MAX_BLOCK - 1))) / _STEPS
    first = np.flatnonzero(np.diff(row, prepend=-1))
    rank = np.arange(len(row)) - np.repeat(first, np.diff(first, append=len(row)))
    return Near(row, column, cosine)[rank < most]


def _is_first_common(block: Block, near: Near) -> npt.NDArray[np.bool_]:
    """Whether no block before this one holds both utterances of a pair."""
    is_earlier = np.zeros(len(near.row), dtype=bool)
    left, right = block.others[near.row], block.others[near.neighbour]
    for one in left.T:
        for other in right.T:
            is_earlier |= (one == other) & (one < block.number)
    return ~is_earlier
