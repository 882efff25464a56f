"""Blocks: the utterances of one cell, each compared with all others in products of matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selflearn.ragged import Floats, Ints
from selflearn.variants.cells import Whole

MAX_BLOCK = 1 << 20
_ELEMENTS_AT_ONCE = 1 << 20
_KEYS_AT_ONCE = 1 << 21
_STEPS = 1_000_000
_LOW = MAX_BLOCK - 1


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
    keys: list[Ints] = [np.empty(0, dtype=np.int64)]
    for row, column, cosine in _near_pairs(block, min_cosine):
        keys += [_key(row, column, cosine), _key(column, row, cosine)]
        if sum(map(len, keys)) > _KEYS_AT_ONCE:
            keys = [_best(np.concatenate(keys), most)]
    key = _best(np.concatenate(keys), most)
    near = Near(key >> 40, key & _LOW, (_STEPS - ((key >> 20) & _LOW)) / _STEPS)
    return near[_is_first_common(block, near)]


def _near_pairs(block: Block, min_cosine: float) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Both rows of each pair, the smaller first, and its cosine in steps of 1e-6; some rows at once."""
    size, code = len(block.vectors), _person_codes(block)
    vectors = block.vectors.astype(np.float32)
    inverse = 1 / np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    floor = np.float32(np.floor(min_cosine / max(inverse, default=1.0) ** 2) - 1)
    at_once = max(1, _ELEMENTS_AT_ONCE // max(1, size))
    for start in range(0, size, at_once):
        products = vectors[start : start + at_once] @ vectors[start:].T
        hits = np.flatnonzero(products >= floor)
        row, column = np.divmod(hits, size - start)
        cosine = products.ravel()[hits] * (inverse[start + row] * inverse[start + column] * _STEPS)
        kept = (row < column) & (code[start + row] != code[start + column]) & (cosine >= min_cosine * _STEPS - 0.5)
        kept &= block.n_people[start + row] + block.n_people[start + column] >= 2
        row, column, cosine = row[kept] + start, column[kept] + start, np.rint(cosine[kept])
        yield row, column, np.minimum(cosine, _STEPS).astype(np.int64)


def _person_codes(block: Block) -> Ints:
    """Equal for two utterances that one person alone said; each utterance of several people has a code of its own."""
    is_one = block.n_people == 1
    codes = np.arange(len(is_one))
    codes[is_one] = len(is_one) + np.unique(block.person[is_one], return_inverse=True)[1]
    return codes


def _key(row: Ints, neighbour: Ints, cosine: Ints) -> Ints:
    """One whole number that sorts by row, then cosine, then neighbour: far faster than sorting by three."""
    return (row << 40) | ((_STEPS - cosine) << 20) | neighbour


def _best(keys: Ints, most: int) -> Ints:
    """The first keys of each row, sorted."""
    keys = np.sort(keys)
    first = np.flatnonzero(np.diff(keys >> 40, prepend=-1))
    rank = np.arange(len(keys)) - np.repeat(first, np.diff(first, append=len(keys)))
    return keys[rank < most]


def _is_first_common(block: Block, near: Near) -> npt.NDArray[np.bool_]:
    """Whether no block before this one holds both utterances of a pair."""
    is_earlier = np.zeros(len(near.row), dtype=bool)
    left, right = block.others[near.row], block.others[near.neighbour]
    for one in left.T:
        for other in right.T:
            is_earlier |= (one == other) & (one < block.number)
    return ~is_earlier
