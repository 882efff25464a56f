"""Pairs of sentences of a labelled corpus, each made a session of two turns of which nothing but the words is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import pyarrow as pa

from selflearn.detect.items import goal_items, goal_values
from selflearn.errors import DataError
from selflearn.ragged import Floats

MAX_SOURCES = 1_500
MIN_SAME_GOAL = 30
_SEED = 20260105

_NUMBERS = ("asr_score", "nlu_score", "completed", "feedback", "barge_in")


@dataclass(frozen=True)
class SentencePairs:
    """Two-turn sessions (columns of `detection.observed`), and of each whether its two sentences mean the same.

    The first turn got no reading, the second its sentence's goal.
    """

    turns: pa.Table
    labels: Floats


def sentence_pairs(corpus: pa.Table) -> SentencePairs:
    """Pairs of a corpus (columns `locale`, `normalised_text`, `goal`), chosen by a fixed seed.

    Of each of at most `MAX_SOURCES` sentences: one of the same goal in other words, one whose goal differs in a single
    value (the hard negative), and one of any other goal, where the corpus has such sentences of its locale.

    Raises:
        DataError: fewer than `MIN_SAME_GOAL` pairs mean the same.
    """
    columns = ("locale", "normalised_text", "goal")
    sentences = sorted(set(zip(*(corpus[name].to_pylist() for name in columns), strict=True)))
    by_goal = _grouped(sentences, lambda sentence: [(sentence[0], sentence[2])])
    by_frame = _grouped(sentences, lambda sentence: [(sentence[0], frame) for frame in _frames(sentence[2])])
    by_locale = _grouped(sentences, lambda sentence: [sentence[0]])
    rng = Random(_SEED)
    sources = rng.sample(sentences, min(MAX_SOURCES, len(sentences)))
    chosen: list[tuple[Sentence, Sentence, float]] = []
    for source in sources:
        locale, text, goal = source
        same = [other for other in by_goal[locale, goal] if other[1] != text]
        near = [other for frame in _frames(goal) for other in by_frame[locale, frame] if other[2] != goal]
        for others, label in ((same, 1.0), (near, 0.0), ([rng.choice(by_locale[locale])], 0.0)):
            if others:
                target = rng.choice(others)
                if label or target[2] != goal:
                    chosen.append((source, target, label))
    n_same = sum(label == 1 for _, _, label in chosen)
    if n_same < MIN_SAME_GOAL:
        raise DataError(
            f"the launch set has {n_same} pairs of sentences of one goal in other words, at least {MIN_SAME_GOAL} "
            "are needed",
            "give a launch set with several wordings of a goal, or learn from gold pairs",
        )
    return SentencePairs(_two_turn_sessions(chosen), np.array([label for _, _, label in chosen]))


Sentence = tuple[str, str, str]


def _grouped(
    sentences: Sequence[Sentence], keys: Callable[[Sentence], Sequence[Hashable]]
) -> Mapping[Hashable, list[Sentence]]:
    found: dict[Hashable, list[Sentence]] = defaultdict(list)
    for sentence in sentences:
        for key in keys(sentence):
            found[key].append(sentence)
    return found


def _frames(goal: str) -> list[Hashable]:
    """A goal with each of its values left out in turn: two goals that share one differ in that value at most."""
    values = goal_values(goal)
    intent = goal_items(goal)[-1]
    return [(intent, slot, values[:k] + values[k + 1 :]) for k, (slot, _) in enumerate(values)]


def _two_turn_sessions(pairs: Sequence[tuple[Sentence, Sentence, float]]) -> pa.Table:
    texts = [sentence[1] for source, target, _ in pairs for sentence in (source, target)]
    goals = [goal for _, target, _ in pairs for goal in (None, target[2])]
    n = len(texts)
    ids = [f"{k // 2}-{k % 2}" for k in range(n)]
    columns: dict[str, pa.Array] = {
        "session_id": pa.array([str(k // 2) for k in range(n)], pa.string()),
        "turn_index": pa.array([k % 2 for k in range(n)], pa.int32()),
        "turn_id": pa.array(ids, pa.string()),
        "utterance_id": pa.array(texts, pa.string()),
        "at": pa.array([0] * n, pa.int64()),
        "context": pa.array([""] * n, pa.string()),
        "prompt": pa.nulls(n, pa.string()),
        "normalised_text": pa.array(texts, pa.string()),
        "texts": pa.nulls(n, pa.list_(pa.string())),
        "goal": pa.array(goals, pa.string()),
        "goals": pa.nulls(n, pa.list_(pa.string())),
        "goal_scores": pa.nulls(n, pa.list_(pa.float64())),
        "fallback": pa.array([False] * n, pa.bool_()),
        "failed": pa.array([False] * n, pa.bool_()),
    }
    return pa.table(columns | {name: pa.nulls(n, pa.float64()) for name in _NUMBERS})
