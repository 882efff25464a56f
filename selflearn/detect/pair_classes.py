"""Classes of pairs that a report can show: what the target is to the source. Computed on read, never stored.

A class is judged by the levels of a pair's signals and by `p_rephrase`. `p_same_goal` is not asked: it is a quotient,
and where the source hardly failed it says little. No signal compares intents or what the assistant said before the
target, so that the same slot with another value is a value change whatever the intent, and an answer to the first
question of a session is a topic switch unless it shares words or values with the request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selflearn.detect.items import Bools
from selflearn.detect.signals import PAIR_SIGNAL_NAMES, PAIR_SIGNALS, pattern_levels
from selflearn.errors import DataError
from selflearn.ragged import Floats

PROBABLE = 0.5
"""From this `p_rephrase` on, the target counts as saying again what the source failed to get."""


@dataclass(frozen=True)
class JudgedPairs:
    """Levels of shape (pairs, signals) in the order of `PAIR_SIGNALS`, and `p_rephrase` of shape (pairs,)."""

    levels: npt.NDArray[np.int8]
    p_rephrase: Floats

    @property
    def said_again(self) -> Bools:
        return self.p_rephrase >= PROBABLE

    @property
    def same_words(self) -> Bools:
        return self._reaches("text_similarity", 0.999)

    @property
    def shares_words(self) -> Bools:
        return self._reaches("wording_shared", 0.15)

    @property
    def is_shorter(self) -> Bools:
        return self._stays_below("length_ratio", -0.4)

    @property
    def same_values(self) -> Bools:
        return self._reaches("values_shared", 0.99)

    @property
    def shares_values(self) -> Bools:
        return self._reaches("values_shared", 0.01)

    @property
    def contradicts(self) -> Bools:
        return self._reaches("value_contradicts", 0.5)

    @property
    def question_changed(self) -> Bools:
        return self._stays_below("prompt_repeated", 0.5)

    def _reaches(self, signal: str, edge: float) -> Bools:
        """Whether the signal is known and at least `edge`, one of its declared edges."""
        place = PAIR_SIGNAL_NAMES.index(signal)
        return np.asarray(self.levels[:, place] >= PAIR_SIGNALS[place].edges.index(edge) + 2)

    def _stays_below(self, signal: str, edge: float) -> Bools:
        """Whether the signal is known and less than `edge`, one of its declared edges."""
        return (self.levels[:, PAIR_SIGNAL_NAMES.index(signal)] > 0) & ~self._reaches(signal, edge)


@dataclass(frozen=True)
class PairClass:
    """A class, and which of the pairs that no class before it holds are in it."""

    name: str
    meaning: str
    holds: Callable[[JudgedPairs], Bools]


PAIR_CLASSES: tuple[PairClass, ...] = (
    PairClass(
        "repeat",
        "the same again: the words, unless they answer another question, or all values though nothing failed",
        lambda pairs: (
            pairs.same_words & (pairs.said_again | ~pairs.question_changed) | pairs.same_values & ~pairs.said_again
        ),
    ),
    PairClass(
        "partial correction",
        "says again what failed; some of the values read stay, or a slot gets another one",
        lambda pairs: pairs.said_again & (pairs.shares_values & ~pairs.same_values | pairs.contradicts),
    ),
    PairClass(
        "simplification",
        "says again what failed, in two thirds of the length or less",
        lambda pairs: pairs.said_again & pairs.is_shorter,
    ),
    PairClass(
        "rephrase",
        "says again what failed, in other words",
        lambda pairs: pairs.said_again,
    ),
    PairClass(
        "value change",
        "nothing failed, and a slot gets another value",
        lambda pairs: pairs.contradicts,
    ),
    PairClass(
        "follow-up",
        "goes on: shares values or words, or answers another question",
        lambda pairs: pairs.shares_values | pairs.shares_words | pairs.question_changed,
    ),
    PairClass(
        "topic switch",
        "shares nothing with the source",
        lambda pairs: np.ones(len(pairs.p_rephrase), dtype=bool),
    ),
)
PAIR_CLASS_NAMES = tuple(found.name for found in PAIR_CLASSES)


def pair_classes(patterns: Sequence[str], p_rephrase: Floats) -> npt.NDArray[np.intp]:
    """The class of each pair, as its place in `PAIR_CLASSES`: the first that holds it.

    Args:
        patterns: of `tables.REPHRASE_PAIRS`.
        p_rephrase: shape (pairs,).

    Raises:
        DataError: a pattern was made by a version with other signals.
    """
    odd = next((pattern for pattern in patterns if len(pattern) != len(PAIR_SIGNALS)), None)
    if odd is not None:
        raise DataError(
            f"the pattern {odd!r} has {len(odd)} levels, this version compares {len(PAIR_SIGNALS)} signals",
            "run the stage detect of its day again",
        )
    pairs = JudgedPairs(pattern_levels(patterns, len(PAIR_SIGNALS)), p_rephrase)
    return np.asarray(np.argmax([found.holds(pairs) for found in PAIR_CLASSES], axis=0))
