"""The turns of a batch as flat arrays of numbers, ready to be compared pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from selflearn.detect.items import NONE, Bools, Items, Readings, items_of
from selflearn.detect.wording import gram_profiles
from selflearn.ragged import Floats, Ints, offsets_of, sum_of

MAX_TEXTS = 10
_UNREAD_CONFIDENCE = 0.1
TROUBLE_FRICTION = 0.9


@dataclass(frozen=True)
class TurnColumns:
    """Turns in the order of their sessions; `NONE` is the code of a missing string, NaN a missing number.

    Attributes:
        at: microseconds.
        contexts, utterances: the strings that `context` and `utterance` are codes of.
        unread: no reading, or the fallback.
        failed: an error, or cancelled.
        texts: distinct recognised texts; `text_codes` are lists of them by turn (`text_offsets`), best first.
        ends_session: whether no later turn of the session follows.
    """

    at: Ints
    contexts: Sequence[str]
    context: Ints
    utterances: Sequence[str]
    utterance: Ints
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
    readings: Readings
    ends_session: Bools

    @cached_property
    def items(self) -> Items:
        return items_of(self.readings)

    @cached_property
    def gram_profiles(self) -> sparse.csr_array:
        return gram_profiles(self.texts, self.text_offsets, self.text_codes)

    @cached_property
    def length(self) -> Ints:
        """Characters of each turn's first text."""
        lengths = np.array([len(text) for text in self.texts], dtype=np.int64)
        return np.asarray(lengths[self.text_codes[self.text_offsets[:-1]]])

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


def turn_columns(turns: pa.Table, session: Ints) -> TurnColumns:
    """Arrays of a table of whole sessions in order, with the columns that `detection.observed` selects.

    `session` has one number for all turns of a session, another one for the next.
    """
    n = turns.num_rows
    top, offered, offered_goals, offered_scores = _readings(turns)
    goals, codes = _coded(pa.concat_arrays([top, offered_goals]))
    # Scores that sum to more than one are scaled down; one that is missing or negative counts as none.
    scores = np.maximum(np.nan_to_num(offered_scores), 0.0)
    probabilities = scores / np.repeat(np.maximum(1.0, sum_of(scores, offered)), np.diff(offered))
    texts, text_offsets, text_codes = _heard(turns)
    context = turns["context"].combine_chunks()
    contexts, context_codes = _coded(context)
    utterances, utterance_codes = _coded(turns["utterance_id"].combine_chunks())
    unread = (_numbers(turns["fallback"]) == 1) | (codes[:n] == NONE)
    return TurnColumns(
        at=turns["at"].to_numpy(),
        contexts=contexts,
        context=context_codes,
        utterances=utterances,
        utterance=utterance_codes,
        has_context=_numbers(pc.not_equal(context, "")) == 1,
        prompt=_coded(turns["prompt"].combine_chunks())[1],
        confidence=_numbers(turns["nlu_score"]),
        recognition=_numbers(turns["asr_score"]),
        unread=unread,
        failed=_numbers(turns["failed"]) == 1,
        completed=_numbers(turns["completed"]),
        feedback=_numbers(turns["feedback"]),
        barge_in=_numbers(turns["barge_in"]),
        texts=texts,
        text_offsets=text_offsets,
        text_codes=text_codes,
        readings=Readings(goals, codes[:n], np.where(unread, NONE, codes[:n]), offered, codes[n:], probabilities),
        ends_session=np.append(session[1:] != session[:-1], True)[:n],
    )


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


def _heard(turns: pa.Table) -> tuple[npt.NDArray[np.object_], Ints, Ints]:
    """Distinct recognised texts, case folded; and each turn's, best first, at most `MAX_TEXTS`.

    A turn without an n-best list has its normalised text as the only one.
    """
    lists = turns["texts"].combine_chunks()
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
    return texts, offsets, codes[order]


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
