"""How well scored pairs agree with gold pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, precision_recall_curve

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PairScores:
    """Scores of a ranking of pairs. F1 and its threshold are the best on these very pairs: an upper bound."""

    n: int
    n_positive: int
    average_precision: float
    best_f1: float
    f1_at_half: float
    recall_at_precision_80: float
    recall_at_precision_90: float
    calibration_error: float


def score_pairs(is_positive: Bools, p: Floats) -> PairScores:
    """All scores of probabilities `p` against gold, both of shape (pairs,)."""
    precision, recall, _ = precision_recall_curve(is_positive, p)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return PairScores(
        n=len(p),
        n_positive=int(is_positive.sum()),
        average_precision=float(average_precision_score(is_positive, p)),
        best_f1=float(f1.max()),
        f1_at_half=_f1(is_positive, p >= 0.5),
        recall_at_precision_80=recall_at_precision(is_positive, p, 0.8),
        recall_at_precision_90=recall_at_precision(is_positive, p, 0.9),
        calibration_error=expected_calibration_error(is_positive, p),
    )


def recall_at_precision(is_positive: Bools, p: Floats, least_precision: float) -> float:
    """Largest recall of any threshold whose precision is at least the given one; 0 where none reaches it."""
    precision, recall, _ = precision_recall_curve(is_positive, p)
    return float(recall[precision >= least_precision].max(initial=0.0))


def expected_calibration_error(is_positive: Bools, p: Floats, n_bins: int = 10) -> float:
    """Mean absolute gap between probability and share of positives over equal-width bins, weighted by size.

    >>> expected_calibration_error(np.array([True, False]), np.array([0.5, 0.5]))
    0.0
    """
    bins = np.minimum((p * n_bins).astype(int), n_bins - 1)
    gaps = [abs(float(p[bins == k].sum() - is_positive[bins == k].sum())) for k in range(n_bins)]
    return sum(gaps) / len(p)


def _f1(is_positive: Bools, is_flagged: Bools) -> float:
    hits = float((is_positive & is_flagged).sum())
    return 2 * hits / max(1.0, float(is_positive.sum() + is_flagged.sum()))
