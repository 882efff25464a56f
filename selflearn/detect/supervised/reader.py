"""A second reading of every turn, learnt from the log's own readings: ridge regression on sketched character n-grams.

It reads alike what sounds alike, and so sees items that the NLU at work missed. The turns of the sample count as they
were sure of what they read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from selflearn.detect.supervised.batch import Batch
from selflearn.detect.supervised.statistics import item_keys
from selflearn.ragged import Floats, Ints

_SKETCH = 512
_MAX_ITEMS = 200
_RIDGE = 0.3
_UNKNOWN_RECOGNITION = 0.5
_UNKNOWN_CONFIDENCE = 0.1
_DIGITS = 4
_PAIRS_AT_ONCE = 4_096


@dataclass(frozen=True)
class SecondReader:
    """Weights of the sketched n-grams, and of a constant, for each of the commonest items: (sketch + 1, items)."""

    items: list[str]
    weights: Floats

    def read(self, batch: Batch) -> Floats:
        """Belief in each of `items` by turn, shape (turns, items), in [0, 1]."""
        return np.asarray(np.clip(_sketched(batch.compared.turns.gram_profiles) @ self.weights, 0.0, 1.0))

    def to_fields(self) -> dict[str, Any]:
        return {"items": self.items, "weights": self.weights.tolist()}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> SecondReader:
        return cls(fields["items"], np.array(fields["weights"], dtype=np.float64).reshape(-1, len(fields["items"])))


def fit_reader(batch: Batch) -> SecondReader:
    """Learn to read the commonest items of a sample's turns."""
    turns = batch.compared.turns
    keys = item_keys(batch.names)
    total = np.bincount(turns.items.codes, turns.items.probabilities, len(keys))
    common = [keys[k] for k in np.argsort(-total, kind="stable")[:_MAX_ITEMS] if total[k] > 0]
    sketch = _sketched(turns.gram_profiles)
    confidence = np.where(np.isnan(turns.confidence), _UNKNOWN_CONFIDENCE, turns.confidence)
    weight = confidence * np.where(np.isnan(turns.recognition), _UNKNOWN_RECOGNITION, turns.recognition)
    weighted = sketch * weight[:, None]
    normal = weighted.T @ sketch + _RIDGE * np.eye(sketch.shape[1])
    solved = np.linalg.solve(normal, weighted.T @ beliefs(batch, common))
    return SecondReader(common, np.asarray(np.round(solved, _DIGITS), dtype=np.float64))


def second_opinion(reader: SecondReader, batch: Batch, source: Ints, target: Ints) -> dict[str, Floats]:
    """Items that the source was not acted on by, as the second reader sees them in both turns."""
    second, first, acted = reader.read(batch), beliefs(batch, reader.items), _acted_on(batch, reader.items)
    missed, missed_first = np.where(acted, 0.0, second), np.where(acted, 0.0, first)
    found = {
        "second_both": _products(missed, second, source, target)[0],
        "second_then_first": _products(missed, first, source, target)[0],
        "first_then_second": _products(missed_first, second, source, target)[0],
        "second_same": _products(second, second, source, target)[1],
    }
    of_old = np.where(acted, second, -1.0).max(axis=1, initial=-1.0)
    return found | {"second_missed": missed.max(axis=1, initial=0.0)[source], "second_of_old": of_old[source]}


def _products(left: Floats, right: Floats, source: Ints, target: Ints) -> tuple[Floats, Floats]:
    """Largest product, and sum of products, of a row of `left` and a row of `right`, of each pair."""
    largest, total = np.empty(len(source)), np.empty(len(source))
    for start in range(0, len(source), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        products = left[source[some]] * right[target[some]]
        largest[some], total[some] = products.max(axis=1, initial=0.0), products.sum(axis=1)
    return largest, total


def beliefs(batch: Batch, items: list[str]) -> Floats:
    """Probability of each of the items by turn, shape (turns, items)."""
    held = batch.compared.turns.items
    column = _columns(batch, items)
    kept = column[held.codes] >= 0
    found = np.zeros((batch.compared.n_turns, len(items)))
    turn = np.repeat(np.arange(batch.compared.n_turns), np.diff(held.offsets))
    found[turn[kept], column[held.codes][kept]] = np.minimum(1.0, held.probabilities[kept])
    return found


def _acted_on(batch: Batch, items: list[str]) -> Floats:
    turn, item = batch.acted_items
    column = _columns(batch, items)[item]
    found = np.zeros((batch.compared.n_turns, len(items)), dtype=bool)
    found[turn[column >= 0], column[column >= 0]] = True
    return found


def _columns(batch: Batch, items: list[str]) -> Ints:
    """Place of each of the batch's items among the given ones; -1 where it is none of them."""
    place = {name: k for k, name in enumerate(items)}
    return np.array([place.get(name, -1) for name in item_keys(batch.names)], dtype=np.int64)


def _sketched(grams: sparse.csr_array) -> Floats:
    """Count sketch of n-gram profiles, and a constant, shape (turns, sketch + 1)."""
    n, bucket = grams.shape[0], grams.indices
    turn = np.repeat(np.arange(n), np.diff(grams.indptr))
    signed = np.where((bucket // _SKETCH) % 2 == 0, grams.data, -grams.data)
    sums = np.bincount(turn * _SKETCH + bucket % _SKETCH, weights=signed, minlength=n * _SKETCH)
    return np.column_stack([sums.reshape(n, _SKETCH), np.ones(n)])
