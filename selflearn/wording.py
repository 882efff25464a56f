"""What two turns' words have in common over all that the recogniser heard: no language's words are known."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import sparse

from selflearn.ragged import Floats, Ints, offsets_of

GRAM_SIZES = (2, 3)
EDGE = "\x02"
UNSPACED = (
    *("AHOM", "BALINESE", "CJK", "HALFWIDTH KATAKANA", "HIRAGANA", "IDEOGRAPHIC", "JAVANESE", "KATAKANA", "KHMER"),
    *("LAO", "MYANMAR", "NEW TAI LUE", "TAI", "THAI", "YI"),
)
"""Scripts that set no spaces between words, as the names of their characters begin: classes SA and ID of UAX #14."""
WITHIN_WORDS = "'’.·״"
"""Punctuation that ends no word where letters stand on both sides of it: MidLetter and MidNumLet of UAX #29."""
_CHANCE = 0.002
"""What unrelated turns share, over the product of their profiles' sizes: Friedman's index of coincidence (1922).

Turns of different sessions give .0015 to .0027 in typed dialogues, in phone calls and in eight simulated languages, at
all lengths alike; .0010 in Japanese and .0006 in Chinese, whose texts are so short that the difference hardly counts.
"""
_USUAL_PRODUCT = 50.0
"""Of the sizes of two requests: from which on they share more by chance than is usual."""
_MOST_PRODUCT = 10_000.0
_BUCKET_BITS = 18
_BUCKETS = 1 << _BUCKET_BITS
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_FOLD = np.uint64(29)
_SMALL_LENGTH = 3
_N_CODE_POINTS = 0x110000
_BREAK, _JOINS, _WITHIN, _LETTER, _ALONE = range(5)
"""A character ends a word, goes with the one before it, may stand within a word, is part of one, or is one itself."""


@dataclass(frozen=True)
class Characters:
    """Code points of many texts in one array, each text between two edges; `sizes` count both edges."""

    codes: npt.NDArray[np.uint32]
    sizes: Ints


def characters_of(texts: Sequence[str]) -> Characters:
    """Code points of the texts."""
    joined = "".join(f"{EDGE}{text}{EDGE}" for text in texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return Characters(codes, np.array([len(text) + 2 for text in texts], dtype=np.int64))


def profiles(counts: sparse.csr_array, offsets: Ints, codes: Ints) -> sparse.csr_array:
    """Root of the share of each feature in all that was heard of a turn, rows of length one (or zero).

    `counts` are of texts; `codes` are their rows, lists by turn. All alternatives count alike: a recogniser's scores
    put nearly everything on the first, and a misheard turn is one whose first is wrong. The product of two rows is
    the Bhattacharyya coefficient of the two distributions.
    """
    found = _counts(codes, offsets, counts.shape[0]) @ counts
    total = np.maximum(1.0, np.asarray(found.sum(axis=1)))
    found.data = np.sqrt(found.data / np.repeat(total, np.diff(found.indptr)))
    # There and back sorts each row's columns, in half the time that sorting them takes.
    return sparse.csr_array(found.tocsc().tocsr())


def shared(profiles: sparse.csr_array, source: Ints, target: Ints) -> Floats:
    """Bhattacharyya coefficient of the two turns' profiles, in [0, 1]."""
    return np.asarray(profiles[source].multiply(profiles[target]).sum(axis=1)).ravel()


def beyond_chance(overlap: Floats, product: Floats) -> Floats:
    """What two turns share, had they the usual lengths: long texts share more by chance than short ones.

    Of what chance left apart, `exp(-_CHANCE * product)` of all, `1 - overlap` is apart; and of the usual as much.

    Args:
        overlap: of `shared`.
        product: of the two turns' sizes, each the sum of its profile.
    """
    longer = np.minimum(product, _MOST_PRODUCT) - _USUAL_PRODUCT
    return np.clip(1 - (1 - overlap) * np.exp(_CHANCE * longer), 0.0, 1.0)


def gram_counts(characters: Characters) -> sparse.csr_array:
    """Counts of each text's character 2- and 3-grams by hash, shape (texts, buckets); an edge is a character.

    >>> int(gram_counts(characters_of(["ab"])).sum())
    5
    """
    codes, sizes = characters.codes.astype(np.uint64), characters.sizes
    fits = np.ones((len(codes), len(GRAM_SIZES)), dtype=bool)
    buckets = np.empty(fits.shape, dtype=np.int32)
    ends = np.cumsum(sizes)
    key = np.ones(len(codes), dtype=np.uint64)
    for size in range(1, max(GRAM_SIZES) + 1):
        key[: max(0, len(key) - size + 1)] ^= codes[size - 1 :]
        key *= _SPREAD
        key ^= key >> _FOLD
        if size in GRAM_SIZES:
            column = GRAM_SIZES.index(size)
            buckets[:, column] = key & np.uint64(_BUCKETS - 1)
            for beyond in range(1, size):
                fits[ends - beyond, column] = False
    n_grams = np.maximum(0, np.subtract.outer(sizes, np.array(GRAM_SIZES)) + 1).sum(axis=1)
    return _counts(buckets[fits], offsets_of(n_grams), _BUCKETS)


def word_counts(characters: Characters) -> sparse.csr_array:
    """Counts of each text's words by hash, shape (texts, buckets).

    Words end where UAX #29 ends them; in scripts without spaces, where it asks for a dictionary, and of symbols, each
    character with its marks counts as one.

    >>> int(word_counts(characters_of(["what's on?", "明日"])).sum())
    4
    """
    starts, is_break = _word_starts(characters.codes)
    if not len(starts):
        return sparse.csr_array((len(characters.sizes), _BUCKETS))
    first, n_characters = starts[0], np.diff(np.append(starts, len(is_break)))
    rank = np.arange(first, len(is_break)) - np.repeat(starts, n_characters)
    key = (characters.codes[first:].astype(np.uint64) << np.uint64(32)) + rank.astype(np.uint64)
    key *= _SPREAD
    key ^= key >> _FOLD
    key *= _SPREAD
    key[is_break[first:]] = 0
    buckets = (np.add.reduceat(key, starts - first) >> np.uint64(64 - _BUCKET_BITS)).astype(np.int32)
    return _counts(buckets, np.searchsorted(starts, offsets_of(characters.sizes)), _BUCKETS)


@lru_cache(maxsize=100_000)
def word_spans(text: str) -> tuple[tuple[int, int], ...]:
    """Start and end (exclusive) of each word, in characters.

    >>> word_spans("what's on?")
    ((0, 6), (7, 9))
    """
    starts, ends = _word_bounds(characters_of([text]).codes)
    return tuple(zip((starts - 1).tolist(), (ends - 1).tolist(), strict=True))


def words(text: str) -> list[str]:
    """The words themselves.

    >>> words("明日7時")
    ['明', '日', '7', '時']
    """
    return [text[start:end] for start, end in word_spans(text)]


def words_of(texts: Sequence[str]) -> list[list[str]]:
    """The words of many texts, each as by `words`; at once, which is a hundred times faster.

    >>> words_of(["what's on?", "", "明日"])
    [["what's", 'on'], [], ['明', '日']]
    """
    characters = characters_of(texts)
    starts, ends = _word_bounds(characters.codes)
    before = offsets_of(characters.sizes)
    first = np.searchsorted(starts, before)
    # An edge stands before each text's first character.
    inside = np.repeat(before[:-1] + 1, np.diff(first))
    bounds = list(zip((starts - inside).tolist(), (ends - inside).tolist(), strict=True))
    return [
        [text[start:end] for start, end in bounds[one:beyond]]
        for text, (one, beyond) in zip(texts, pairwise(first.tolist()), strict=True)
    ]


def _word_bounds(codes: npt.NDArray[np.uint32]) -> tuple[Ints, Ints]:
    """Places where words start, and where they end (exclusive); each text ends with an edge, which ends a word."""
    starts, is_break = _word_starts(codes)
    breaks = np.append(np.flatnonzero(is_break), len(codes))
    return starts, np.minimum(breaks[np.searchsorted(breaks, starts)], np.append(starts[1:], len(codes)))


def _word_starts(codes: npt.NDArray[np.uint32]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Places where words start, and whether each character stands between words."""
    is_there, kind_of = np.zeros(_N_CODE_POINTS, dtype=bool), np.zeros(_N_CODE_POINTS, dtype=np.int8)
    is_there[codes] = True
    distinct = np.flatnonzero(is_there)
    kind_of[distinct] = [_kind(chr(code)) for code in distinct.tolist()]
    kind = kind_of[codes]
    is_alone = kind == _ALONE
    # What joins is what it joins: both a mark and the letter it stands on are part of a word.
    joins = np.flatnonzero(kind == _JOINS)
    is_first = np.diff(joins, prepend=-1) > 1
    kind[joins] = kind[np.maximum.accumulate(np.where(is_first, joins - 1, 0))]
    inner = np.flatnonzero(kind == _WITHIN)
    is_inside = (kind[inner - 1] == _LETTER) & (kind[inner + 1] == _LETTER)
    kind[inner] = np.where(is_inside, _LETTER, _BREAK)
    is_letter = kind == _LETTER
    is_start = is_alone | is_letter
    is_start[1:] &= is_alone[1:] | ~is_letter[:-1]
    return np.flatnonzero(is_start), kind == _BREAK


def _counts(columns: npt.NDArray[np.integer], offsets: Ints, n_columns: int) -> sparse.csr_array:
    """One for each column listed, lists by row; small numbers, for they are moved about a lot."""
    ones, indices, starts = (part.astype(np.int32) for part in (np.ones_like(columns), columns, offsets))
    return sparse.csr_array((ones, indices, starts), shape=(len(offsets) - 1, n_columns))


@lru_cache(maxsize=100_000)
def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if character in WITHIN_WORDS:
        return _WITHIN
    if category[0] == "M" or category == "Cf":
        return _JOINS
    if category[0] not in "LNS":
        return _BREAK
    is_unspaced = unicodedata.name(character, "").startswith(UNSPACED)
    return _ALONE if is_unspaced or category[0] == "S" else _LETTER


def length_ratio(source: Ints, target: Ints) -> Floats:
    """Log of the target's length over the source's; both in characters, a few more so that short ones differ less."""
    return np.asarray(np.log((target + _SMALL_LENGTH) / (source + _SMALL_LENGTH)))
