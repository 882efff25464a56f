"""The pool's weights: those that make likely what was hidden, a sentence's outcomes or its goal."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from selflearn.graph import PoolWeights, fit_to_outcomes, fit_weights, launch_calibration_error
from selflearn.graph.weights import MIN_ANCHORS, SOURCES


def anchors(n: int, seed: int = 2) -> pd.DataFrame:
    """Sentences of four candidates each, in no order; their NLU says little, and their outcomes say much."""
    rng = np.random.default_rng(seed)
    is_right = np.tile([True, False, False, False], n)
    rows = pd.DataFrame(
        {
            "utterance_id": np.repeat([f"u{k:05}" for k in range(n)], 4),
            "is_right": is_right,
            "nlu_evidence": np.log(rng.uniform(0.05, 1, 4 * n)),
            "outcome_evidence": rng.normal(0, 1, 4 * n) + 2 * is_right,
            "pair_evidence": rng.normal(0, 1, 4 * n) - 1 * is_right,
            "variant_evidence": rng.normal(0, 1, 4 * n),
            "prior_evidence": np.log(rng.uniform(0.01, 0.1, 4 * n)),
            "refit_evidence": np.zeros(4 * n),
        }
    )
    return rows.sample(frac=1, random_state=seed)


def log_likelihood(rows: pd.DataFrame, weights: PoolWeights) -> float:
    """The twin: mean log posterior of the right goals, where every second sentence hides its NLU."""
    total, groups = 0.0, sorted(rows.groupby("utterance_id"))
    for k, (_, group) in enumerate(groups):
        hidden = group.assign(nlu_evidence=0.0) if k % 2 else group
        scores = hidden[list(SOURCES)].to_numpy() @ np.array(weights.as_tuple())
        total += scores[group["is_right"]].sum() - math.log(np.exp(scores).sum())
    return total / len(groups)


def test_fitted_weights_are_likelier_and_never_negative() -> None:
    rows, default = anchors(1_000), PoolWeights(1.0, 0.5, 0.5, 0.2, 0.1)
    fitted = fit_weights(rows, default)
    assert fitted.n_anchors == 1_000
    assert fitted.log_likelihood_default == pytest.approx(log_likelihood(rows, default), abs=1e-9)
    assert fitted.log_likelihood_fitted == pytest.approx(log_likelihood(rows, fitted.weights), abs=1e-9)
    assert fitted.log_likelihood_fitted > fitted.log_likelihood_default + 0.1
    assert min(fitted.weights.as_tuple()) >= 0
    # Pairs mislead here: they are left out, not turned round.
    assert fitted.weights.pair == 0
    assert fitted.weights.outcome > default.outcome
    assert fit_weights(rows.sort_values("outcome_evidence"), default).weights == fitted.weights


def test_the_launch_set_tells_weights_that_fit_from_others() -> None:
    rows = anchors(1_000)
    fitted = fit_weights(rows)
    assert launch_calibration_error(rows, fitted.weights) == pytest.approx(fitted.calibration_error)
    assert launch_calibration_error(rows, PoolWeights(nlu=5.0, variant=3.0)) > fitted.calibration_error + 0.1


def test_a_few_anchors_move_the_weights_less_and_too_few_not_at_all() -> None:
    default = PoolWeights(1.0, 0.5, 0.5, 0.2, 0.1)
    moves = [abs(fit_weights(anchors(n), default).weights.outcome - default.outcome) for n in (60, 1_000)]
    assert moves[0] < moves[1]
    few = fit_weights(anchors(MIN_ANCHORS - 1), default)
    assert (few.weights, few.n_anchors) == (default, MIN_ANCHORS - 1)
    unknown = fit_weights(anchors(MIN_ANCHORS).assign(is_right=False))
    assert (unknown.weights, unknown.n_anchors) == (PoolWeights(), 0)


def outcomes(n: int, weights: PoolWeights, seed: int = 3) -> pd.DataFrame:
    """Utterances whose goals are drawn by the weights, whose first candidate was acted on, and how that went.

    Every utterance that failed has a pair for another goal, as if it had been said again.
    """
    rng = np.random.default_rng(seed)
    evidence = {source: rng.normal(0, 2, (n, 4)) for source in ("nlu_evidence", "before_evidence", "variant_evidence")}
    score = weights.nlu * evidence["nlu_evidence"] + weights.pair * evidence["before_evidence"]
    score += weights.variant * evidence["variant_evidence"] + rng.gumbel(size=(n, 4))
    works = rng.random(n) < np.where(score.argmax(axis=1) == 0, 0.9, 0.2)
    outcome, pair = np.zeros((n, 4)), evidence["before_evidence"].copy()
    outcome[:, 0] = np.where(works, math.log(0.9 / 0.2), math.log(0.1 / 0.8))
    pair[~works, 1] += 5
    nothing = {name: np.zeros((n, 4)) for name in ("prior_evidence", "refit_evidence")}
    columns = evidence | nothing | {"outcome_evidence": outcome, "pair_evidence": pair}
    rows = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
    return rows.assign(utterance_id=np.repeat([f"u{k:05}" for k in range(n)], 4))


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.5])
def test_outcomes_tell_how_much_to_believe_the_other_sources(factor: float) -> None:
    default = PoolWeights(nlu=0.6, outcome=1.0, pair=0.2, variant=0.5)
    true = default.scaled(factor)
    assert (true.nlu, true.outcome, true.variant) == (0.6 * factor, 1.0, 0.5 * factor)
    rows = outcomes(4_000, true)
    fitted = fit_to_outcomes(rows, default)
    assert fitted.n_anchors == 4_000
    assert fitted.weights.as_tuple() == pytest.approx(true.as_tuple(), rel=0.15)
    assert fitted.log_likelihood_fitted == pytest.approx(outcome_log_likelihood(rows, fitted.weights), abs=1e-9)
    assert fitted.log_likelihood_fitted >= fitted.log_likelihood_default - 1e-9
    assert fitted.calibration_error < 0.04
    assert fit_to_outcomes(rows.sort_values("nlu_evidence"), default).weights == fitted.weights


def outcome_log_likelihood(rows: pd.DataFrame, weights: PoolWeights) -> float:
    """The twin: mean log of what the outcome has to say of the goals that the other sources make probable."""
    total, groups = 0.0, list(rows.groupby("utterance_id"))
    w = weights
    for _, group in groups:
        score = (
            w.nlu * group["nlu_evidence"] + w.pair * group["before_evidence"] + w.variant * group["variant_evidence"]
        )
        total += math.log((np.exp(score) * np.exp(group["outcome_evidence"])).sum() / np.exp(score).sum())
    return total / len(groups)


def test_weights_stay_where_nothing_was_acted_on() -> None:
    silent = outcomes(200, PoolWeights()).assign(outcome_evidence=0.0)
    assert (fit_to_outcomes(silent).weights, fit_to_outcomes(silent).n_anchors) == (PoolWeights(), 0)
