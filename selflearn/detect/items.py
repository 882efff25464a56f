"""The items of readings - an intent, or a slot's value - and what two turns' items say of each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
        slot: by code, one code for all items of the same slot; `NONE` of an intent.
        goal_offsets, goal_codes: of each goal's items, and of none where there is no reading, behind the last goal.
        acted_keys: sorted `turn * len(same) + same` of the items on the reading that each turn was acted on by.
    """

    offsets: Ints
    codes: Ints
    probabilities: Floats
    same: Ints
    strings: npt.NDArray[np.object_]
    slot: Ints
    goal_offsets: Ints
    goal_codes: Ints
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
    offsets = offsets_of([*(len(items) for items in held), 0])
    flat = np.array([code for items in held for code in items], dtype=np.int64)
    n_items = max(1, len(codes))
    values: dict[tuple[bool, str], int] = {}
    same = [values.setdefault((name == INTENT, value), len(values)) for name, value in codes]
    slots: dict[str, int] = {}
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
        slot=np.array([slots.setdefault(name, len(slots)) if name != INTENT else NONE for name, _ in codes], np.int64),
        goal_offsets=offsets,
        goal_codes=flat,
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


def reading_new(readings: Readings, items: Items, source: Ints, target: Ints) -> Floats:
    """Probability that the target's reading has an item that the source's reading lacks; 1 of an unread target."""
    place, offsets = places(readings.offsets, target)
    none = len(readings.goals)
    acted_on = np.where(readings.acted_on == NONE, none, readings.acted_on)[source]
    key = np.repeat(acted_on, np.diff(offsets)) * (none + 1) + readings.codes[place]
    keys, group = np.unique(key, return_inverse=True)
    left, right = np.divmod(keys, none + 1)
    item, item_offsets, owner = _of_goals(items, right)
    lacks = ~_is_on(items, left[owner], items.same[item], items.same)
    held = max_of(lacks.astype(np.float64), item_offsets, 0.0) == 0
    return 1 - np.minimum(1.0, sum_of(readings.probabilities[place] * held[group], offsets))


def compare_readings(readings: Readings, items: Items, source: Ints, target: Ints) -> tuple[Floats, Floats, Ints, Ints]:
    """Of the two top readings: overlap of their values, whether they contradict, and the target's new values.

    They contradict where the target has a value that the source lacks, in a slot that both fill. The new values are
    items, in lists by pair. Overlap is NaN where there are no values, contradiction where there are not two readings.
    """
    none = len(readings.goals)
    top = np.where(readings.top == NONE, none, readings.top)
    keys, group = np.unique(top[source] * (none + 1) + top[target], return_inverse=True)
    left, right = np.divmod(keys, none + 1)
    item, offsets, owner = _of_goals(items, right)
    is_value = items.slot[item] != NONE
    is_new = is_value & ~_is_on(items, left[owner], item, np.arange(len(items.slot)))
    same_slot = is_value & _is_on(items, left[owner], items.slot[item], items.slot)
    n_values = sum_of((items.slot[items.goal_codes] != NONE).astype(np.float64), items.goal_offsets)
    n_new = sum_of(is_new.astype(np.float64), offsets)
    union = n_values[left] + n_new
    overlap = np.where(union > 0, (n_values[right] - n_new) / np.maximum(union, 1), np.nan)
    contradicts = max_of((is_new & same_slot).astype(np.float64), offsets, 0.0)
    contradicts[(left == none) | (right == none)] = np.nan
    place, new_offsets = places(offsets_of(n_new), group)
    return overlap[group], contradicts[group], item[is_new][place], new_offsets


def _of_goals(items: Items, goal: Ints) -> tuple[Ints, Ints, Ints]:
    """Items of the goals, offsets by goal, and which of the goals each is of."""
    place, offsets = places(items.goal_offsets, goal)
    return items.goal_codes[place], offsets, np.repeat(np.arange(len(goal)), np.diff(offsets))


def _is_on(items: Items, goal: Ints, code: Ints, code_of_item: Ints) -> Bools:
    """Whether each goal has an item whose code is the given one."""
    n_codes = int(code_of_item.max(initial=0)) + 1
    of_goal = np.repeat(np.arange(len(items.goal_offsets) - 1), np.diff(items.goal_offsets))
    held = code_of_item[items.goal_codes]
    is_coded = held != NONE
    return np.isin(goal * n_codes + code, of_goal[is_coded] * n_codes + held[is_coded])


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
