"""How much each source of the pool counts: fitted by likelihood on the launch training set."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize

MIN_ANCHORS = 50
MAX_ANCHORS = 20_000
_RIDGE = 25.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PoolWeights:
    """Weights of the pool's sources; the defaults serve where no launch set is given."""

    nlu: float = 1.0
    outcome: float = 1.0
    pair: float = 1.0
    prior: float = 0.0

    def as_tuple(self) -> tuple[float, ...]:
        return astuple(self)


@dataclass(frozen=True)
class FittedWeights:
    """Weights, and how they came about: anchors used, and mean log-likelihood per anchor before and after."""

    weights: PoolWeights
    n_anchors: int
    log_likelihood_default: float
    log_likelihood_fitted: float


def fit_weights(candidates: pd.DataFrame, default: PoolWeights | None = None) -> FittedWeights:
    """Conditional logit over the candidate goals of utterances whose goal the launch set gives.

    `candidates` has `utterance_id, is_right` and the four evidence columns. The deployed NLU has learnt these very
    sentences, so its reading of them is surer than its reading of others: every second anchor (in order of
    its id) hides its NLU evidence, and the weights stay close to the defaults unless many anchors speak against
    them (a ridge worth `_RIDGE` anchors). Weights are not negative.
    """
    default = default or PoolWeights()
    groups, evidence, is_right = _anchors(candidates)
    n_anchors = int(groups.max()) + 1 if len(groups) else 0
    start = np.asarray(default.as_tuple())
    if n_anchors < MIN_ANCHORS:
        return FittedWeights(default, n_anchors, float("nan"), float("nan"))

    def loss(weights: Floats) -> float:
        return -_log_likelihood(weights, groups, evidence, is_right) + _RIDGE * float(((weights - start) ** 2).sum())

    found = minimize(loss, start, method="L-BFGS-B", bounds=[(0.0, 5.0)] * len(start))
    fitted = PoolWeights(*(round(float(weight), 6) for weight in found.x))
    before, after = (
        _log_likelihood(np.asarray(weights.as_tuple()), groups, evidence, is_right) / n_anchors
        for weights in (default, fitted)
    )
    return FittedWeights(fitted, n_anchors, before, after)


def _anchors(candidates: pd.DataFrame) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.bool_]]:
    has_right = candidates.groupby("utterance_id")["is_right"].transform("any")
    usable = candidates[has_right].sort_values(["utterance_id"], kind="stable")
    groups = np.asarray(usable["utterance_id"].astype("category").cat.codes, dtype=np.int64)
    evidence = usable[["nlu_evidence", "outcome_evidence", "pair_evidence", "prior_evidence"]].to_numpy(dtype=float)
    evidence[groups % 2 == 1, 0] = 0.0
    return groups, evidence, np.asarray(usable["is_right"], dtype=np.bool_)


def _log_likelihood(
    weights: Floats, groups: npt.NDArray[np.int64], evidence: Floats, is_right: npt.NDArray[np.bool_]
) -> float:
    scores = evidence @ weights
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    highest = np.maximum.reduceat(scores, starts)
    normaliser = np.log(np.add.reduceat(np.exp(scores - highest[groups]), starts)) + highest
    return float(scores[is_right].sum() - normaliser.sum())
