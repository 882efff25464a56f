"""The items of readings - an intent, or a slot's value - and what two turns' items say of each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from selflearn.ragged import Floats, Ints, max_of, offsets_of, places, sum_of

Bools = npt.NDArray[np.bool_]
Item = tuple[str, str]

NONE = -1
INTENT = ""
_LEAST_PROBABILITY = 0.01
"""Items of the target less probable than this are not looked for."""
_ALMOST_ONE = 1 - 1e-9


@dataclass(frozen=True)
class Readings:
    """The goals that the NLU considered, as codes of `goals`, lists by turn.

    Attributes:
        top: each turn's most probable one, or `NONE`.
        acted_on: the same, `NONE` of turns that fell back.
    """

    goals: Sequence[str]
    top: Ints
    acted_on: Ints
    offsets: Ints
    codes: Ints
    probabilities: Floats

    @property
    def turn(self) -> Ints:
        """The turn of each considered goal."""
        return np.repeat(np.arange(len(self.top)), np.diff(self.offsets))

    @property
    def is_any(self) -> Bools:
        """Whether the NLU considered anything, by turn."""
        return np.asarray(np.diff(self.offsets) > 0)


@dataclass(frozen=True)
class Items:
    """Items of the considered goals, lists by turn, sorted by code.

    Attributes:
        offsets, codes, probabilities: of each turn's items; a probability sums the goals that hold the item.
        same: by code, one code for all items of the same value whatever their slot.
        strings: by code, the case-folded value to look for in texts; empty of an intent.
        code_of: each item's code.
        acted_keys: sorted `turn * len(same) + same` of the items on the reading that each turn was acted on by.
    """

    offsets: Ints
    codes: Ints
    probabilities: Floats
    same: Ints
    strings: npt.NDArray[np.object_]
    code_of: Mapping[Item, int]
    acted_keys: Ints

    @property
    def n(self) -> int:
        return max(1, len(self.same))

    def is_acted_on(self, turn: Ints, item: Ints) -> Bools:
        """Whether the value of each item is on the reading that the turn was acted on by, in whatever slot."""
        return np.isin(turn * self.n + self.same[item], self.acted_keys)

    def probability(self, turn: Ints, item: Ints) -> Floats:
        """Probability of each item among the goals that the turn's NLU considered; 0 where it is in none."""
        held = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets)) * self.n + self.codes
        if not len(held):
            return np.zeros(len(turn))
        wanted = turn * self.n + item
        at = np.minimum(np.searchsorted(held, wanted), len(held) - 1)
        return np.where(held[at] == wanted, np.minimum(1.0, self.probabilities[at]), 0.0)


@lru_cache(maxsize=100_000)
def goal_values(goal: str) -> tuple[Item, ...]:
    """Slot names and values of a goal."""
    return tuple((slot["name"], slot["value"]) for slot in json.loads(goal)["slots"])


@lru_cache(maxsize=100_000)
def goal_items(goal: str) -> tuple[Item, ...]:
    """Slot values and intent of a goal, without repetitions."""
    return tuple(dict.fromkeys([*goal_values(goal), (INTENT, json.loads(goal)["intent"])]))


def items_of(readings: Readings) -> Items:
    """Items of every turn's readings."""
    codes: dict[Item, int] = {}
    held = [[codes.setdefault(item, len(codes)) for item in goal_items(goal)] for goal in readings.goals]
    offsets = offsets_of([len(items) for items in held])
    flat = np.array([code for items in held for code in items], dtype=np.int64)
    n_items = max(1, len(codes))
    values: dict[tuple[bool, str], int] = {}
    same = [values.setdefault((name == INTENT, value), len(values)) for name, value in codes]
    strings = np.empty(len(codes), dtype=object)
    strings[:] = ["" if name == INTENT else value.casefold() for name, value in codes]
    place, taken = places(offsets, readings.codes)
    keys, group = np.unique(np.repeat(readings.turn, np.diff(taken)) * n_items + flat[place], return_inverse=True)
    probabilities = np.repeat(readings.probabilities, np.diff(taken))
    read = np.flatnonzero(readings.acted_on != NONE)
    place, taken = places(offsets, readings.acted_on[read])
    of_value = np.array(same, dtype=np.int64)
    return Items(
        offsets=np.searchsorted(keys, np.arange(len(readings.top) + 1) * n_items),
        codes=keys % n_items,
        probabilities=np.bincount(group, weights=probabilities, minlength=len(keys)).astype(np.float64),
        same=of_value,
        strings=strings,
        code_of=codes,
        acted_keys=np.unique(np.repeat(read, np.diff(taken)) * n_items + of_value[flat[place]]),
    )


def value_again(items: Items, source: Ints, target: Ints) -> Floats:
    """Largest probability, in both n-bests, of a value that the source's reading lacks; 0 where there is none."""
    place, offsets = places(items.offsets, source)
    item, of_source = items.codes[place], np.repeat(source, np.diff(offsets))
    found = np.flatnonzero((items.strings[item] != "") & ~items.is_acted_on(of_source, item))
    of_target = np.repeat(target, np.diff(offsets))
    both = np.zeros(len(place))
    both[found] = np.minimum(items.probabilities[place[found]], items.probability(of_target[found], item[found]))
    return max_of(both, offsets, 0.0)


def items_missed(items: Items, source: Ints, target: Ints) -> tuple[Ints, Ints, Floats, Floats]:
    """Items of each target's n-best whose value its source's reading lacks.

    Returns, for each of them, the pair, the item, and its probability in the target and in the source.
    """
    place, offsets = places(items.offsets, target)
    item, of_source = items.codes[place], np.repeat(source, np.diff(offsets))
    kept = ~items.is_acted_on(of_source, item) & (items.probabilities[place] >= _LEAST_PROBABILITY)
    pair = np.repeat(np.arange(len(source)), np.diff(offsets))[kept]
    p_target = np.minimum(1.0, items.probabilities[place[kept]])
    return pair, item[kept], p_target, items.probability(of_source[kept], item[kept])


def any_of(pair: Ints, p: Floats, n_pairs: int) -> Floats:
    """Probability that at least one of the items of each pair holds, were they independent (noisy or)."""
    missed = np.log1p(-np.minimum(_ALMOST_ONE, p))
    return np.asarray(-np.expm1(np.bincount(pair, weights=missed, minlength=n_pairs)))


def reading_new(readings: Readings, source: Ints, target: Ints) -> Floats:
    """Probability that the target's reading has an item that the source's reading lacks; 1 of an unread target."""
    place, offsets = places(readings.offsets, target)
    values = [*map(_item_values, readings.goals), frozenset()]
    acted_on = np.where(readings.acted_on == NONE, len(values) - 1, readings.acted_on)[source]
    key = np.repeat(acted_on, np.diff(offsets)) * len(values) + readings.codes[place]
    keys, group = np.unique(key, return_inverse=True)
    tops, others = (column.tolist() for column in np.divmod(keys, len(values)))
    held = np.array([values[other] <= values[top] for top, other in zip(tops, others, strict=True)], dtype=bool)
    return 1 - np.minimum(1.0, sum_of(readings.probabilities[place] * held[group], offsets))


def reading_offered(readings: Readings, source: Ints, target: Ints) -> Floats:
    """Probability of the target's top reading among those of the source that it was not acted on by.

    0 of the one that it was; NaN where the target has no reading or the NLU considered none for the source.
    """
    place, offsets = places(readings.offsets, source)
    wanted, acted_on = readings.top[target], readings.acted_on[source]
    is_wanted = readings.codes[place] == np.repeat(wanted, np.diff(offsets))
    offered = np.minimum(1.0, sum_of(readings.probabilities[place] * is_wanted, offsets))
    is_comparable = (wanted != NONE) & readings.is_any[source]
    return np.where(is_comparable, np.where(wanted == acted_on, 0.0, offered), np.nan)


@lru_cache(maxsize=100_000)
def _item_values(goal: str) -> frozenset[tuple[bool, str]]:
    return frozenset((name == INTENT, value) for name, value in goal_items(goal))
