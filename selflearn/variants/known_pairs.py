"""Pairs of utterances whose goals are known, as the calibration learns from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from selflearn.ragged import Floats, Ints, places
from selflearn.variants.calibration import N_FOLDS, KnownPairs, fold_of, is_left_out
from selflearn.variants.comparison import (
    Lexicon,
    WordsApart,
    folded_counts,
    lexicon_of,
    own_signals,
    shared_words,
    text_signals,
    words_apart,
    words_of,
)

COSINE_BINS = 20
"""Of a unit of cosine."""
_N_LEXICON_FOLDS = 2 * N_FOLDS
_LEAST_WEIGHT, _MOST_WEIGHT = 0.2, 5.0

Density = Mapping[tuple[str, int], int]
"""How many candidate pairs there are, by the left utterance's locale and bin of cosine."""


def known_pairs(pairs: pa.Table, density: Density, is_trained: bool) -> tuple[KnownPairs, Lexicon]:
    """What the calibration needs of pairs of known goals, and the lexicon of all their utterances.

    Pairs of which an encoder that is trained on the log may have seen both goals are left out; the others of their
    kind, same goal or not, stand for them. Each pair is compared with a lexicon that leaves out its two goals: a value
    known from the utterance itself would be told from other words more surely than one of a goal that is new.

    Args:
        pairs: columns of `same_goal.DESCRIBED`, neither goal null.
        density: of all candidate pairs; each known one stands for as many of its locale and cosine as there are.
        is_trained: whether the encoder is one that `selflearn encoder train` made.
    """
    counts, weight = _Counts.of(pairs), _stands_for(pairs, density)
    is_unseen = np.ones(len(pairs), dtype=bool)
    if is_trained:
        is_unseen = _each(pairs["left_goal"], is_left_out) | _each(pairs["right_goal"], is_left_out)
    is_same = pairs["left_goal"].to_numpy() == pairs["right_goal"].to_numpy()
    for kind in (is_same, ~is_same):
        weight[kind] *= weight[kind].sum() / max(weight[kind & is_unseen].sum(), _LEAST_WEIGHT)
    pairs = pairs.filter(pa.array(is_unseen)).combine_chunks()
    left, right = (_folds(pairs[f"{side}_goal"]) for side in ("left", "right"))
    signals, apart = _compared_left_out(pairs, left, right, counts)
    known = KnownPairs(
        signals,
        apart,
        is_same[is_unseen],
        left % N_FOLDS,
        right % N_FOLDS,
        pairs["left_locale"].to_numpy(),
        weight[is_unseen],
    )
    return known, counts.lexicon(())


class _Counts:
    """How many utterances have each word, and have it in a value of their goal, by fold of the goal."""

    def __init__(self, n_texts: Floats, n_with: Floats, n_as_value: Floats) -> None:
        self._counts = (n_texts, n_with, n_as_value)
        self._totals = tuple(counts.sum(axis=0) for counts in self._counts)

    @classmethod
    def of(cls, pairs: pa.Table) -> _Counts:
        """Of the distinct utterances of the pairs."""
        columns = [(pairs[f"{side}_text"].to_pylist(), pairs[f"{side}_goal"].to_pylist()) for side in ("left", "right")]
        said = sorted({row for texts, goals in columns for row in zip(texts, goals, strict=True)})
        fold = _folds(pa.chunked_array([[goal for _, goal in said]], pa.string()))
        words = words_of([text for text, _ in said])
        as_values = shared_words(words, words_of([_values(goal) for _, goal in said]))
        n_texts, n_with = folded_counts(words, fold, _N_LEXICON_FOLDS)
        return cls(n_texts, n_with, folded_counts(as_values, fold, _N_LEXICON_FOLDS)[1])

    def lexicon(self, left_out: tuple[int, ...]) -> Lexicon:
        """The lexicon of all folds but some."""
        kept = (
            total - part[list(left_out)].sum(axis=0) for total, part in zip(self._totals, self._counts, strict=True)
        )
        return lexicon_of(*kept)


def _compared_left_out(
    pairs: pa.Table, left: Ints, right: Ints, counts: _Counts
) -> tuple[dict[str, Floats], WordsApart]:
    signals = own_signals(pairs) | text_signals(_strings(pairs["left_text"]), _strings(pairs["right_text"]))
    low, high = np.minimum(left, right), np.maximum(left, right)
    folds = low * _N_LEXICON_FOLDS + high
    rows, sizes, buckets = [], [], []
    for fold in np.unique(folds):
        some = np.flatnonzero(folds == fold)
        lexicon = counts.lexicon(tuple({int(low[some[0]]), int(high[some[0]])}))
        chosen = pairs.take(pa.array(some))
        found, apart = words_apart(_strings(chosen["left_text"]), _strings(chosen["right_text"]), lexicon)
        for name, values in found.items():
            signals.setdefault(name, np.empty(len(pairs)))[some] = values
        rows.append(some)
        sizes.append(np.diff(apart.offsets))
        buckets.append(apart.buckets)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    place, in_order = places(offsets, np.argsort(np.concatenate(rows)))
    return signals, WordsApart(in_order, np.concatenate(buckets)[place])


def _stands_for(pairs: pa.Table, density: Density) -> Floats:
    """Weight of each pair: candidates of its locale and cosine for each known pair, within bounds, 1 on average."""
    bins = np.floor(pairs["cosine"].to_numpy() * COSINE_BINS).astype(np.int64)
    cells = list(zip(pairs["left_locale"].to_pylist(), bins.tolist(), strict=True))
    n_known: dict[tuple[str, int], int] = {}
    for cell in cells:
        n_known[cell] = n_known.get(cell, 0) + 1
    weight = np.array([density.get(cell, 0) / n_known[cell] for cell in cells])
    mean = weight.mean() if weight.any() else 1.0
    return np.asarray(np.clip(weight / mean, _LEAST_WEIGHT, _MOST_WEIGHT))


def _folds(goals: pa.ChunkedArray) -> Ints:
    return _each(goals, lambda goal: fold_of(goal, _N_LEXICON_FOLDS)).astype(np.int64)


def _each(goals: pa.ChunkedArray, what: Callable[[str], int]) -> np.ndarray:
    """What a function says of each goal, asked once for each distinct one."""
    coded = _strings(goals).dictionary_encode()
    of_each = np.array([what(goal) for goal in coded.dictionary.to_pylist()])
    return np.asarray(of_each[coded.indices.to_numpy()])


def _values(goal: str) -> str:
    return " ".join(slot["value"].casefold() for slot in json.loads(goal)["slots"])


def _strings(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
