"""What a misread turn meant, in view of the turn that said it again: the merge of both turns' readings.

What the target said again or anew wins, and of the source stays what is in no slot that the target fills. Readings of
two intents have no merge: the slots of one need not fit the other.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from selflearn.detect.columns import TurnColumns
from selflearn.detect.items import NONE, Item, Readings, goal_values
from selflearn.detect.similarity import above_chance, found_in
from selflearn.ragged import Floats, Ints, max_of, offsets_of, places, products, sum_of
from selflearn.sound import sound_keys

LEAST_PROBABLE = 0.1
"""Pairs that are less probable rephrases have no merge."""


def merged_readings(
    turns: TurnColumns, source: Ints, target: Ints, p_rephrase: Floats
) -> tuple[list[str | None], Floats]:
    """The merge of each pair's readings, None where it is either of them; and how probably its source means it.

    That is, were the target a rephrase: the probability of the target's reading, times how well all values that the
    source's reading lacks sound like part of what was heard there (0 of no merge).
    """
    goals: list[str | None] = [None] * len(source)
    p = np.zeros(len(source))
    readings = turns.readings
    top, again = readings.top[source], readings.acted_on[target]
    differs = (top != NONE) & (again != NONE) & (top != again) & (p_rephrase >= LEAST_PROBABLE)
    new: list[Sequence[str]] = []
    found = []
    for pair in np.flatnonzero(differs).tolist():
        known, other = readings.goals[top[pair]], readings.goals[again[pair]]
        goal = merged_goal(known, other, _filled_twice(readings, source[pair]))
        if goal is not None:
            goals[pair] = goal
            found.append(pair)
            new.append([value for slot, value in goal_values(goal) if (slot, value) not in goal_values(known)])
    at = np.array(found, dtype=np.int64)
    p[at] = _p_reading(readings, target[at]) * _p_heard(turns, source[at], new)
    return goals, p


@lru_cache(maxsize=100_000)
def merged_goal(source: str, target: str, filled_twice: frozenset[str] = frozenset()) -> str | None:
    """The canonical goal of two of one intent; None of two intents, and where it is one of the two.

    Slots `filled_twice` may hold several values: there, the source's stay beside the target's.

    >>> merged_goal(*(f'{{"intent":"find","slots":[{slots}]}}' for slots in (
    ...     '{"name":"area","value":"north"},{"name":"food","value":"thai"}', '{"name":"food","value":"tapas"}')))
    '{"intent":"find","slots":[{"name":"area","value":"north"},{"name":"food","value":"tapas"}]}'
    """
    intent = json.loads(target)["intent"]
    if json.loads(source)["intent"] != intent:
        return None
    said_again = goal_values(target)
    taken = {slot for slot, _ in said_again} - filled_twice
    together: set[Item] = {item for item in goal_values(source) if item[0] not in taken}.union(said_again)
    if together in (set(goal_values(source)), set(said_again)):
        return None
    slots = [{"name": slot, "value": value} for slot, value in sorted(together)]
    return json.dumps({"intent": intent, "slots": slots}, ensure_ascii=False, separators=(",", ":"))


def _filled_twice(readings: Readings, turn: int) -> frozenset[str]:
    """Slots of which any of the goals that the NLU considered for the turn holds several values."""
    codes = readings.codes[readings.offsets[turn] : readings.offsets[turn + 1]]
    return frozenset().union(*(_of_several_values(readings.goals[code]) for code in codes))


@lru_cache(maxsize=100_000)
def _of_several_values(goal: str) -> frozenset[str]:
    return frozenset(slot for slot, n in Counter(slot for slot, _ in goal_values(goal)).items() if n > 1)


def _p_reading(readings: Readings, turn: Ints) -> Floats:
    """Probability of the reading that each turn was acted on by."""
    place, offsets = places(readings.offsets, turn)
    is_it = readings.codes[place] == np.repeat(readings.acted_on[turn], np.diff(offsets))
    return np.minimum(1.0, sum_of(readings.probabilities[place] * is_it, offsets))


def _p_heard(turns: TurnColumns, turn: Ints, values: Sequence[Sequence[str]]) -> Floats:
    """How well the worst of each turn's values is found, above chance, in the best-fitting of the turn's sounds.

    1 where there is nothing to look for, or nothing to look in.
    """
    sounds, counts = turns.best_sounds, [len(of_turn) for of_turn in values]
    keys = np.array(sound_keys([value for of_turn in values for value in of_turn]), dtype=object)
    asked = np.repeat(turn, counts)
    n_texts = np.where(keys != "", np.diff(sounds.offsets)[asked], 0)
    value, text, offsets = products(np.ones(len(keys), dtype=np.int64), n_texts)
    value += np.repeat(np.arange(len(keys)), np.diff(offsets))
    heard = sounds.strings[sounds.codes[text + sounds.offsets[asked[value]]]]
    found = above_chance(max_of(found_in(keys[value], heard), offsets, 1.0))
    return 1 - max_of(1 - found, offsets_of(counts), 0.0)
