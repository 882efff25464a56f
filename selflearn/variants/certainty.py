"""How far probabilities of the same goal hold on goals held out, and from where on pairs may count as sure."""

from __future__ import annotations

from typing import Any

import numpy as np

from selflearn.ragged import Floats, Ints
from selflearn.variants.comparison import Bools

SURE = 0.9
"""Whoever takes pairs for the same goal takes those that are at least so probable."""
SURE_PRECISION = 0.95
"""Of these at least so many are right, in all but `_RISK` of the draws of goals."""
_RISK = 0.2
_DRAWS = 200
_SEED = 7


def sure_from(p: Floats, is_same: Bools, goal: Ints, weight: Floats) -> float:
    """The least probability, from `SURE` on, above which pairs are right as often as promised; 1 where none is.

    Pairs of one goal are right or wrong together, so goals and not pairs are weighted at random (Rubin's Bayesian
    bootstrap, 1981). Beside the goals that there are, each draw holds one more, of their mean weight, whose pairs are
    right no oftener than `SURE`: a few goals prove little.

    Args:
        p: of each pair, by a model that has not seen its goal.
        is_same: whether it was right.
        goal: number of the goal that was held out.
        weight: of the pair.
    """
    order = np.flatnonzero(p >= SURE)
    order = order[np.argsort(-p[order], kind="stable")]
    if not len(order):
        return 1.0
    place = np.unique(goal[order], return_inverse=True)[1]
    ordered, draws = weight[order], np.random.default_rng(_SEED)
    total, n_goals = np.cumsum(ordered), int(place.max()) + 1
    precision = np.empty((_DRAWS, len(order)))
    for draw in precision:
        luck = draws.exponential(size=n_goals + 1)
        drawn, another = ordered * luck[place], luck[-1] * total[-1] / n_goals
        draw[:] = (np.cumsum(drawn * is_same[order]) + SURE * another) / (np.cumsum(drawn) + another)
    is_last_of_equals = np.append(np.diff(p[order]) < 0, True)
    enough = np.flatnonzero(is_last_of_equals & (np.quantile(precision, _RISK, axis=0) >= SURE_PRECISION))
    return float(p[order[enough[-1]]]) if len(enough) else 1.0


def not_too_sure(p: Floats, least: float) -> Floats:
    """Probabilities below `least`, held just below `SURE`; the others as they are."""
    return np.where(p < least, np.minimum(p, np.nextafter(SURE, 0)), p)


def reliability(p: Floats, is_same: Bools, weight: Floats, n_bins: int = 10) -> dict[str, Any]:
    """Weighted calibration error, and of each filled bin the weight, mean probability and share of the same goal."""
    place = np.minimum((p * n_bins).astype(np.int64), n_bins - 1)
    columns = (weight, weight * p, weight * is_same)
    sums = [np.bincount(place, weights=values, minlength=n_bins) for values in columns]
    filled = sums[0] > 0
    bins = [[float(n), float(q / n), float(y / n)] for n, q, y in zip(*(s[filled] for s in sums), strict=True)]
    error = float(np.abs(sums[1] - sums[2]).sum() / max(sums[0].sum(), 1e-9))
    return {"n": len(p), "n_same_goal": int(is_same.sum()), "calibration_error": error, "bins": bins}
