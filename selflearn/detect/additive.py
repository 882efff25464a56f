"""Weights of signal levels by logistic regression on soft labels, from counted level patterns.

Distinct patterns with their counts and mean soft labels are sufficient, so a fit costs the same whatever the size of
the log. Signals that say the same share their weight, and where the soft labels are calibrated so is the prediction:
E[E[y | all] | levels] = E[y | levels].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selflearn.detect.latent_class import Levels, Patterns, sigmoid, weigh
from selflearn.detect.signals import Signal
from selflearn.ragged import Floats, Ints

_RIDGE = 5.0
"""Pulls each weight to zero, as strongly as 20 turns at even odds hold it where they put it."""
_MAX_STEPS = 50
_TOLERANCE = 1e-9
_ROWS_AT_ONCE = 20_000


@dataclass(frozen=True)
class AdditiveModel:
    """Log-odds weight of every level of every signal; level 0, missing, has a weight like the others."""

    signals: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    offset: float

    def log_odds(self, levels: Levels) -> Floats:
        """Log-odds of each row of levels, shape (rows,)."""
        return np.asarray(self.offset + weigh(self.weights, levels).sum(axis=1))


def fit_additive(patterns: Patterns, signals: Sequence[Signal]) -> AdditiveModel:
    """The weights of least cross-entropy with the patterns' soft labels (`seeds`) and a ridge, by Newton's method."""
    sizes = [signal.n_levels for signal in signals]
    starts = 1 + np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    places = patterns.levels + starts
    ridge = np.full(1 + sum(sizes), _RIDGE)
    ridge[0] = 0.0
    mean = float(np.clip(patterns.counts @ patterns.seeds / patterns.n, 1e-6, 1 - 1e-6))
    weights = np.zeros(len(ridge))
    weights[0] = np.log(mean / (1 - mean))

    def loss(weights: Floats) -> float:
        log_odds = weights[0] + weights[places].sum(axis=1)
        entropy = patterns.counts @ (np.logaddexp(0, log_odds) - patterns.seeds * log_odds)
        return float(entropy + ridge @ weights**2 / 2)

    before = loss(weights)
    for _ in range(_MAX_STEPS):
        step = _newton_step(weights, places, patterns, ridge)
        while loss(weights + step) > before and np.abs(step).max() > _TOLERANCE:
            step = step / 2
        weights = weights + step
        after = loss(weights)
        if before - after <= _TOLERANCE * abs(before):
            break
        before = after
    rows = tuple(tuple(map(float, weights[start : start + size])) for start, size in zip(starts, sizes, strict=True))
    return AdditiveModel(tuple(signal.name for signal in signals), rows, float(weights[0]))


def _newton_step(weights: Floats, places: Ints, patterns: Patterns, ridge: Floats) -> Floats:
    gradient, curvature = -ridge * weights, np.diag(ridge)
    for start in range(0, len(places), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        design = np.zeros((len(places[some]), len(weights)))
        design[:, 0] = 1
        np.put_along_axis(design, places[some], 1.0, axis=1)
        p = sigmoid(design @ weights)
        counts = patterns.counts[some]
        gradient += design.T @ (counts * (patterns.seeds[some] - p))
        curvature += (design * (counts * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ design
    return np.asarray(np.linalg.solve(curvature, gradient))
