"""Sentences as weighted n-grams of characters and words, in any script, beside what the system had just asked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from selflearn.wording import words

_EDGE = "\x02"


class SentenceFeatures:
    """TF-IDF of word 1- and 2-grams and of character 2- to 4-grams that do not cross words, and the context's parts.

    A word stands between edges, so that its beginning and end are n-grams of their own.
    """

    def __init__(self) -> None:
        self._parts = (
            TfidfVectorizer(analyzer=_word_grams, sublinear_tf=True),
            TfidfVectorizer(analyzer=_character_grams, sublinear_tf=True),
        )
        self._context = TfidfVectorizer(analyzer=str.split, use_idf=False, norm=None)

    def fit_transform(self, texts: Sequence[str], contexts: Sequence[str]) -> sparse.csr_matrix:
        """Learn which n-grams there are, and how rare each is; the sentences' own features."""
        found = [part.fit_transform(texts) for part in self._parts]
        self._context.fit([*contexts, "?"])
        return sparse.csr_matrix(sparse.hstack([*found, self._context.transform(contexts)]))

    def transform(self, texts: Sequence[str], contexts: Sequence[str]) -> sparse.csr_matrix:
        """Shape (sentences, features)."""
        found = [part.transform(texts) for part in self._parts]
        return sparse.csr_matrix(sparse.hstack([*found, self._context.transform(contexts)]))


def _word_grams(text: str) -> list[str]:
    found = [_EDGE, *words(text.casefold()), _EDGE]
    return [*found[1:-1], *(f"{left} {right}" for left, right in itertools.pairwise(found))]


def _character_grams(text: str) -> list[str]:
    bounded = (f"{_EDGE}{word}{_EDGE}" for word in words(text.casefold()))
    return [word[at : at + size] for word in bounded for size in (2, 3, 4) for at in range(len(word) - size + 1)]
