"""Intents alone, where nobody asks for the values: readers that learn in a latent space.

Logistic regression on tens of thousands of n-grams takes most of its time on their number. In the few directions in
which the sentences differ most (latent semantic analysis; Deerwester et al. 1990) it takes a tenth, and what is learnt
there is linear in the n-grams again, so that reading needs no such space.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.utils.extmath import randomized_svd

from selflearn.errors import DataError
from selflearn.nlu.classifiers import INVERSE_RIDGE
from selflearn.nlu.features import SentenceFeatures
from selflearn.ragged import Floats, Ints

_DIMENSIONS = 300
_POWER_STEPS = 3
_VECTOR_LENGTH = 2.0
"""N-grams of words and those of characters have length one each."""


class LatentSentences:
    """Sentences as points: their n-grams in few dimensions, and beside them an encoder's vectors where they are given.

    `points` has shape (sentences, dimensions + those of the vectors), in single precision.
    """

    def __init__(self, texts: Sequence[str], contexts: Sequence[str], vectors: Floats | None = None) -> None:
        """Find the dimensions; `vectors` has shape (sentences, dimension)."""
        self.features = SentenceFeatures()
        grams = self.features.fit_transform(texts, contexts).astype(np.float32)
        _, _, self._latent = randomized_svd(grams, _DIMENSIONS, n_iter=_POWER_STEPS, random_state=0)
        found = [grams @ self._latent.T, *(() if vectors is None else (_VECTOR_LENGTH * vectors,))]
        self.points = np.hstack(found).astype(np.float32)

    def of_grams(self, coefficients: Floats) -> Floats:
        """Coefficients of the n-grams, and beside them of the vectors; shape (intents, columns)."""
        n_latent = len(self._latent)
        return np.hstack([coefficients[:, :n_latent] @ self._latent, coefficients[:, n_latent:]])


class IntentReader:
    """Reads sentences as intents, as `ReferenceNLU` does, and by an encoder's vectors where they are given."""

    def __init__(
        self,
        sentences: LatentSentences,
        rows: Ints,
        intents: Sequence[str],
        weights: Sequence[float],
        start: IntentReader | None = None,
    ) -> None:
        """Learn that the sentences at `rows` have those intents, each by its weight.

        It goes on from what `start` has learnt of the same sentences and intents, which takes half the time.

        Raises:
            DataError: there are none.
        """
        if not len(rows):
            raise DataError("the intent reader got no examples", "give a training set that has some")
        self.intents = tuple(sorted(set(intents)))
        """What is told apart, in the order of `probabilities`."""
        self._features = sentences.features
        self._model = LogisticRegression(C=INVERSE_RIDGE, max_iter=200, warm_start=True)
        self._of_points, self._intercepts = np.zeros((1, sentences.points.shape[1])), np.zeros(1)
        if len(self.intents) > 1:
            if start is not None and start.intents == self.intents:
                self._model.coef_, self._model.intercept_ = start._model.coef_.copy(), start._model.intercept_.copy()
            self._model.fit(sentences.points[rows], intents, sample_weight=weights)
            self._of_points, self._intercepts = self._model.coef_, self._model.intercept_
        if len(self.intents) == 2:
            # Of two it has the log-odds of the second.
            self._of_points = np.vstack([np.zeros_like(self._of_points), self._of_points])
            self._intercepts = np.append(0.0, self._intercepts)
        # A row for each feature: a product with sparse rows copies what lies otherwise, all of it, at each call.
        self._of_grams = np.ascontiguousarray(sentences.of_grams(self._of_points).T, dtype=np.float32)

    def probabilities(self, texts: Sequence[str], contexts: Sequence[str], vectors: Floats | None = None) -> Floats:
        """Shape (sentences, intents); with vectors where it learnt with them."""
        if not texts:
            return np.zeros((0, len(self.intents)))
        grams = self._features.transform(texts, contexts)
        log_odds = grams @ self._of_grams[: grams.shape[1]] + self._intercepts
        if vectors is not None:
            log_odds += _VECTOR_LENGTH * vectors @ self._of_grams[grams.shape[1] :]
        return np.asarray(softmax(log_odds, axis=1))

    def probabilities_at(self, points: npt.NDArray[np.float32]) -> Floats:
        """The same of some of the `points` that it learnt among."""
        return np.asarray(softmax(points @ self._of_points.T + self._intercepts, axis=1))
