"""The signals that two turns of one session are compared by, and their ordered levels.

A signal is a number (or missing). It is cut into a few ordered levels, so that a model of the pair is a table
of weights that a person can read. Nothing here knows a language: characters, values and goals are compared,
never words of a vocabulary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from rapidfuzz import fuzz, process

Group = Literal["source", "similarity", "context"]


@dataclass(frozen=True)
class Signal:
    """One comparison: `edges` are the lower bounds of levels 2, 3, ...; level 0 stands for "missing"."""

    name: str
    group: Group | Literal["own", "outcome"]
    edges: tuple[float, ...]
    meaning: str

    @property
    def n_levels(self) -> int:
        return len(self.edges) + 2


_YES = (0.5,)

PAIR_SIGNALS: tuple[Signal, ...] = (
    Signal("source_confidence", "source", (0.3, 0.5, 0.7, 0.9, 0.99), "probability of the source's top reading"),
    Signal("source_unread", "source", _YES, "the source got no reading, or the fallback"),
    Signal(
        "source_recognition",
        "source",
        (0.05, 0.22, 0.5, 0.74, 0.9),
        "the recogniser's confidence in the source",
    ),
    Signal("source_trouble", "source", _YES, "error, cancellation or a thumbs-down on the source"),
    Signal("source_completed", "source", _YES, "the assistant reports that it did what it read"),
    Signal("source_interrupted", "source", _YES, "the user cut into the answer to the source"),
    Signal(
        "text_similarity",
        "similarity",
        (0.3, 0.5, 0.65, 0.8, 0.999),
        "best of n-best x n-best character ratio",
    ),
    Signal(
        "heard_similarity",
        "similarity",
        (0.2, 0.35, 0.5, 0.65, 0.8),
        "character ratio expected over both n-bests",
    ),
    Signal(
        "value_again",
        "similarity",
        (0.001, 0.01, 0.05, 0.2),
        "a value the source's reading lacks, in both n-bests",
    ),
    Signal("values_shared", "similarity", (0.01, 0.5, 0.99), "overlap of the two top readings' values"),
    Signal("value_contradicts", "similarity", _YES, "the same slot with another value"),
    Signal(
        "value_heard",
        "similarity",
        (0.01, 0.6, 0.75, 0.9),
        "new values of the target found in the source's words",
    ),
    Signal("alternative_confirmed", "similarity", _YES, "the target's reading was an alternative of the source"),
    Signal("gap", "context", (5, 8, 12, 20, 40), "seconds between the two turns"),
    Signal("distance", "context", (1.5, 2.5, 3.5), "turns between the two"),
    Signal("prompt_repeated", "context", (0.5, 1.5), "same context, same prompt asked again"),
    Signal("target_unread", "context", _YES, "the target got no reading, or the fallback"),
)
PAIR_SIGNAL_NAMES = tuple(signal.name for signal in PAIR_SIGNALS)

_UNREAD_CONFIDENCE = 0.1
_TROUBLE_FRICTION = 0.9


@dataclass(frozen=True)
class ComparableTurn:
    """What the comparison needs of one turn, prepared once."""

    texts: tuple[str, ...]
    text_weights: npt.NDArray[np.float64]
    top_goal: str | None
    top_values: frozenset[tuple[str, str]]
    goal_probabilities: dict[str, float]
    value_probabilities: dict[tuple[str, str], float]
    at: float
    context: str
    prompt: str | None
    confidence: float
    recognition: float
    unread: bool
    trouble: bool
    completed: bool | None
    barge_in: bool | None

    def heuristic_friction(self) -> float:
        """1 - P(recognised right) * P(read right), at least .9 where something went visibly wrong."""
        confidence = _UNREAD_CONFIDENCE if self.unread else _or_one(self.confidence)
        friction = 1 - confidence * _or_one(self.recognition)
        return max(friction, _TROUBLE_FRICTION) if self.trouble or self.completed is False else friction


@lru_cache(maxsize=100_000)
def goal_values(goal: str) -> tuple[tuple[str, str], ...]:
    """Slot names and values of a goal."""
    return tuple((slot["name"], slot["value"]) for slot in json.loads(goal)["slots"])


def text_weights(scores: Sequence[float | None]) -> npt.NDArray[np.float64]:
    """Probabilities of the n-best texts: softmax of their scores, uniform where a score is missing."""
    if any(score is None for score in scores):
        return np.full(len(scores), 1 / len(scores))
    values = np.asarray(scores, dtype=np.float64)
    weights = np.exp(values - values.max())
    return np.asarray(weights / weights.sum())


def goal_probabilities(goals: Sequence[str], scores: Sequence[float | None]) -> dict[str, float]:
    """Probability of each alternative; a score that is missing or negative counts as none.

    Scores that sum to more than one are scaled down.
    """
    known = [max(0.0, score or 0.0) for score in scores]
    total = max(1.0, sum(known))
    return {goal: score / total for goal, score in zip(goals, known, strict=True)}


def value_probabilities(goals: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """Probability of each slot value over the alternatives that hold it."""
    found: dict[tuple[str, str], float] = {}
    for goal, probability in goals.items():
        for value in goal_values(goal):
            found[value] = found.get(value, 0.0) + probability
    return found


def compare(source: ComparableTurn, target: ComparableTurn, distance: int) -> tuple[list[float], float]:
    """Signals of one pair, in the order of `PAIR_SIGNALS` (NaN where missing), and its seed in [0, 1].

    The seed, friction times similarity, anchors the latent class: it says roughly which pairs a person would
    call a rephrase after a failure, before any weight is learnt.
    """
    ratios = process.cdist(source.texts, target.texts, scorer=fuzz.ratio, dtype=np.float64) / 100
    best = float(ratios.max())
    expected = float(source.text_weights @ ratios @ target.text_weights)
    again = _value_again(source, target)
    similarity = best if math.isnan(again) else (best + math.sqrt(again)) / 2
    seed = source.heuristic_friction() * similarity
    signals = [
        source.confidence,
        float(source.unread),
        source.recognition,
        float(source.trouble),
        _known(source.completed),
        _known(source.barge_in),
        best,
        expected,
        again,
        _overlap(source.top_values, target.top_values),
        _contradicts(source.top_goal, target.top_goal),
        _value_heard(source, target),
        _alternative_confirmed(source, target),
        target.at - source.at,
        float(distance),
        _prompt_repeated(source, target),
        float(target.unread),
    ]
    return signals, min(1.0, seed)


def levels(signals: npt.NDArray[np.float64], declared: Sequence[Signal]) -> npt.NDArray[np.int8]:
    """Cut signals of shape (rows, signals) into levels: 0 for missing, else 1 + edges reached.

    >>> levels(np.array([[0.95], [np.nan]]), [Signal("s", "source", (0.5, 0.9), "")]).tolist()
    [[3], [0]]
    """
    cut = np.empty(signals.shape, dtype=np.int8)
    for column, signal in enumerate(declared):
        values = signals[:, column]
        cut[:, column] = np.where(np.isnan(values), 0, 1 + np.digitize(values, signal.edges))
    return cut


def _known(flag: bool | None) -> float:
    return math.nan if flag is None else float(flag)


def _or_one(value: float) -> float:
    return 1.0 if math.isnan(value) else value


def _value_again(source: ComparableTurn, target: ComparableTurn) -> float:
    if not source.goal_probabilities and not target.goal_probabilities:
        return math.nan
    heard_again = (
        min(p, target.value_probabilities.get(value, 0.0))
        for value, p in source.value_probabilities.items()
        if value not in source.top_values
    )
    return max(heard_again, default=0.0)


def _alternative_confirmed(source: ComparableTurn, target: ComparableTurn) -> float:
    if target.top_goal is None:
        return math.nan
    return float(target.top_goal != source.top_goal and target.top_goal in source.goal_probabilities)


def _overlap(source: frozenset[tuple[str, str]], target: frozenset[tuple[str, str]]) -> float:
    union = len(source | target)
    return len(source & target) / union if union else math.nan


def _contradicts(source: str | None, target: str | None) -> float:
    if source is None or target is None:
        return math.nan
    held = dict(goal_values(source))
    return float(any(name in held and held[name] != value for name, value in goal_values(target)))


def _value_heard(source: ComparableTurn, target: ComparableTurn) -> float:
    if target.top_goal is None:
        return math.nan
    held = dict(goal_values(source.top_goal)) if source.top_goal else {}
    new = [value for name, value in goal_values(target.top_goal) if held.get(name) != value]
    return max((fuzz.partial_ratio(value, text) / 100 for value in new for text in source.texts), default=0.0)


def _prompt_repeated(source: ComparableTurn, target: ComparableTurn) -> float:
    if source.prompt is None and not source.context:
        return math.nan
    return float(source.context == target.context) + float(source.prompt == target.prompt)
