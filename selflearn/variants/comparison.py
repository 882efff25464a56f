"""What two utterances have in common: signals of many pairs at once, none of which knows a language.

Besides the cosine of their vectors these are characters, sounds and words. A word that only one of the two has is
judged by how rare it is, and by how often it is part of a slot's value: two that differ in one value look alike, and
mean different goals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rapidfuzz import fuzz, process

from selflearn.ragged import Floats, Ints, max_of, offsets_of, places, sum_of
from selflearn.sound import sound_keys
from selflearn.wording import characters_of, length_ratio, word_counts

SIGNALS = (
    "cosine",
    "characters",
    "words_in_order",
    "sounds",
    "words",
    "rarest_word",
    "length",
    "value_apart",
    "values_apart",
    "value_shared",
    "context",
)
"""Larger says: rather the same goal. The first and the last are of utterances, the rest of their words."""
WORD_BUCKETS = 1 << 18
"""Words are counted by hash, as `wording.word_counts` does."""
_DOUBT = 2.0
"""Occurrences of an average rare word that count beside a word's own when its share in values is estimated."""
_ASCENDING = np.int64(WORD_BUCKETS)

Bools = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Words:
    """Words of texts as sorted buckets, lists by text."""

    offsets: Ints
    buckets: Ints


@dataclass(frozen=True)
class Lexicon:
    """What utterances of known goals tell of words, arrays by bucket.

    Attributes:
        weight: log of how many utterances there are for one with the word.
        p_value: share of the word's utterances in which it is part of a slot's value.
    """

    weight: npt.NDArray[np.float32]
    p_value: npt.NDArray[np.float32]


@dataclass(frozen=True)
class WordsApart:
    """Words that one utterance of a pair has and the other lacks, lists by pair."""

    offsets: Ints
    buckets: Ints


def words_of(texts: Sequence[str]) -> Words:
    """Distinct words of each text."""
    counts = word_counts(characters_of(texts))
    counts.sum_duplicates()
    return Words(counts.indptr.astype(np.int64), counts.indices.astype(np.int64))


def lexicon_of(n_texts: float, n_with: Floats, n_as_value: Floats) -> Lexicon:
    """From counts by bucket: texts that have the word, and those where it is part of a value of their goal.

    A word seen rarely or never is as likely part of a value as those seen once are.
    """
    is_once = n_with == 1
    rare = (n_as_value[is_once].sum() + 1) / (is_once.sum() + 2)
    weight = np.log((n_texts + 1) / np.maximum(n_with, 1))
    p_value = (n_as_value + _DOUBT * rare) / (n_with + _DOUBT)
    return Lexicon(weight.astype(np.float32), p_value.astype(np.float32))


def empty_lexicon() -> Lexicon:
    """What is known of words before any goal is: all weigh the same, none is part of a value."""
    return Lexicon(np.ones(WORD_BUCKETS, dtype=np.float32), np.zeros(WORD_BUCKETS, dtype=np.float32))


def own_signals(pairs: pa.Table | pa.RecordBatch) -> dict[str, Floats]:
    """Signals that do not look at words: the vectors' cosine, and whether the context is the same."""
    same_context = pc.equal(pairs["left_context"], pairs["right_context"])
    return {
        name: np.asarray(column, dtype=np.float64)
        for name, column in (("cosine", pairs["cosine"]), ("context", same_context))
    }


def text_signals(left: pa.Array, right: pa.Array) -> dict[str, Floats]:
    """Signals of each pair of texts that need no lexicon: characters, words in any order, sounds, length."""
    texts, left_code, right_code = _coded(left, right)
    sounds = np.empty(len(texts), dtype=object)
    sounds[:] = sound_keys(texts.tolist())
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return {
        "characters": _ratio(texts, left_code, right_code, fuzz.ratio),
        "words_in_order": _ratio(texts, left_code, right_code, fuzz.token_sort_ratio),
        "sounds": _ratio(sounds, left_code, right_code, fuzz.ratio),
        "length": -np.abs(length_ratio(lengths[left_code], lengths[right_code])),
    }


def words_apart(left: pa.Array, right: pa.Array, lexicon: Lexicon) -> tuple[dict[str, Floats], WordsApart]:
    """Signals of the words that each pair of texts shares and does not share; and the latter."""
    texts, left_code, right_code = _coded(left, right)
    words = words_of(texts.tolist())
    pair, bucket, is_left, is_shared = _matched(words, left_code, right_code)
    weight, p_value = lexicon.weight[bucket].astype(np.float64), lexicon.p_value[bucket].astype(np.float64)
    shared, apart = np.flatnonzero(is_shared), np.flatnonzero(~is_shared)
    n_pairs = len(left)

    def most(chosen: Ints, values: Floats) -> Floats:
        return max_of(values[chosen], np.searchsorted(pair[chosen], np.arange(n_pairs + 1)), 0.0)

    offsets = np.searchsorted(pair[apart], np.arange(n_pairs + 1))
    # A shared word stands there once for each side.
    in_both = sum_of(weight[shared], np.searchsorted(pair[shared], np.arange(n_pairs + 1))) / 2
    total = in_both + sum_of(weight[apart], offsets)
    of_left, of_right = (most(apart[is_left[apart] == side], p_value) for side in (True, False))
    signals = {
        "words": np.where(total > 0, in_both / np.maximum(total, 1e-9), 1.0),
        "rarest_word": -most(apart, weight),
        "value_apart": -np.maximum(of_left, of_right),
        "values_apart": -np.minimum(of_left, of_right),
        "value_shared": most(shared, p_value),
    }
    return signals, WordsApart(offsets, bucket[apart])


def _matched(words: Words, left: Ints, right: Ints) -> tuple[Ints, Ints, Bools, Bools]:
    """Words of both texts of each pair, sorted by pair and bucket: the pair, the bucket, its side, whether shared."""
    keys = []
    for side, code in enumerate((left, right)):
        place, offsets = places(words.offsets, code)
        pair = np.repeat(np.arange(len(code)), np.diff(offsets))
        keys.append((pair * _ASCENDING + words.buckets[place]) * 2 + side)
    key = np.sort(np.concatenate(keys))
    word = key >> 1
    same_as_next = word[1:] == word[:-1]
    is_shared = np.zeros(len(key), dtype=bool)
    is_shared[1:] |= same_as_next
    is_shared[:-1] |= same_as_next
    pair, bucket = np.divmod(word, _ASCENDING)
    return pair, bucket, (key & 1) == 0, is_shared


def _ratio(strings: Strings, left: Ints, right: Ints, scorer: Callable[..., float]) -> Floats:
    return np.asarray(process.cpdist(strings[left], strings[right], scorer=scorer, dtype=np.float64) / 100)


def _coded(left: pa.Array, right: pa.Array) -> tuple[Strings, Ints, Ints]:
    """Distinct strings of both sides, and each pair's places among them."""
    coded = pa.concat_arrays([left, right]).dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return coded.dictionary.to_numpy(zero_copy_only=False), codes[: len(left)], codes[len(left) :]


def folded_counts(words: Words, fold: Ints, n_folds: int) -> tuple[Floats, Floats]:
    """Of each fold: how many texts there are, and how many have each word; shapes (folds,), (folds, buckets)."""
    owner = np.repeat(fold, np.diff(words.offsets))
    counts = np.bincount(owner * WORD_BUCKETS + words.buckets, minlength=n_folds * WORD_BUCKETS)
    n_texts = np.bincount(fold, minlength=n_folds)
    return n_texts.astype(np.float64), counts.reshape(n_folds, WORD_BUCKETS).astype(np.float64)


def shared_words(texts: Words, others: Words) -> Words:
    """Words of each text that the other text of the same place has, too."""
    place = np.arange(len(texts.offsets) - 1)
    both = Words(
        np.concatenate([texts.offsets, others.offsets[1:] + texts.offsets[-1]]),
        np.concatenate([texts.buckets, others.buckets]),
    )
    owner, bucket, is_left, is_shared = _matched(both, place, place + len(place))
    kept = is_left & is_shared
    return Words(offsets_of(np.bincount(owner[kept], minlength=len(place))), bucket[kept])
