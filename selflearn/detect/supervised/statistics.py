"""What is usual in a log: which items, and which slots, are read in which context. Small enough to lie in a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from selflearn.detect.items import Item
from selflearn.detect.supervised.batch import Batch
from selflearn.ragged import Floats, Ints

MAX_CONTEXTS = 500
MAX_KINDS = 2_000
MAX_JOINT = 5_000
_SMOOTHING = 2.0

Thing = TypeVar("Thing", str, tuple[int, int])


@dataclass(frozen=True)
class Expectation:
    """How often things of some kind are read in each context.

    Attributes:
        n_turns: turns counted.
        contexts: turns of each of the commonest contexts.
        kinds: turns that each of the commonest kinds is read in.
        joint: turns of the context, by place in `contexts`, that the kind, by place in `kinds`, is read in; those of
            the commonest combinations.
    """

    n_turns: int
    contexts: dict[str, int]
    kinds: dict[str, int]
    joint: dict[tuple[int, int], int]

    def log_ratio(self, contexts: list[str], kinds: list[str], context: Ints, kind: Ints) -> Floats:
        """Log of how likely each kind is in its context over how likely it is anywhere, smoothed towards 0.

        `context` and `kind` are codes into the names given. What was never counted has the ratio of the unknown.
        """
        keys, group = np.unique(context * len(kinds) + kind, return_inverse=True)
        of_context, of_kind = (codes.tolist() for codes in np.divmod(keys, max(1, len(kinds))))
        place_of_context = _places(self.contexts, contexts)
        place_of_kind = _places(self.kinds, kinds)
        seen = np.array(
            [
                self.joint.get((place_of_context[c], place_of_kind[k]), 0)
                for c, k in zip(of_context, of_kind, strict=True)
            ],
            dtype=np.float64,
        )
        turns = np.array([self.contexts.get(name, 0) for name in contexts], dtype=np.float64)[of_context]
        read = np.array([self.kinds.get(name, 0) for name in kinds], dtype=np.float64)[of_kind]
        overall = (read + 1) / (self.n_turns + 1)
        return np.asarray(np.log((seen + _SMOOTHING * overall) / (turns + _SMOOTHING) / overall)[group])

    def to_fields(self) -> dict[str, Any]:
        joint = [[c, k, n] for (c, k), n in self.joint.items()]
        return {"n_turns": self.n_turns, "contexts": self.contexts, "kinds": self.kinds, "joint": joint}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Expectation:
        joint = {(c, k): n for c, k, n in fields["joint"]}
        return cls(fields["n_turns"], fields["contexts"], fields["kinds"], joint)


def count_expectations(batch: Batch) -> dict[str, Expectation]:
    """What the turns of a sample were acted on by: items, and slots, by context."""
    turn, item = batch.acted_items
    items, slots = item_keys(batch.names), [name for name, _ in batch.names]
    return {name: _counted(batch, turn, [keys[k] for k in item]) for name, keys in (("item", items), ("slot", slots))}


def item_keys(names: list[Item]) -> list[str]:
    """One string for each item."""
    return [f"{slot}={value}" for slot, value in names]


def _counted(batch: Batch, turn: Ints, kind: list[str]) -> Expectation:
    contexts = [batch.contexts[code] for code in batch.compared.turns.context]
    of_context = _commonest(contexts, MAX_CONTEXTS)
    held = list(dict.fromkeys(zip(turn.tolist(), kind, strict=True)))
    of_kind = _commonest([name for _, name in held], MAX_KINDS)
    context_place, kind_place = ({name: k for k, name in enumerate(counts)} for counts in (of_context, of_kind))
    keys = ((context_place.get(contexts[row], -1), kind_place.get(name, -1)) for row, name in held)
    joint = _commonest((key for key in keys if min(key) >= 0), MAX_JOINT)
    return Expectation(len(contexts), of_context, of_kind, joint)


def _commonest(things: Iterable[Thing], most: int) -> dict[Thing, int]:
    """Counts of the commonest; of equally common ones the first in order."""
    counted = Counter(things)
    return dict(sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))[:most])


def _places(counted: dict[str, int], names: list[str]) -> list[int]:
    place = {name: k for k, name in enumerate(counted)}
    return [place.get(name, -1) for name in names]
