"""Intents, and slot values that do not stand in the words, by logistic regression on the sentence's features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from selflearn.nlu.examples import Example, Item
from selflearn.nlu.proportional import merged_columns
from selflearn.ragged import Floats
from selflearn.wording import word_spans

MIN_EXAMPLES = 3
"""A value that does not stand in the words is learnt from so many sentences on."""
INVERSE_RIDGE = 20.0


class IntentClassifier:
    """Probability of each intent of a sentence: multinomial logistic regression.

    It learns in single precision: it reads as well, in less time.
    """

    def __init__(self, features: sparse.csr_matrix, examples: Sequence[Example]) -> None:
        names = [example.intent for example in examples]
        self.intents = tuple(sorted(set(names)))
        self._model: LogisticRegression | None = None
        if len(self.intents) > 1:
            self._merged: sparse.csr_matrix = merged_columns(features)
            weights = [example.weight for example in examples]
            model = LogisticRegression(C=INVERSE_RIDGE, max_iter=200)
            self._model = model.fit(self._single(features), names, sample_weight=weights)

    def probabilities(self, features: sparse.csr_matrix) -> Floats:
        """Shape (sentences, intents), in the order of `intents`."""
        if self._model is None:
            return np.ones((features.shape[0], 1))
        return np.asarray(self._model.predict_proba(self._single(features)), dtype=np.float64)

    def _single(self, features: sparse.csr_matrix) -> sparse.csr_matrix:
        return sparse.csr_matrix(features @ self._merged, dtype=np.float32)


class ItemClassifiers:
    """Probability that a sentence means each of the values that often do not stand in its words."""

    def __init__(self, features: sparse.csr_matrix, examples: Sequence[Example]) -> None:
        known = np.array([example.tagged is not None for example in examples])
        rows, chosen = features[known], [example for example in examples if example.tagged is not None]
        unsaid = Counter(item for example in chosen for item in unsaid_items(example))
        self.items: tuple[Item, ...] = tuple(sorted(item for item, n in unsaid.items() if n >= MIN_EXAMPLES))
        weights = np.array([example.weight for example in chosen])
        fits = [_fit(rows, np.array([item in one.items for one in chosen]), weights) for item in self.items]
        coefficients = np.array([coefficients for coefficients, _ in fits]).reshape(-1, features.shape[1])
        # A row for each feature: a product with sparse rows copies what lies otherwise, all of it, at each call.
        self._coefficients = np.ascontiguousarray(coefficients.T)
        self._intercepts = np.array([intercept for _, intercept in fits])

    def probabilities(self, features: sparse.csr_matrix) -> Floats:
        """Shape (sentences, items), in the order of `items`."""
        log_odds = features @ self._coefficients + self._intercepts
        return np.asarray(1 / (1 + np.exp(-log_odds)))


def _fit(features: sparse.csr_matrix, is_meant: npt.NDArray[np.bool_], weights: Floats) -> tuple[Floats, float]:
    """Coefficients and intercept; where every sentence means it, so will any other."""
    if is_meant.all():
        return np.zeros(features.shape[1]), np.inf
    model = LogisticRegression(C=INVERSE_RIDGE, solver="liblinear", random_state=0)
    model.fit(features, is_meant, sample_weight=weights)
    return model.coef_[0], float(model.intercept_[0])


def unsaid_items(example: Example) -> frozenset[Item]:
    """The items of which no tagged span of their slot has the words."""
    said = {(tagged.slot, example.text[tagged.start : tagged.end].casefold()) for tagged in example.tagged or ()}
    return example.items - said


def place_of(item: Item, text: str) -> tuple[int, int] | None:
    """Where the item's value first stands in the text as whole words: start and end, in characters."""
    wanted, found = _folded_words(item[1]), _folded_words(text)
    if not wanted or wanted[0] not in found:
        return None
    for at in range(len(found) - len(wanted) + 1):
        if found[at : at + len(wanted)] == wanted:
            spans = word_spans(text)
            return spans[at][0], spans[at + len(wanted) - 1][1]
    return None


@lru_cache(maxsize=100_000)
def _folded_words(text: str) -> tuple[str, ...]:
    return tuple(text[start:end].casefold() for start, end in word_spans(text))
