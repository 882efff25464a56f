"""Intents alone, where nobody asks for the values: the part of the reference NLU that is quick to learn and to use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from selflearn.errors import DataError
from selflearn.nlu.classifiers import IntentClassifier
from selflearn.nlu.examples import Example
from selflearn.nlu.features import SentenceFeatures
from selflearn.ragged import Floats

_VECTOR_LENGTH = 2.0
"""N-grams of words and those of characters have length one each."""


class IntentReader:
    """Reads sentences as intents, as `ReferenceNLU` does, and by an encoder's vectors where they are given."""

    def __init__(
        self, examples: Sequence[Example], vectors: Floats | None = None, start: IntentReader | None = None
    ) -> None:
        """Learn from examples; `vectors`, shape (examples, dimension), are of their texts.

        Where there is a `start`, a reader that learnt other intents or weights of the same sentences, it knows that
        one's n-grams and goes on from what it has learnt, which takes half the time.

        Raises:
            DataError: there are none.
        """
        if not examples:
            raise DataError("the intent reader got no examples", "give a training set that has some")
        texts, contexts = [one.text for one in examples], [one.context for one in examples]
        if start is None:
            self._features = SentenceFeatures()
            grams = self._features.fit_transform(texts, contexts)
        else:
            self._features = start._features
            grams = self._features.transform(texts, contexts)
        learnt = None if start is None else start._classifier
        self._classifier: IntentClassifier = IntentClassifier(_beside(grams, vectors), examples, learnt)

    @property
    def intents(self) -> tuple[str, ...]:
        """What is told apart, in the order of `probabilities`."""
        return self._classifier.intents

    def probabilities(self, texts: Sequence[str], contexts: Sequence[str], vectors: Floats | None = None) -> Floats:
        """Shape (sentences, intents); with vectors where it learnt with them."""
        if not texts:
            return np.zeros((0, len(self.intents)))
        return self._classifier.probabilities(_beside(self._features.transform(texts, contexts), vectors))


def _beside(grams: sparse.csr_matrix, vectors: Floats | None) -> sparse.csr_matrix:
    if vectors is None:
        return grams
    return sparse.csr_matrix(sparse.hstack([grams, sparse.csr_matrix(_VECTOR_LENGTH * vectors)]))
