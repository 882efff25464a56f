"""How alike sentences are by their characters, and what that gives away: leaks into evaluation sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import sparse

from selflearn.ragged import Floats, Ints
from selflearn.release.rows import Row, Sentence, sentence_of
from selflearn.wording import characters_of, gram_counts

NEAR_DUPLICATE = 0.9
"""Likeness from which on two sentences count as one with a slip: a letter of twenty, a comma, another ending."""
_CELLS = 4_000_000
"""Pairs of sentences in memory at once."""
_PAIRS = 50_000
"""Candidates of near pairs that are compared at once."""
_OF_RARE = 0.3
_SLACK = 1e-9


def likeness(texts: Sequence[str], others: Sequence[str]) -> Iterator[tuple[slice, sparse.csr_array]]:
    """Likeness of texts, a block of rows at a time, to all others: shape (block, others), in [0, 1].

    The Bhattacharyya coefficient of the shares of their character 2- and 3-grams: 1 of equal texts, 0 of texts that
    have none in common. Texts are normalised ones.
    """
    left, right = _shares(texts), _shares(others).T.tocsr()
    size = max(1, _CELLS // max(1, len(others)))
    for start in range(0, len(texts), size):
        block = slice(start, min(start + size, len(texts)))
        yield block, sparse.csr_array(left[block] @ right)


def nearest(texts: Sequence[str], others: Sequence[str]) -> tuple[Floats, Ints]:
    """Of each text the likeness to the nearest of others, and its place; likeness 0 where there is none."""
    best, place = np.zeros(len(texts)), np.zeros(len(texts), dtype=np.int64)
    for block, found in likeness(texts, others):
        if found.nnz:
            best[block] = found.max(axis=1).toarray().ravel()
            place[block] = found.argmax(axis=1)
    return best, place


def near_pairs(texts: Sequence[str]) -> tuple[Ints, Ints]:
    """Pairs of texts from `NEAR_DUPLICATE` on: places of the first, in order, and of the second, which come after it.

    What the rarest n-grams of a text say of all others bounds their likeness, by the inequality of Cauchy and Schwarz
    over the rest (prefix filtering: Chaudhuri, Ganti and Kaushik 2006); what is below it need not be compared.
    """
    shares = _shares(texts)
    rare = _rarest(shares)
    mass = rare.multiply(rare).sum(axis=1)
    others = shares.T.tocsr()
    found = [np.zeros((2, 0), dtype=np.int64)]
    size = max(1, _CELLS // max(1, len(texts)))
    for start in range(0, len(texts), size):
        by_rare = sparse.coo_array(rare[start : start + size] @ others)
        pairs = np.array([by_rare.row + start, by_rare.col], dtype=np.int64)
        of_rare = mass[pairs[0]]
        rest = (1 - of_rare) * (1 - by_rare.data**2 / of_rare)
        most = by_rare.data + np.sqrt(np.maximum(0.0, rest))
        pairs = pairs[:, (most >= NEAR_DUPLICATE - _SLACK) & (pairs[0] < pairs[1])]
        for at in range(0, pairs.shape[1], _PAIRS):
            some = pairs[:, at : at + _PAIRS]
            alike = shares[some[0]].multiply(shares[some[1]]).sum(axis=1)
            found.append(some[:, alike >= NEAR_DUPLICATE])
    first, second = np.concatenate(found, axis=1)
    order = np.lexsort((second, first))
    return first[order], second[order]


def _rarest(shares: sparse.csr_array) -> sparse.csr_array:
    """Of each row its rarest columns, `_OF_RARE` of its mass or a little more."""
    row = np.repeat(np.arange(shares.shape[0]), np.diff(shares.indptr))
    order = np.lexsort((shares.indices, np.bincount(shares.indices, minlength=shares.shape[1])[shares.indices], row))
    ends = np.append(0.0, np.cumsum(shares.data[order] ** 2))
    kept = order[ends[:-1] - ends[shares.indptr[:-1]][row] < _OF_RARE]
    return sparse.csr_array((shares.data[kept], (row[kept], shares.indices[kept])), shares.shape)


def leaks(rows: Sequence[Row], evaluated: Sequence[Row]) -> dict[Sentence, str]:
    """Sentences of rows that stand in evaluation sets, or nearly do, and the evaluation's words.

    Compared within a locale, whatever the context. A sentence that is merely near one of another intent tells nothing
    of it and stays: of *turn the lights on* and *turn the lights off* either is what the other needs.
    """
    known = {sentence_of(row) for row in evaluated}
    found = {sentence: sentence[1] for sentence in map(sentence_of, rows) if sentence in known}
    held = _by_intent(evaluated)
    for (locale, intent), texts in _by_intent(rows).items():
        others = held.get((locale, intent), [])
        best, place = nearest(texts, others)
        for at in np.flatnonzero(best >= NEAR_DUPLICATE):
            found.setdefault((locale, texts[at]), others[place[at]])
    return found


def _by_intent(rows: Sequence[Row]) -> Mapping[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        locale, text = sentence_of(row)
        found[locale, row["intent"]].add(text)
    return {key: sorted(texts) for key, texts in found.items()}


def _shares(texts: Sequence[str]) -> sparse.csr_array:
    counts = gram_counts(characters_of(texts)).astype(np.float64)
    total = np.maximum(1.0, np.asarray(counts.sum(axis=1)).ravel())
    counts.data = np.sqrt(counts.data / np.repeat(total, np.diff(counts.indptr)))
    return counts
