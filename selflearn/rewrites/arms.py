"""Two arms of a rewrite, organic and treated: Beta posteriors of the chance that it works, and which is better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, betaincinv

from selflearn.ragged import Floats

_LEVEL = 0.05
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_TIMES = (_POINTS + 1) / 2
# Levels t^2 (3 - 2t) lie densest near 0 and 1, where quantiles are steepest.
_QUANTILE_LEVELS = (_TIMES**2 * (3 - 2 * _TIMES))[:, None]
_QUANTILE_WEIGHTS = _WEIGHTS / 2 * 6 * _TIMES * (1 - _TIMES)


@dataclass(frozen=True)
class Arm:
    """Beta posteriors, one per rewrite: trials that worked and that failed, those of the prior included."""

    worked: Floats
    failed: Floats

    def after(self, n: Floats, worked: Floats) -> Arm:
        """After n more trials of which some worked; counts may be weighted."""
        worked = np.clip(worked, 0.0, n)
        return Arm(self.worked + worked, self.failed + n - worked)

    def worth(self, n: float) -> Arm:
        """The same mean, worth n trials."""
        return Arm(n * self.mean, n * (1 - self.mean))

    @property
    def mean(self) -> Floats:
        return self.worked / (self.worked + self.failed)

    @property
    def lower_bound(self) -> Floats:
        """What the chance exceeds with probability .95."""
        return np.asarray(betaincinv(self.worked, self.failed, _LEVEL))


def p_better(one: Arm, other: Arm) -> Floats:
    """Probability that the first arm's chance is above the second's.

    It is the mean of the second's distribution function over the first's quantiles, by Gauss-Legendre quadrature.

    >>> ones = np.ones(1)
    >>> round(float(p_better(Arm(2 * ones, ones), Arm(ones, ones))[0]), 6)
    0.666667
    """
    quantiles = betaincinv(one.worked, one.failed, _QUANTILE_LEVELS)
    return np.asarray(np.clip(_QUANTILE_WEIGHTS @ betainc(other.worked, other.failed, quantiles), 0.0, 1.0))
