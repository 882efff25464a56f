"""How much each source of the pool counts: fitted by likelihood on evidence that the pool was not shown.

Both fits maximise `sum over utterances of log(sum over goals of p(g) * likelihood(hidden | g))`. What is hidden are the
outcomes of every utterance, or, on the launch set, its goal. On outcomes no sentence is surer than the traffic, and
none is needed; every deployment of an assistant that may fail has them. But they are of readings, which the NLU, the
variants and the refit share, so that each looks the better the more it says what the others say: outcomes tell how
much to believe all of them, not which. How they stand to each other is set, near what gold makes of three very
different logs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from selflearn.ragged import Floats, Ints, max_of, sum_of

MIN_ANCHORS = 50
MAX_ANCHORS = 20_000
_RIDGE = 25.0
_MOST = 5.0
_BINS = 10
_STEPS = 30


@dataclass(frozen=True)
class PoolWeights:
    """Weights of the pool's sources; the defaults serve where nothing can be fitted."""

    nlu: float = 0.6
    outcome: float = 1.4
    pair: float = 0.5
    variant: float = 0.4
    prior: float = 0.0
    refit: float = 0.4

    def as_tuple(self) -> tuple[float, ...]:
        return astuple(self)

    def scaled(self, factor: float) -> PoolWeights:
        """All but that of outcomes multiplied."""
        return PoolWeights(**{name: w if name == "outcome" else factor * w for name, w in vars(self).items()})


FIRST = PoolWeights(nlu=1.0, outcome=1.0, pair=0.5, variant=0.4, refit=0.0)
"""Weights of the rounds of messages, in which nothing is fitted yet."""
SOURCES = tuple(f"{field.name}_evidence" for field in fields(PoolWeights))


@dataclass(frozen=True)
class FittedWeights:
    """Weights, and how they came about.

    Attributes:
        n_anchors: utterances that the weights were fitted on.
        log_likelihood_default: mean log-likelihood per anchor of the hidden evidence, with the default weights.
        log_likelihood_fitted: the same with the fitted ones.
        calibration_error: how far the fitted probabilities lie from the share that is right, ten bins.
    """

    weights: PoolWeights
    n_anchors: int
    log_likelihood_default: float
    log_likelihood_fitted: float
    calibration_error: float


@dataclass(frozen=True)
class _Anchors:
    """Candidates of utterances that lie at `offsets`, and the log-likelihood that each gives what is hidden."""

    offsets: Ints
    evidence: Floats
    told: Floats

    @property
    def of_candidate(self) -> Ints:
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def fit_to_outcomes(candidates: pd.DataFrame, default: PoolWeights | None = None) -> FittedWeights:
    """The defaults, multiplied by what makes the other sources best foretell the utterances' own outcomes.

    `candidates` has `utterance_id`, the columns `SOURCES` and `before_evidence`. Pairs with what was said afterwards
    are left out: they are there because the utterance failed, so they would foretell it by themselves. The weight of
    outcomes stays at its default. A ridge worth `_RIDGE` utterances keeps the factor close to one.
    """
    default = default or PoolWeights()
    has_outcome = candidates.loc[candidates["outcome_evidence"] != 0, "utterance_id"]
    rows = candidates[candidates["utterance_id"].isin(has_outcome)].sort_values("utterance_id", kind="stable")
    hidden = rows.assign(outcome_evidence=0.0, pair_evidence=rows["before_evidence"])
    anchors = _anchors(hidden, default.outcome * rows["outcome_evidence"].to_numpy(dtype=float))
    together = _Anchors(anchors.offsets, (anchors.evidence @ np.asarray(default.as_tuple()))[:, None], anchors.told)
    return _fit(together, np.ones(1), lambda factor: default.scaled(*factor))


def fit_weights(candidates: pd.DataFrame, default: PoolWeights | None = None) -> FittedWeights:
    """Conditional logit over the candidate goals of utterances whose goal the launch set gives.

    `candidates` has `utterance_id, is_right` and the columns `SOURCES`. The deployed NLU has learnt these very
    sentences, so its reading of them is surer than its reading of others: every second anchor (in order of
    its id) hides its NLU evidence, and the weights stay close to the defaults unless many anchors speak against
    them (a ridge worth `_RIDGE` anchors). Weights are not negative.
    """
    start = np.asarray((default or PoolWeights()).as_tuple())
    return _fit(_launch_anchors(candidates), start, lambda weights: PoolWeights(*weights))


def launch_calibration_error(candidates: pd.DataFrame, weights: PoolWeights) -> float:
    """How far probabilities by the given weights lie from the share that is right; `candidates` as in `fit_weights`."""
    anchors = _launch_anchors(candidates)
    n_anchors = len(anchors.offsets) - 1
    return _calibration_error(np.asarray(weights.as_tuple()), anchors) if n_anchors >= MIN_ANCHORS else float("nan")


def _launch_anchors(candidates: pd.DataFrame) -> _Anchors:
    has_right = candidates.loc[candidates["is_right"], "utterance_id"]
    rows = candidates[candidates["utterance_id"].isin(has_right)].sort_values("utterance_id", kind="stable")
    anchors = _anchors(rows, np.where(rows["is_right"].to_numpy(dtype=bool), 0.0, -np.inf))
    anchors.evidence[anchors.of_candidate % 2 == 1, SOURCES.index("nlu_evidence")] = 0.0
    return anchors


def _fit(anchors: _Anchors, start: Floats, weights_of: Callable[[Sequence[float]], PoolWeights]) -> FittedWeights:
    """Fit what the columns of the evidence are multiplied by; `weights_of` says what weights that makes."""
    n_anchors = len(anchors.offsets) - 1
    if n_anchors < MIN_ANCHORS:
        return FittedWeights(weights_of(start.tolist()), n_anchors, float("nan"), float("nan"), float("nan"))

    def loss(guess: Floats) -> tuple[float, Floats]:
        likelihood, slope = _log_likelihood(guess, anchors)
        away = guess - start
        return _RIDGE * float(away @ away) - likelihood, 2 * _RIDGE * away - slope

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, _MOST)] * len(start))
    # Sums differ in their last digits with the order of rows, and the minimum with them: neither may reach the tables.
    fitted = np.round(found.x, 3)
    before, after = (_log_likelihood(guess, anchors)[0] / n_anchors for guess in (start, fitted))
    return FittedWeights(weights_of(fitted.tolist()), n_anchors, before, after, _calibration_error(fitted, anchors))


def _anchors(rows: pd.DataFrame, told: Floats) -> _Anchors:
    """Anchors of rows that are sorted by utterance."""
    names = rows["utterance_id"].to_numpy(dtype=object)
    first = np.flatnonzero(np.append(True, names[1:] != names[:-1])) if len(names) else np.zeros(0, dtype=np.int64)
    offsets = np.append(first, len(names)).astype(np.int64)
    return _Anchors(offsets, rows[list(SOURCES)].to_numpy(dtype=float).copy(), told)


def _log_likelihood(weights: Floats, anchors: _Anchors) -> tuple[float, Floats]:
    """Of what is hidden, and its slope."""
    believed, by_belief = _log_sum(anchors.evidence @ weights, anchors)
    seen, by_sight = _log_sum(anchors.evidence @ weights + anchors.told, anchors)
    return float(seen - believed), anchors.evidence.T @ (by_sight - by_belief)


def _log_sum(score: Floats, anchors: _Anchors) -> tuple[float, Floats]:
    """Log of the summed exponentials of each anchor's scores, all added up, and each candidate's share in them."""
    highest = max_of(score, anchors.offsets, 0.0)
    mass = np.exp(score - highest[anchors.of_candidate])
    total = sum_of(mass, anchors.offsets)
    return float((np.log(total) + highest).sum()), mass / total[anchors.of_candidate]


def _calibration_error(weights: Floats, anchors: _Anchors) -> float:
    """Expected calibration error of the most probable goals.

    Where what is hidden only makes a goal likelier, the share that is right is the most likely one, found by EM.
    """
    probability = _log_sum(anchors.evidence @ weights, anchors)[1]
    order = np.lexsort((-probability, anchors.of_candidate))
    top = order[anchors.offsets[:-1]]
    highest = max_of(anchors.told, anchors.offsets, 0.0)
    likelihood = np.exp(anchors.told - highest[anchors.of_candidate])
    p, is_told = probability[top], likelihood[top]
    rest = sum_of(likelihood * probability, anchors.offsets) - is_told * p
    is_not = np.divide(rest, 1 - p, out=np.zeros_like(p), where=p < 1)
    bins = np.minimum((p * _BINS).astype(int), _BINS - 1)
    error = 0.0
    for k in np.unique(bins):
        of_bin = bins == k
        right = float(p[of_bin].mean())
        for _ in range(_STEPS):
            both = right * is_told[of_bin] + (1 - right) * is_not[of_bin]
            share = np.divide(right * is_told[of_bin], both, out=np.full_like(both, right), where=both > 0)
            right = float(share.mean())
        error += float(of_bin.mean()) * abs(right - float(p[of_bin].mean()))
    return error
