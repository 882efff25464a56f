"""Pairs of utterances whose goals are known, as the calibration learns from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import pyarrow as pa

from selflearn.ragged import Floats, Ints
from selflearn.variants.calibration import KnownPairs, fold_of, is_left_out
from selflearn.variants.comparison import (
    Lexicon,
    Words,
    own_signals,
    shared_words,
    text_signals,
    words_apart,
    words_of,
)

COSINE_BINS = 20
"""Of a unit of cosine."""
_LEAST_WEIGHT, _MOST_WEIGHT = 0.2, 5.0

Density = Mapping[tuple[str, int], int]
"""How many candidate pairs there are, by the left utterance's locale and bin of cosine."""


def known_pairs(pairs: pa.Table, density: Density, is_trained: bool) -> tuple[KnownPairs, Lexicon]:
    """What the calibration needs of pairs of known goals, and the lexicon of all their utterances.

    An encoder that is trained on the log puts together what it was trained on. So with such a one a pair must have a
    goal that was left out of training: that is the tested one, and stands for goals that nobody knows yet. A pair of
    two such goals is met twice as often as a pair of such a goal and another, for a third of either is left out.
    What the lexicon knows from a pair's own utterances does not count for it.

    Args:
        pairs: columns of `same_goal.DESCRIBED`, neither goal null.
        density: of all candidate pairs; each known one stands for as many of its locale and cosine as there are.
        is_trained: whether the encoder is one that `selflearn encoder train` made.
    """
    lexicon, weight = _lexicon(pairs), _stands_for(pairs, density)
    testable = [
        _each(pairs[f"{side}_goal"], is_left_out if is_trained else lambda goal: True) for side in ("left", "right")
    ]
    weight *= (testable[0] + testable[1]) / 2
    kept = weight > 0
    pairs, weight = pairs.filter(kept), weight[kept]
    left_testable, right_testable = testable[0][kept], testable[1][kept]
    # Of a pair with two such goals either may be the one: which, hangs on its place.
    is_left = np.where(left_testable == right_testable, np.arange(len(pairs)) % 2 == 0, left_testable > 0)
    left_goal, right_goal = (pairs[f"{side}_goal"].to_numpy() for side in ("left", "right"))
    tested = np.unique(np.where(is_left, left_goal, right_goal).astype(str), return_inverse=True)[1]
    left, right = (_strings(pairs[f"{side}_text"]) for side in ("left", "right"))
    own = (_value_words(left, pairs["left_goal"]), _value_words(right, pairs["right_goal"]))
    of_words, apart = words_apart(left, right, lexicon, own)
    left_fold, right_fold = (_each(pairs[f"{side}_goal"], fold_of) for side in ("left", "right"))
    signals = own_signals(pairs) | text_signals(left, right) | of_words
    is_same, locale = left_goal == right_goal, pairs["left_locale"].to_numpy()
    known = KnownPairs(signals, apart, is_same, left_fold, right_fold, is_left, tested, locale, weight)
    return known, lexicon


def _lexicon(pairs: pa.Table) -> Lexicon:
    """Of the distinct utterances of the pairs."""
    columns = [(pairs[f"{side}_text"].to_pylist(), pairs[f"{side}_goal"].to_pylist()) for side in ("left", "right")]
    said = sorted({row for texts, goals in columns for row in zip(texts, goals, strict=True)})
    texts, goals = (pa.array([row[k] for row in said], pa.string()) for k in (0, 1))
    return Lexicon.of(words_of(texts.to_pylist()), _value_words(texts, pa.chunked_array([goals])))


def _value_words(texts: pa.Array, goals: pa.ChunkedArray) -> Words:
    """Words of each text that are part of a value of its goal."""
    return shared_words(words_of(texts.to_pylist()), words_of([_values(goal) for goal in goals.to_pylist()]))


def _stands_for(pairs: pa.Table, density: Density) -> Floats:
    """Weight of each pair: candidates of its locale and cosine for each known pair, within bounds, 1 on average."""
    bins = np.floor(pairs["cosine"].to_numpy() * COSINE_BINS).astype(np.int64)
    cells = list(zip(pairs["left_locale"].to_pylist(), bins.tolist(), strict=True))
    n_known: dict[tuple[str, int], int] = {}
    for cell in cells:
        n_known[cell] = n_known.get(cell, 0) + 1
    weight = np.array([density.get(cell, 0) / n_known[cell] for cell in cells])
    mean = float(weight.mean()) if weight.any() else 1.0
    return np.asarray(np.clip(weight / mean, _LEAST_WEIGHT, _MOST_WEIGHT))


def _each(goals: pa.ChunkedArray, what: Callable[[str], int]) -> Ints:
    """What a function says of each goal, asked once for each distinct one."""
    coded = _strings(goals).dictionary_encode()
    of_each = np.array([what(goal) for goal in coded.dictionary.to_pylist()], dtype=np.int64)
    return np.asarray(of_each[coded.indices.to_numpy()])


@lru_cache(maxsize=100_000)
def _values(goal: str) -> str:
    return " ".join(slot["value"].casefold() for slot in json.loads(goal)["slots"])


def _strings(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
