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

Bools = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Words:
    """Words of texts as sorted buckets, lists by text."""

    offsets: Ints
    buckets: Ints


@dataclass(frozen=True)
class Lexicon:
    """What utterances of known goals tell of words.

    Attributes:
        n_texts: how many there are.
        n_with: how many have the word, by bucket.
        n_as_value: in how many of these it is part of a value of their goal, by bucket.
    """

    n_texts: int
    n_with: npt.NDArray[np.float32]
    n_as_value: npt.NDArray[np.float32]

    @classmethod
    def of(cls, texts: Words, values: Words) -> Lexicon:
        """Of texts, and those of their words that are part of values."""
        n_with, n_as_value = (
            np.bincount(words.buckets, minlength=WORD_BUCKETS).astype(np.float32) for words in (texts, values)
        )
        return cls(len(texts.offsets) - 1, n_with, n_as_value)

    def weight(self, buckets: Ints) -> Floats:
        """Log of how many texts there are for one with the word."""
        return np.log((self.n_texts + 1) / np.maximum(self.n_with[buckets].astype(np.float64), 1))

    def p_value(self, buckets: Ints, n_own: Ints, n_own_as_value: Ints) -> Floats:
        """Share of each word's occurrences that are part of a value, apart from some of its own.

        A word that is new, or rare, is about as likely part of a value as those that occur once are.
        """
        is_once = self.n_with == 1
        rare = (float(self.n_as_value[is_once].sum()) + 1) / (int(is_once.sum()) + 2)
        n_with = np.maximum(self.n_with[buckets].astype(np.float64) - n_own, 0)
        n_as_value = np.clip(self.n_as_value[buckets].astype(np.float64) - n_own_as_value, 0, n_with)
        return np.asarray((n_as_value + _DOUBT * rare) / (n_with + _DOUBT))


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


def empty_lexicon() -> Lexicon:
    """What is known of words before any goal is: all weigh the same, and are as likely values."""
    nothing = np.zeros(WORD_BUCKETS, dtype=np.float32)
    return Lexicon(1, nothing, nothing)


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


def words_apart(
    left: pa.Array, right: pa.Array, lexicon: Lexicon, own_values: tuple[Words, Words] | None = None
) -> tuple[dict[str, Floats], WordsApart]:
    """Signals of the words that each pair of texts shares and does not share; and the latter.

    `own_values` are given where both texts are themselves in the lexicon: words of each left and each right text that
    are part of values. What the lexicon knows from these two texts alone does not count then.
    """
    texts, left_code, right_code = _coded(left, right)
    pair, bucket, side, is_shared = _matched(words_of(texts.tolist()), left_code, right_code)
    n_own, n_own_as_value = np.zeros(len(pair), dtype=np.int64), np.zeros(len(pair), dtype=np.int64)
    if own_values:
        n_own = 1 + is_shared.astype(np.int64)
        n_own_as_value = _occurrences(pair, bucket, own_values)
    weight, p_value = lexicon.weight(bucket), lexicon.p_value(bucket, n_own, n_own_as_value)
    shared, apart = np.flatnonzero(is_shared), np.flatnonzero(~is_shared)
    by_pair = np.arange(len(left) + 1)

    def most(chosen: Ints, values: Floats) -> Floats:
        return max_of(values[chosen], np.searchsorted(pair[chosen], by_pair), 0.0)

    offsets = np.searchsorted(pair[apart], by_pair)
    # A shared word stands there once for each side.
    in_both = sum_of(weight[shared], np.searchsorted(pair[shared], by_pair)) / 2
    total = in_both + sum_of(weight[apart], offsets)
    of_left, of_right = (most(apart[side[apart] == k], p_value) for k in (0, 1))
    signals = {
        "words": np.where(total > 0, in_both / np.maximum(total, 1e-9), 1.0),
        "rarest_word": -most(apart, weight),
        "value_apart": -np.maximum(of_left, of_right),
        "values_apart": -np.minimum(of_left, of_right),
        "value_shared": most(shared, p_value),
    }
    return signals, WordsApart(offsets, bucket[apart])


def _occurrences(pair: Ints, bucket: Ints, words: tuple[Words, Words]) -> Ints:
    """In how many of its pair's two lists of words each bucket stands."""
    n = np.zeros(len(pair), dtype=np.int64)
    for listed in words:
        owner = np.repeat(np.arange(len(listed.offsets) - 1), np.diff(listed.offsets))
        n += np.isin(pair * WORD_BUCKETS + bucket, owner * WORD_BUCKETS + listed.buckets)
    return n


def _matched(words: Words, left: Ints, right: Ints) -> tuple[Ints, Ints, Ints, Bools]:
    """Words of both texts of each pair, sorted by pair and bucket: the pair, the bucket, its side, whether shared."""
    keys = []
    for side, code in enumerate((left, right)):
        place, offsets = places(words.offsets, code)
        pair = np.repeat(np.arange(len(code)), np.diff(offsets))
        keys.append((pair * WORD_BUCKETS + words.buckets[place]) * 2 + side)
    key = np.sort(np.concatenate(keys))
    word = key >> 1
    same_as_next = word[1:] == word[:-1]
    is_shared = np.zeros(len(key), dtype=bool)
    is_shared[1:] |= same_as_next
    is_shared[:-1] |= same_as_next
    pair, bucket = np.divmod(word, WORD_BUCKETS)
    return pair, bucket, key & 1, is_shared


def _ratio(strings: Strings, left: Ints, right: Ints, scorer: Callable[..., float]) -> Floats:
    return np.asarray(process.cpdist(strings[left], strings[right], scorer=scorer, dtype=np.float64) / 100)


def _coded(left: pa.Array, right: pa.Array) -> tuple[Strings, Ints, Ints]:
    """Distinct strings of both sides, and each pair's places among them."""
    coded = pa.concat_arrays([left, right]).dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return coded.dictionary.to_numpy(zero_copy_only=False), codes[: len(left)], codes[len(left) :]


def shared_words(texts: Words, others: Words) -> Words:
    """Words of each text that the other text of the same place has, too."""
    place = np.arange(len(texts.offsets) - 1)
    both = Words(
        np.concatenate([texts.offsets, others.offsets[1:] + texts.offsets[-1]]),
        np.concatenate([texts.buckets, others.buckets]),
    )
    owner, bucket, side, is_shared = _matched(both, place, place + len(place))
    kept = is_shared & (side == 0)
    return Words(offsets_of(np.bincount(owner[kept], minlength=len(place))), bucket[kept])
