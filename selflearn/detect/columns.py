"""The turns of a batch as flat arrays of numbers, ready to be compared pair by pair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selflearn.ragged import Floats, Ints, max_of, offsets_of, places, sum_of

Bools = npt.NDArray[np.bool_]
Value = tuple[str, str]

MAX_TEXTS = 10
NONE = -1
_UNREAD_CONFIDENCE = 0.1
TROUBLE_FRICTION = 0.9


@dataclass(frozen=True)
class SlotValues:
    """Slot values in the goals that the NLU considered, lists by turn, sorted by code.

    Attributes:
        probabilities: of each value, summed over the goals that hold it.
        on_top: whether the top reading holds it.
        n_distinct: one more than the largest code there can be.
    """

    offsets: Ints
    codes: Ints
    probabilities: Floats
    on_top: Bools
    n_distinct: int


@dataclass(frozen=True)
class TurnColumns:
    """Turns in the order of their sessions; `NONE` is the code of a missing string, NaN a missing number.

    Attributes:
        at: microseconds.
        unread: no reading, or the fallback.
        failed: an error, or cancelled.
        texts: distinct recognised texts; `text_codes` and `text_weights`, the probability of each, are lists by turn
            (`text_offsets`).
        goals: distinct goals; `goal` is the code of each turn's top reading.
        alternative_keys: sorted `turn * len(goals) + goal` of every goal that the NLU considered.
    """

    at: Ints
    context: Ints
    has_context: Bools
    prompt: Ints
    confidence: Floats
    recognition: Floats
    unread: Bools
    failed: Bools
    completed: Floats
    feedback: Floats
    barge_in: Floats
    texts: npt.NDArray[np.object_]
    text_offsets: Ints
    text_codes: Ints
    text_weights: Floats
    goals: Sequence[str]
    goal: Ints
    alternative_keys: Ints
    values: SlotValues

    @property
    def trouble(self) -> Bools:
        """Error, cancellation or a thumbs-down."""
        return np.asarray(self.failed | (self.feedback < 0))

    @property
    def doubt(self) -> Floats:
        """1 - P(recognised right) * P(read right)."""
        read = np.where(self.unread, _UNREAD_CONFIDENCE, _or_one(self.confidence))
        return 1 - read * _or_one(self.recognition)

    def heuristic_friction(self) -> Floats:
        """The doubt, at least .9 where something went visibly wrong."""
        went_wrong = self.trouble | (self.completed == 0)
        return np.where(went_wrong, np.maximum(self.doubt, TROUBLE_FRICTION), self.doubt)


def turn_columns(turns: pa.Table) -> TurnColumns:
    """Arrays of a table with the columns that `detection.observed` selects."""
    n = turns.num_rows
    top, offered, offered_goals, offered_scores = _readings(turns)
    goals, codes = _coded(pa.concat_arrays([top, offered_goals]))
    goal, alternative = codes[:n], codes[n:]
    # Scores that sum to more than one are scaled down; one that is missing or negative counts as none.
    scores = np.maximum(np.nan_to_num(offered_scores), 0.0)
    probabilities = scores / np.repeat(np.maximum(1.0, sum_of(scores, offered)), np.diff(offered))
    turn = np.repeat(np.arange(n), np.diff(offered))
    texts, text_offsets, text_codes, text_scores = _heard(turns)
    context = turns["context"].combine_chunks()
    return TurnColumns(
        at=turns["at"].to_numpy(),
        context=_coded(context)[1],
        has_context=_numbers(pc.not_equal(context, "")) == 1,
        prompt=_coded(turns["prompt"].combine_chunks())[1],
        confidence=_numbers(turns["nlu_score"]),
        recognition=_numbers(turns["asr_score"]),
        unread=(_numbers(turns["fallback"]) == 1) | (goal == NONE),
        failed=_numbers(turns["failed"]) == 1,
        completed=_numbers(turns["completed"]),
        feedback=_numbers(turns["feedback"]),
        barge_in=_numbers(turns["barge_in"]),
        texts=texts,
        text_offsets=text_offsets,
        text_codes=text_codes,
        text_weights=_softmax(text_scores, text_offsets),
        goals=goals,
        goal=goal,
        alternative_keys=np.unique(turn * len(goals) + alternative),
        values=_values(goals, goal, turn, alternative, probabilities),
    )


@lru_cache(maxsize=100_000)
def goal_values(goal: str) -> tuple[Value, ...]:
    """Slot names and values of a goal."""
    return tuple((slot["name"], slot["value"]) for slot in json.loads(goal)["slots"])


def _readings(turns: pa.Table) -> tuple[pa.Array, Ints, pa.Array, Floats]:
    """Top goals, and the goals that the NLU considered with their scores, in lists by turn.

    A turn without alternatives has its top reading as the only one.
    """
    top = turns["goal"].combine_chunks()
    lists, scores = turns["goals"].combine_chunks(), turns["goal_scores"].combine_chunks()
    counts = _numbers(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)
    alone = (counts == 0) & _known(top)
    flat = pa.concat_arrays([pc.list_flatten(lists), top])
    flat_scores = np.concatenate([_numbers(pc.list_flatten(scores)), _or_one(_numbers(turns["nlu_score"]))])
    given = offsets_of(counts)
    offsets = offsets_of(np.where(alone, 1, counts))
    # Where the only reading is the top one, it lies behind all alternatives, at its turn's number.
    start = np.where(alone, given[-1] + np.arange(len(top)), given[:-1])
    order = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], np.diff(offsets))
    return top, offsets, flat.take(pa.array(order)), flat_scores[order]


def _heard(turns: pa.Table) -> tuple[npt.NDArray[np.object_], Ints, Ints, Floats]:
    """Distinct recognised texts, case folded; and each turn's, at most `MAX_TEXTS`, with their scores.

    A turn without an n-best list has its normalised text as the only one.
    """
    lists, scores = turns["texts"].combine_chunks(), turns["text_scores"].combine_chunks()
    n = len(lists)
    typed = turns["normalised_text"].combine_chunks()
    raw, codes = _coded(pa.concat_arrays([pc.list_flatten(lists), typed]))
    folded = [text.casefold() for text in raw]
    same = {text: code for code, text in enumerate(dict.fromkeys(folded))}
    recoded = np.array([same[text] for text in folded] + [NONE], dtype=np.int64)
    codes = recoded[codes]
    texts = np.array([*same, ""], dtype=object)[:-1]
    blank = np.array([not text or text.isspace() for text in same] + [True])
    given = offsets_of(_numbers(pc.fill_null(pc.list_value_length(lists), 0)))
    turn = np.repeat(np.arange(n), np.diff(given))
    heard = ~blank[codes[: given[-1]]]
    counts = np.bincount(turn[heard], minlength=n)
    place = np.flatnonzero(heard)
    rank = np.arange(len(place)) - np.repeat(offsets_of(counts)[:-1], counts)
    place = place[rank < MAX_TEXTS]
    counts = np.minimum(counts, MAX_TEXTS)
    alone = counts == 0
    offsets = offsets_of(np.where(alone, 1, counts))
    pool = np.concatenate([place, given[-1] + np.arange(n)])
    start = np.where(alone, len(place) + np.arange(n), offsets_of(counts)[:-1])
    order = pool[np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], np.diff(offsets))]
    all_scores = np.concatenate([_numbers(pc.list_flatten(scores)), np.zeros(n)])
    return texts, offsets, codes[order], all_scores[order]


def _softmax(scores: Floats, offsets: Ints) -> Floats:
    """Probabilities of each list's scores; uniform where one of them is missing."""
    counts = np.diff(offsets)
    is_scored = np.repeat(~np.isnan(sum_of(scores, offsets)), counts)
    known = np.where(is_scored, scores, 0.0)
    mass = np.exp(known - np.repeat(max_of(known, offsets, 0.0), counts))
    return np.asarray(mass / np.repeat(sum_of(mass, offsets), counts))


def _values(goals: Sequence[str], goal: Ints, turn: Ints, alternative: Ints, probabilities: Floats) -> SlotValues:
    codes: dict[Value, int] = {}
    held = [[codes.setdefault(value, len(codes)) for value in dict.fromkeys(goal_values(goal))] for goal in goals]
    offsets = offsets_of([len(values) for values in held])
    flat = np.array([code for values in held for code in values], dtype=np.int64)
    n_distinct = max(1, len(codes))
    place, taken = places(offsets, alternative)
    keys = np.repeat(turn, np.diff(taken)) * n_distinct + flat[place]
    keys, group = np.unique(keys, return_inverse=True)
    summed = np.bincount(group, weights=np.repeat(probabilities, np.diff(taken)), minlength=len(keys))
    read = np.flatnonzero(goal != NONE)
    place, taken = places(offsets, goal[read])
    on_top = np.repeat(read, np.diff(taken)) * n_distinct + flat[place]
    return SlotValues(
        offsets=np.searchsorted(keys, np.arange(len(goal) + 1) * n_distinct),
        codes=keys % n_distinct,
        probabilities=summed.astype(np.float64),
        on_top=np.isin(keys, on_top),
        n_distinct=n_distinct,
    )


def _coded(strings: pa.Array) -> tuple[list[str], Ints]:
    """Distinct strings, and each one's place among them; `NONE` where it is null."""
    coded = strings.dictionary_encode()
    codes = pc.fill_null(coded.indices, NONE).to_numpy(zero_copy_only=False).astype(np.int64)
    return coded.dictionary.to_pylist(), codes


def _numbers(column: pa.Array | pa.ChunkedArray) -> Floats:
    return np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _known(column: pa.Array) -> Bools:
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False))


def _or_one(values: Floats) -> Floats:
    return np.where(np.isnan(values), 1.0, values)
