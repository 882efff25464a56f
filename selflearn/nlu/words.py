"""The words of a text in any script, and where they stand."""

from __future__ import annotations

import itertools
from functools import lru_cache

from selflearn.detect.wording import _word_starts, characters_of


@lru_cache(maxsize=100_000)
def word_spans(text: str) -> tuple[tuple[int, int], ...]:
    """Start and end (exclusive) of each word, in characters.

    >>> word_spans("what's on?")
    ((0, 6), (7, 9))
    """
    starts, is_break = _word_starts(characters_of([text]).codes)
    bounds = [*starts.tolist(), len(text) + 1]
    spans = []
    for start, beyond in itertools.pairwise(bounds):
        end = start + 1
        while end < beyond and not is_break[end]:
            end += 1
        spans.append((start - 1, end - 1))
    return tuple(spans)


def words(text: str) -> list[str]:
    """The words themselves.

    >>> words("明日7時")
    ['明', '日', '7', '時']
    """
    return [text[start:end] for start, end in word_spans(text)]
