"""Logistic regression pulled towards the label-free log-odds: for a few hundred gold pairs, or for a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import minimize

from selflearn.detect.latent_class import sigmoid
from selflearn.detect.supervised.features import LABEL_FREE
from selflearn.ragged import Floats

WORDING: frozenset[str] = frozenset(
    {"text_similarity", "wording_shared", "item_again", "value_heard", "values_shared", "value_contradicts"}
    | {"meaning_similarity", "rest_again", "rest_alike", "rest_both", LABEL_FREE}
)
"""Features that two sentences without any context have too."""

_CLIP = 3.0
_PULL = 150.0
"""Of each weight of a standard score towards 0, and of the label-free log-odds' weight towards 1, in gold pairs."""
_PULL_OFFSET = 20.0
_LOG_WEIGHT = 200.0
"""Of the log's own pairs together, labelled softly without gold: they hold the scores, not just the weights."""
_LOG_PAIRS = 2_000
_SENTENCES_WEIGHT = 300.0
"""Of all pairs of sentences together: that of as many gold pairs."""


@dataclass(frozen=True)
class LinearModel:
    """Log-odds are `offset + label_free * (label-free log-odds) + weights @ (standard scores of the features)`.

    Scores are clipped; one of a missing value is 0.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    weights: tuple[float, ...]
    label_free: float
    offset: float

    def log_odds(self, names: Sequence[str], features: Floats) -> Floats:
        """Log-odds of each row of the named features, shape (rows,)."""
        place = {name: k for k, name in enumerate(names)}
        scores = standard_scores(features[:, [place[name] for name in self.names]], self.means, self.spreads)
        of_label_free = self.label_free * features[:, place[LABEL_FREE]]
        return np.asarray(self.offset + of_label_free + scores @ np.array(self.weights))

    def to_fields(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> LinearModel:
        lists = ("names", "means", "spreads", "weights")
        return cls(**fields | {name: tuple(fields[name]) for name in lists})


@dataclass(frozen=True)
class Labelled:
    """Pairs of which somebody, or a corpus, says whether they say the same: features, and 1.0 or 0.0."""

    features: Floats
    labels: Floats


def fit_linear(names: Sequence[str], of_log: Floats, gold: Labelled | None, sentences: Labelled | None) -> LinearModel:
    """Fit to gold pairs, pairs of sentences, or both.

    Pairs of sentences speak of `WORDING` alone and have an offset of their own: how many of them mean the same is no
    matter of the log.

    Args:
        names: of the features.
        of_log: features of the log's pairs, whose means and spreads make the scores; some of them count as pairs too,
            with the label-free probabilities as labels.
        gold: pairs of the log.
        sentences: pairs of a labelled corpus.
    """
    used = [k for k, name in enumerate(names) if name != LABEL_FREE and _varies(of_log[:, k])]
    means, spreads = np.nanmean(of_log[:, used], axis=0), np.nanstd(of_log[:, used], axis=0)
    place = list(names).index(LABEL_FREE)
    is_wording = np.array([True, *(names[k] in WORDING for k in used)])
    some = of_log[:: -(-len(of_log) // _LOG_PAIRS)]
    softly = Labelled(some, sigmoid(some[:, place]))
    rows, labels, weights = [], [], []
    for pairs, weight in ((softly, _LOG_WEIGHT), (gold, None), (sentences, _SENTENCES_WEIGHT)):
        if pairs is None:
            continue
        n, is_of_log = len(pairs.labels), pairs is not sentences
        scores = standard_scores(pairs.features[:, used], means, spreads)
        x = np.column_stack([pairs.features[:, place], scores]) * (is_wording | is_of_log)
        rows.append(np.column_stack([x, np.full(n, float(is_of_log)), np.full(n, float(not is_of_log))]))
        labels.append(pairs.labels)
        weights.append(np.full(n, 1.0 if weight is None else weight / n))
    prior = np.zeros(len(used) + 3)
    prior[0] = 1.0
    pull = np.full(len(prior), _PULL)
    pull[-2:] = _PULL_OFFSET
    found = logistic(np.concatenate(rows), np.concatenate(labels), np.concatenate(weights), prior, pull)
    return LinearModel(
        names=tuple(names[k] for k in used),
        means=tuple(means.tolist()),
        spreads=tuple(spreads.tolist()),
        weights=tuple(found[1:-2].tolist()),
        label_free=float(found[0]),
        offset=float(found[-2]),
    )


def logistic(x: Floats | sparse.csr_array, y: Floats, w: Floats, prior: Floats, pull: Floats) -> Floats:
    """Coefficients of the weighted logistic regression with a quadratic pull towards the prior."""

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        log_odds, off = x @ coefficients, coefficients - prior
        value = w @ (np.logaddexp(0, log_odds) - y * log_odds) + pull @ off**2 / 2
        return float(value), x.T @ (w * (sigmoid(log_odds) - y)) + pull * off

    return np.asarray(minimize(loss, prior, jac=True, method="L-BFGS-B").x)


def _varies(column: Floats) -> bool:
    known = column[~np.isnan(column)]
    return bool(len(known)) and float(known.min()) < float(known.max())


def standard_scores(columns: Floats, means: Sequence[float] | Floats, spreads: Sequence[float] | Floats) -> Floats:
    """Deviations from the means in spreads, clipped; 0 where the value is missing."""
    scores = (columns - np.asarray(means)) / np.asarray(spreads)
    return np.asarray(np.nan_to_num(np.clip(scores, -_CLIP, _CLIP)))
