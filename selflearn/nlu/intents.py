"""Intents alone, where nobody asks for the values: the part of the reference NLU that is quick to learn and to use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selflearn.errors import DataError
from selflearn.nlu.classifiers import IntentClassifier
from selflearn.nlu.examples import Example
from selflearn.nlu.features import SentenceFeatures
from selflearn.ragged import Floats


class IntentReader:
    """Reads sentences as intents, as `ReferenceNLU` does."""

    def __init__(self, examples: Sequence[Example]) -> None:
        """Learn from examples.

        Raises:
            DataError: there are none.
        """
        if not examples:
            raise DataError("the intent reader got no examples", "give a training set that has some")
        texts, contexts = [one.text for one in examples], [one.context for one in examples]
        self._features = SentenceFeatures().fit(texts, contexts)
        self._classifier = IntentClassifier(self._features.transform(texts, contexts), examples)

    @property
    def intents(self) -> tuple[str, ...]:
        """What is told apart, in the order of `probabilities`."""
        return self._classifier.intents

    def probabilities(self, texts: Sequence[str], contexts: Sequence[str]) -> Floats:
        """Shape (sentences, intents)."""
        if not texts:
            return np.zeros((0, len(self.intents)))
        return self._classifier.probabilities(self._features.transform(texts, contexts))
