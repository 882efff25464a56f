"""Logistic regression on what was said, read and asked, each thing by its name, beside the features of a pair.

Features say how much two turns have in common. They do not know that "what about" goes before another value, or which
readings a log mistakes for which. With enough gold that can be learnt: by itself it tells less than trees do, but it
errs elsewhere, so that both together tell more than either.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import sparse

from selflearn.detect.items import NONE, goal_items
from selflearn.detect.supervised.batch import Batch, dot
from selflearn.detect.supervised.linear import standard_scores
from selflearn.detect.supervised.statistics import item_keys
from selflearn.ragged import Floats, Ints
from selflearn.wording import characters_of, word_counts

_BUCKETS = 1 << 18
_LEAST_TURNS = 5
_MAX_THINGS = 5_000
_PULL_THING, _PULL_FEATURE, _PULL_OFFSET = 2.0, 22.0, 0.01


@dataclass(frozen=True)
class Said:
    """How much of each thing each turn holds, shape (turns, things), and the turns of each pair."""

    turns: sparse.csr_array
    source: Ints
    target: Ints

    def pairs(self, chosen: Ints) -> Said:
        """Some of the pairs."""
        return Said(self.turns, self.source[chosen], self.target[chosen])

    def of(self, things: Ints) -> Said:
        """The same pairs and, of the things, the columns given in order."""
        rows = self.turns
        place = np.searchsorted(things, rows.indices)
        kept = np.append(things, NONE)[place] == rows.indices
        offsets = np.append(0, np.cumsum(kept))[rows.indptr]
        narrow = sparse.csr_array((rows.data[kept], place[kept], offsets), shape=(rows.shape[0], len(things)))
        return Said(narrow, self.source, self.target)


def said_in(batch: Batch) -> Said:
    """Words heard, items considered, items acted on, situation, and words of the prompt: each kind hashed by name."""
    turns, n = batch.compared.turns, batch.compared.n_turns
    items = _hashes(item_keys(batch.names))
    considered = np.minimum(1.0, turns.items.probabilities), items[turns.items.codes], turns.items.offsets
    turn, acted = batch.acted_items
    acted_on = np.ones(len(turn)), (turn, items[acted])
    situation = np.ones(n), _situations(batch), np.arange(n + 1)
    told = sparse.csr_array(word_counts(characters_of([*batch.prompts, ""])) > 0).astype(np.float64)
    prompt = told[np.where(turns.prompt == NONE, len(batch.prompts), turns.prompt)]
    named = [sparse.csr_array(rows, shape=(n, _BUCKETS)) for rows in (considered, acted_on, situation)]
    everything = sparse.hstack([turns.word_profiles, *named, prompt], format="csr")
    return Said(sparse.csr_array(everything), batch.compared.source, batch.compared.target)


def common_things(said: Said) -> Ints:
    """Things that at least `_LEAST_TURNS` turns of the pairs hold; of very many the commonest, in order."""
    turns = np.unique([said.source, said.target])
    things, counts = np.unique(said.turns[turns].indices, return_counts=True)
    n = min(_MAX_THINGS, int((counts >= _LEAST_TURNS).sum()))
    return np.sort(things[np.argsort(-counts, kind="stable")[:n]]).astype(np.int64)


@dataclass(frozen=True)
class LexicalModel:
    """Log-odds are the product of `coefficients` with a row of `design`.

    Attributes:
        names, means, spreads: of the features whose standard scores count.
        things: columns of `Said.turns` that count.
        coefficients: of the things in the source, in the target, of the products of both, of the scores, and 1.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    things: tuple[int, ...]
    coefficients: tuple[float, ...]

    def log_odds(self, names: Sequence[str], features: Floats, said: Said) -> Floats:
        """Log-odds of each pair, shape (pairs,); `names` are those of the features."""
        held, n = said.of(np.array(self.things, dtype=np.int64)), len(self.things)
        rows, source, target = held.turns, said.source, said.target
        by_source, by_target, by_both, of_scores = np.split(np.array(self.coefficients), [n, 2 * n, 3 * n])
        weighed = sparse.csr_array((rows.data * by_both[rows.indices], rows.indices, rows.indptr), shape=rows.shape)
        of_things = (rows @ by_source)[source] + (rows @ by_target)[target] + dot(weighed[source], rows[target])
        place = {name: k for k, name in enumerate(names)}
        scores = standard_scores(features[:, [place[name] for name in self.names]], self.means, self.spreads)
        return np.asarray(of_things + scores @ of_scores[:-1] + of_scores[-1])

    def to_fields(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> LexicalModel:
        return cls(**{name: tuple(value) for name, value in fields.items()})


def design(held: Said, scores: Floats) -> sparse.csr_array:
    """What the pairs' log-odds are linear in; `held` has the things that count, `scores` are the features'."""
    source, target = held.turns[held.source], held.turns[held.target]
    dense = sparse.csr_array(np.column_stack([scores, np.ones(len(scores))]))
    return sparse.csr_array(sparse.hstack([source, target, source.multiply(target), dense], format="csr"))


def pulls(n_things: int, n_features: int) -> Floats:
    """Of each coefficient towards 0, in gold pairs."""
    return np.repeat([_PULL_THING, _PULL_FEATURE, _PULL_OFFSET], [3 * n_things, n_features, 1])


def _situations(batch: Batch) -> Ints:
    """Of each turn, its context with what kind of reading it was acted on by: intent and names of slots."""
    readings, context = batch.compared.turns.readings, batch.compared.turns.context
    kinds = [" ".join(sorted({slot or value for slot, value in goal_items(goal)})) for goal in readings.goals] + [""]
    n = len(kinds)
    # `NONE` is the last kind, that without items.
    keys, place = np.unique(context * n + readings.acted_on % n, return_inverse=True)
    return _hashes(f"{batch.contexts[key // n]}\n{kinds[key % n]}" for key in keys.tolist())[place]


def _hashes(names: Iterable[str]) -> Ints:
    hashes = [zlib.crc32(name.encode("utf-8", "surrogatepass")) % _BUCKETS for name in names]
    return np.array(hashes, dtype=np.int64)
