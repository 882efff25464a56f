"""The turns of a batch as flat arrays of numbers, ready to be compared pair by pair."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from selflearn.considered import considered
from selflearn.detect.items import NONE, Bools, Items, Readings, items_of
from selflearn.ragged import Floats, Ints, offsets_of
from selflearn.sound import sound_keys
from selflearn.wording import Characters, characters_of, gram_counts, profiles, word_counts

MAX_TEXTS = 10
_BEST_TEXTS = 5
_UNREAD_CONFIDENCE = 0.1
TROUBLE_FRICTION = 0.9


@dataclass(frozen=True)
class Heard:
    """Distinct strings, and lists of them by turn."""

    strings: npt.NDArray[np.object_]
    offsets: Ints
    codes: Ints


@dataclass(frozen=True)
class TurnColumns:
    """Turns in the order of their sessions; `NONE` is the code of a missing string, NaN a missing number.

    Attributes:
        at: microseconds.
        contexts, utterances: the strings that `context` and `utterance` are codes of.
        unread: the assistant fell back; where the log does not say, the turn has no reading.
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
        return profiles(gram_counts(self._characters), self.text_offsets, self.text_codes)

    @cached_property
    def gram_sizes(self) -> Floats:
        """Sum of each turn's profile of characters: the root of how many there are, were all equally frequent."""
        return np.asarray(self.gram_profiles.sum(axis=1), dtype=np.float64).ravel()

    @cached_property
    def word_profiles(self) -> sparse.csr_array:
        return profiles(word_counts(self._characters), self.text_offsets, self.text_codes)

    @cached_property
    def best_texts(self) -> Heard:
        """The first `_BEST_TEXTS` texts of each turn."""
        counts = np.diff(self.text_offsets)
        rank = np.arange(len(self.text_codes)) - np.repeat(self.text_offsets[:-1], counts)
        return Heard(self.texts, offsets_of(np.minimum(_BEST_TEXTS, counts)), self.text_codes[rank < _BEST_TEXTS])

    @cached_property
    def best_sounds(self) -> Heard:
        """Keys of the sounds of the same texts, without repetitions; none of a text that has no key."""
        best = self.best_texts
        of_text, text = np.unique(best.codes, return_inverse=True)
        keys = sound_keys(self.texts[of_text].tolist())
        same = {key: code for code, key in enumerate(dict.fromkeys(["", *keys]))}
        code = np.array([same[key] for key in keys], dtype=np.int64)[text]
        turn = np.repeat(np.arange(len(self.at)), np.diff(best.offsets))
        turns, codes = np.divmod(np.unique((turn * len(same) + code)[code > 0]), len(same))
        return Heard(np.array([*same], dtype=object), offsets_of(np.bincount(turns, minlength=len(self.at))), codes)

    @cached_property
    def _characters(self) -> Characters:
        return characters_of(self.texts.tolist())

    @property
    def first_text(self) -> Ints:
        """Code of each turn's first text."""
        return self.text_codes[self.text_offsets[:-1]]

    @cached_property
    def length(self) -> Ints:
        """Characters of each turn's first text."""
        lengths = np.array([len(text) for text in self.texts], dtype=np.int64)
        return np.asarray(lengths[self.first_text])

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
    top, confidence = turns["goal"].combine_chunks(), _numbers(turns["nlu_score"])
    offered = considered(top, confidence, turns["goals"].combine_chunks(), turns["goal_scores"].combine_chunks())
    goals, codes = _coded(pa.concat_arrays([top, offered.goals]))
    texts, text_offsets, text_codes = _heard(turns)
    context = turns["context"].combine_chunks()
    fallback = _numbers(turns["fallback"])
    unread = np.where(np.isnan(fallback), codes[:n] == NONE, fallback == 1)
    contexts, context_codes = _coded(context)
    utterances, utterance_codes = _coded(turns["utterance_id"].combine_chunks())
    return TurnColumns(
        at=turns["at"].to_numpy(),
        contexts=contexts,
        context=context_codes,
        utterances=utterances,
        utterance=utterance_codes,
        has_context=_numbers(pc.not_equal(context, "")) == 1,
        prompt=_coded(turns["prompt"].combine_chunks())[1],
        confidence=confidence,
        recognition=_numbers(turns["asr_score"]),
        unread=unread,
        failed=_numbers(turns["failed"]) == 1,
        completed=_numbers(turns["completed"]),
        feedback=_numbers(turns["feedback"]),
        barge_in=_numbers(turns["barge_in"]),
        texts=texts,
        text_offsets=text_offsets,
        text_codes=text_codes,
        readings=Readings(
            goals, codes[:n], np.where(unread, NONE, codes[:n]), offered.offsets, codes[n:], offered.probabilities
        ),
        ends_session=np.append(session[1:] != session[:-1], True)[:n],
    )


def _heard(turns: pa.Table) -> tuple[npt.NDArray[np.object_], Ints, Ints]:
    """Distinct recognised texts, folded as values are; and each turn's, best first, at most `MAX_TEXTS`.

    A turn without an n-best list has its normalised text as the only one.
    """
    lists = turns["texts"].combine_chunks()
    n = len(lists)
    typed = turns["normalised_text"].combine_chunks()
    raw, codes = _coded(pa.concat_arrays([pc.list_flatten(lists), typed]))
    folded = [_folded(text) for text in raw]
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


def _folded(text: str) -> str:
    """NFKC, case folded, as the values of goals are: one letter in two encodings is one letter."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


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
