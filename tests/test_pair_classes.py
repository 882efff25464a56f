"""The class of a pair: what each means on an example, and that every pair has exactly one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selflearn.detect.pair_classes import PAIR_CLASS_NAMES, PAIR_CLASSES, JudgedPairs, pair_classes
from selflearn.detect.signals import PAIR_SIGNAL_NAMES, PAIR_SIGNALS, level_patterns, levels, pattern_levels
from selflearn.errors import DataError

NAN = math.nan


def pattern(signals: Mapping[str, float]) -> str:
    """The stored pattern of a pair of which these signals are known."""
    row = np.array([[signals.get(name, NAN) for name in PAIR_SIGNAL_NAMES]])
    made: str = level_patterns(levels(row, PAIR_SIGNALS)).to_pylist()[0]
    return made


def name_of(signals: Mapping[str, float], p_rephrase: float) -> str:
    return PAIR_CLASS_NAMES[pair_classes([pattern(signals)], np.array([p_rephrase]))[0]]


WORDS = {
    "the same": {"text_similarity": 1.0, "wording_shared": 1.0, "length_ratio": 0.0},
    "alike": {"text_similarity": 0.6, "wording_shared": 0.4, "length_ratio": 0.0},
    "fewer": {"text_similarity": 0.5, "wording_shared": 0.3, "length_ratio": -0.7},
    "others": {"text_similarity": 0.2, "wording_shared": 0.1, "length_ratio": 0.2},
}
NO_VALUES: dict[str, float] = {}
SAME_VALUES = {"values_shared": 1.0, "value_contradicts": 0.0}
SOME_VALUES = {"values_shared": 0.5, "value_contradicts": 0.0}
ANOTHER_VALUE = {"values_shared": 0.0, "value_contradicts": 1.0}
OTHER_SLOTS = {"values_shared": 0.0, "value_contradicts": 0.0}


@pytest.mark.parametrize(
    ("words", "values", "p_rephrase", "expected"),
    [
        ("the same", NO_VALUES, 0.9, "repeat"),
        ("the same", ANOTHER_VALUE, 0.9, "repeat"),
        ("the same", SAME_VALUES, 0.1, "repeat"),
        ("others", SAME_VALUES, 0.1, "repeat"),
        ("alike", ANOTHER_VALUE, 0.9, "partial correction"),
        ("fewer", SOME_VALUES, 0.9, "partial correction"),
        ("fewer", NO_VALUES, 0.9, "simplification"),
        ("fewer", SAME_VALUES, 0.9, "simplification"),
        ("alike", NO_VALUES, 0.5, "rephrase"),
        ("others", SAME_VALUES, 0.9, "rephrase"),
        ("alike", ANOTHER_VALUE, 0.49, "value change"),
        ("others", ANOTHER_VALUE, 0.1, "value change"),
        ("alike", OTHER_SLOTS, 0.1, "follow-up"),
        ("others", SOME_VALUES, 0.1, "follow-up"),
        ("others", OTHER_SLOTS, 0.1, "topic switch"),
        ("others", NO_VALUES, 0.1, "topic switch"),
    ],
)
def test_each_class_on_an_example(words: str, values: Mapping[str, float], p_rephrase: float, expected: str) -> None:
    assert name_of(WORDS[words] | values, p_rephrase) == expected


def test_an_answer_to_another_question_goes_on_even_in_the_same_words() -> None:
    yes = WORDS["the same"]
    assert name_of(yes | {"prompt_repeated": 0}, 0.1) == "follow-up"
    assert name_of(yes | {"prompt_repeated": 2}, 0.1) == "repeat"
    assert name_of(yes | {"prompt_repeated": 0}, 0.9) == "repeat"
    assert name_of(WORDS["others"] | OTHER_SLOTS | {"prompt_repeated": 0}, 0.1) == "follow-up"
    assert name_of(WORDS["others"] | OTHER_SLOTS | {"prompt_repeated": 1}, 0.1) == "topic switch"


def test_a_pair_of_which_nothing_is_known_is_judged_by_its_probability_alone() -> None:
    assert name_of({}, 0.9) == "rephrase"
    assert name_of({}, 0.1) == "topic switch"


def plain_class(levels_of: Mapping[str, int], p_rephrase: float) -> str:
    """The twin: one pair at a time, in levels."""
    same_words, question_changed = levels_of["text_similarity"] == 6, levels_of["prompt_repeated"] == 1
    contradicts, shared = levels_of["value_contradicts"] == 2, levels_of["values_shared"]
    if p_rephrase >= 0.5:
        if same_words:
            return "repeat"
        if contradicts or shared in (2, 3):
            return "partial correction"
        return "simplification" if levels_of["length_ratio"] in (1, 2) else "rephrase"
    if (same_words and not question_changed) or shared == 4:
        return "repeat"
    if contradicts:
        return "value change"
    return "follow-up" if shared in (2, 3) or levels_of["wording_shared"] > 1 or question_changed else "topic switch"


rows = st.tuples(*(st.integers(0, signal.n_levels - 1) for signal in PAIR_SIGNALS))


@given(st.lists(st.tuples(rows, st.floats(0, 1)), max_size=20))
def test_every_pair_is_in_exactly_one_class(pairs: list[tuple[tuple[int, ...], float]]) -> None:
    patterns = ["".join(map(str, row)) for row, _ in pairs]
    p_rephrase = np.array([p for _, p in pairs], dtype=np.float64)
    places = pair_classes(patterns, p_rephrase)
    expected = [plain_class(dict(zip(PAIR_SIGNAL_NAMES, row, strict=True)), p) for row, p in pairs]
    assert [PAIR_CLASS_NAMES[place] for place in places] == expected
    judged = JudgedPairs(pattern_levels(patterns, len(PAIR_SIGNALS)), p_rephrase)
    holds = np.array([found.holds(judged) for found in PAIR_CLASSES])
    assert holds[-1].all()
    assert all(holds[place, k] and not holds[:place, k].any() for k, place in enumerate(places))


def test_patterns_of_other_signals_are_refused() -> None:
    whole = pattern({})
    with pytest.raises(DataError, match=f"has {len(whole) - 1} levels, this version compares {len(whole)} signals"):
        pair_classes([whole, whole[1:]], np.array([0.5, 0.5]))
