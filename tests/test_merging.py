"""Merged readings: what both turns of a rephrase mean together."""

from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plain_merging import merged
from plain_pairs import Row
from selflearn.detect.merging import LEAST_PROBABLE, merged_goal, merged_readings
from selflearn.turns.text import frame_goal
from test_signals import columns, goal, turn

Readings = dict[str, float]


def merge_of(source: Row, target: Row, p_rephrase: float = 0.9) -> tuple[dict[str, str] | None, float]:
    """Slots of the merge of two turns, and its probability."""
    ends = np.array([0]), np.array([1])
    (found,), (p,) = merged_readings(columns(source, target), *ends, np.array([p_rephrase]))
    slots = None if found is None else {slot["name"]: slot["value"] for slot in json.loads(found)["slots"]}
    return slots, float(p)


def asked(texts: list[str], p: float = 1.0, **slots: str) -> Row:
    return turn(texts, {goal("find", **slots): p})


MISHEARD = asked(["some tie food in the north", "some thai food in the north"], food="tie", area="north")


def test_what_was_right_stays_and_what_is_said_again_wins() -> None:
    again = asked(["thai food"], 0.75, food="thai")
    assert merge_of(MISHEARD, again) == ({"food": "thai", "area": "north"}, 0.75)
    more = asked(["thai and cheap"], 1.0, food="thai", price="cheap")
    assert merge_of(MISHEARD, more)[0] == {"food": "thai", "area": "north", "price": "cheap"}


def test_a_plain_copy_or_what_was_read_already_is_no_merge() -> None:
    all_again = asked(["thai food in the north"], food="thai", area="north")
    less = asked(["in the north"], area="north")
    assert merge_of(MISHEARD, all_again) == merge_of(MISHEARD, less) == (None, 0.0)


def test_readings_of_two_intents_have_no_merge() -> None:
    assert merge_of(MISHEARD, turn("thai food", {goal("order", food="thai"): 1.0})) == (None, 0.0)


def test_there_is_none_without_two_readings_or_a_probable_rephrase() -> None:
    again = asked(["thai food"], food="thai")
    assert merge_of(turn("some tie food"), again) == merge_of(MISHEARD, turn("thai food")) == (None, 0.0)
    assert merge_of(MISHEARD, again | {"fallback": True}) == (None, 0.0)
    assert merge_of(MISHEARD, again, LEAST_PROBABLE)[0] is not None
    assert merge_of(MISHEARD, again, LEAST_PROBABLE - 1e-9) == (None, 0.0)


def test_a_new_value_counts_as_far_as_it_sounds_like_what_was_heard() -> None:
    sounds_alike = merge_of(
        asked(["some tay food in the north"], food="tay", area="north"), asked(["thai"], food="thai")
    )
    differs = merge_of(asked(["some tay food in the north"], food="tay", area="north"), asked(["x"], food="mexican"))
    assert sounds_alike[1] == 1 > 0.5 > differs[1]
    # Sounds in any script; a text without any says nothing against it.
    heard = asked(["サポロの天気"], place="サポロ", day="今日")
    assert merge_of(heard, asked(["札幌じゃなくてサッポロ"], place="サッポロ"))[1] > 0.6
    assert merge_of(asked(["…"], food="tie", area="north"), asked(["thai"], food="thai"))[1] == 1


def test_a_slot_that_the_source_may_fill_twice_keeps_what_it_has() -> None:
    milk, eggs = ("item", "milk"), ("item", "eggs")
    frames = [frame_goal("add", [milk, ("list", "shopping")]), frame_goal("add", [milk, eggs])]
    one = turn("milk and eggs to shopping", {frames[0]: 0.6, frames[1]: 0.3})
    again = turn("and eggs", {frame_goal("add", [eggs]): 1.0})
    both = merged_readings(columns(one, again), np.array([0]), np.array([1]), np.ones(1))[0]
    assert both == [frame_goal("add", [milk, eggs, ("list", "shopping")])]
    without = turn("milk and eggs to shopping", {frames[0]: 0.6})
    instead = merged_readings(columns(without, again), np.array([0]), np.array([1]), np.ones(1))[0]
    assert instead == [frame_goal("add", [eggs, ("list", "shopping")])]


@pytest.mark.parametrize("slots", [[], [("b", "É"), ("a", '"x"'), ("a", "札幌")]])
def test_a_merge_is_a_canonical_goal(slots: list[tuple[str, str]]) -> None:
    known, added = [("d", "old"), *slots], frame_goal("i", [("c", "new")])
    assert merged_goal(frame_goal("i", known), added) == frame_goal("i", [*known, ("c", "new")])


@given(st.randoms(use_true_random=False))
def test_many_pairs_at_once_equal_the_plain_merge(rng: Random) -> None:
    turns = [random_turn(rng) for _ in range(rng.randint(2, 6))]
    source, target = np.triu_indices(len(turns), 1)
    p = np.array([rng.choice([0.05, 0.1, 0.9]) for _ in source])
    goals, found = merged_readings(columns(*turns), source, target, p)
    for k, ends in enumerate(zip(source, target, strict=True)):
        expected = merged(*(turns[end] for end in ends)) if p[k] >= LEAST_PROBABLE else (None, 0.0)
        assert (goals[k], found[k]) == (expected[0], pytest.approx(expected[1], abs=1e-12))


def random_turn(rng: Random) -> Row:
    words = ["thai", "tie", "north", "Nord", "eh", "札幌"]
    readings = {
        frame_goal(rng.choice(["find", "find", "order"]), [(rng.choice("abc"), rng.choice(words)) for _ in range(n)]): p
        for n, p in ((rng.randint(0, 3), rng.random()) for _ in range(rng.randint(0, 3)))
    }
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 3))) for _ in range(rng.randint(0, 7))]
    return turn(texts or ["…"], readings, fallback=rng.choice([None, None, True]))
