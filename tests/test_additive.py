"""Additive weights: the maximum of a likelihood that a general optimiser finds too, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from selflearn.detect.additive import AdditiveModel, fit_additive
from selflearn.detect.latent_class import Patterns
from selflearn.detect.signals import Signal

SIGNALS = (
    Signal("telling", "outcome", (0.3, 0.6), "rises with failure"),
    Signal("silent", "outcome", (0.5,), "says nothing"),
)
RIDGE = 5.0


def drawn(n: int, seed: int = 1) -> Patterns:
    """Rows whose soft labels follow the first signal, now and then missing, and not the second."""
    rng = np.random.default_rng(seed)
    levels = np.column_stack([rng.integers(0, 4, n), rng.integers(0, 3, n)]).astype(np.int8)
    soft = np.clip(np.array([0.3, 0.05, 0.3, 0.9])[levels[:, 0]] + rng.normal(0, 0.03, n), 0, 1)
    return Patterns(levels, np.ones(n), soft)


random_patterns = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 500), st.floats(0, 1)), min_size=1, max_size=12
).map(
    lambda rows: Patterns(
        np.array([row[:2] for row in rows], dtype=np.int8),
        np.array([row[2] for row in rows], dtype=float),
        np.array([row[3] for row in rows]),
    )
)


def flat(model: AdditiveModel) -> np.ndarray:
    return np.concatenate([[model.offset], *model.weights])


@settings(max_examples=40, deadline=None)
@given(random_patterns)
def test_weights_are_those_of_the_greatest_penalised_likelihood(patterns: Patterns) -> None:
    design = np.concatenate(
        [
            np.ones((len(patterns.counts), 1)),
            *(np.eye(s.n_levels)[patterns.levels[:, k]] for k, s in enumerate(SIGNALS)),
        ],
        axis=1,
    )

    def loss(weights: np.ndarray) -> float:
        z = design @ weights
        entropy = patterns.counts @ (np.logaddexp(0, z) - patterns.seeds * z)
        return float(entropy + RIDGE / 2 * (weights[1:] ** 2).sum())

    found = flat(fit_additive(patterns, SIGNALS))
    assert np.isfinite(found).all()
    assert loss(found) <= loss(minimize(loss, np.zeros(design.shape[1]), method="BFGS").x) + 1e-4 * patterns.n


def test_each_level_weighs_what_it_tells_and_a_missing_one_too() -> None:
    telling, silent = fit_additive(drawn(20_000), SIGNALS).weights
    assert telling[1] < telling[0] < telling[3]
    assert telling[0] == pytest.approx(telling[2], abs=0.05)
    assert max(silent) - min(silent) < 0.05


def test_predictions_are_calibrated_on_every_level() -> None:
    patterns = drawn(20_000)
    p = expit(fit_additive(patterns, SIGNALS).log_odds(patterns.levels))
    assert p.mean() == pytest.approx(patterns.seeds.mean(), abs=1e-6)
    for level in range(4):
        chosen = patterns.levels[:, 0] == level
        assert p[chosen].mean() == pytest.approx(patterns.seeds[chosen].mean(), abs=5e-3)


def test_copies_of_a_signal_share_its_weight() -> None:
    patterns = drawn(20_000)
    once = fit_additive(patterns, SIGNALS)
    copied = Patterns(patterns.levels[:, [0, 0, 1]], patterns.counts, patterns.seeds)
    twice = fit_additive(copied, (SIGNALS[0], *SIGNALS))
    assert twice.weights[0] == pytest.approx(twice.weights[1])
    assert np.ptp(twice.weights[0]) == pytest.approx(np.ptp(once.weights[0]) / 2, rel=0.02)


@settings(max_examples=30, deadline=None)
@given(random_patterns)
def test_equal_patterns_may_be_split_or_merged(patterns: Patterns) -> None:
    halves = Patterns(
        np.concatenate([patterns.levels, patterns.levels[::-1]]),
        np.concatenate([patterns.counts / 4, patterns.counts[::-1] * 3 / 4]),
        np.concatenate([patterns.seeds, patterns.seeds[::-1]]),
    )
    found = fit_additive(halves, SIGNALS).log_odds(patterns.levels)
    assert found == pytest.approx(fit_additive(patterns, SIGNALS).log_odds(patterns.levels), abs=1e-3)
