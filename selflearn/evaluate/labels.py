"""How right labelled turns are, apart for those that differ from what the deployed NLU said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

RANKS = (50, 100, 150, 300, 600)


@dataclass(frozen=True)
class LabelScores:
    """Counts and precisions over labelled turns.

    `precision_at` ranks the turns whose label differs from the deployed NLU by `p_correct`.
    """

    n: int
    precision: float
    deployed_precision: float
    n_deployed_wrong: int
    share_deployed_wrong: float
    n_differing: int
    precision_differing: float
    deployed_precision_differing: float
    precision_at: dict[int, float]
    calibration_error: float


def score_labels(is_right: Bools, is_deployed_right: Bools, differs: Bools, p_correct: Floats) -> LabelScores:
    """Scores of labelled turns, all arrays of shape (turns,)."""
    from selflearn.evaluate.pairs import expected_calibration_error

    order = np.argsort(-p_correct[differs], kind="stable")
    ranked = is_right[differs][order]
    return LabelScores(
        n=len(is_right),
        precision=_mean(is_right),
        deployed_precision=_mean(is_deployed_right),
        n_deployed_wrong=int((~is_deployed_right).sum()),
        share_deployed_wrong=_mean(~is_deployed_right),
        n_differing=int(differs.sum()),
        precision_differing=_mean(ranked),
        deployed_precision_differing=_mean(is_deployed_right[differs]),
        precision_at={rank: _mean(ranked[:rank]) for rank in RANKS if rank <= len(ranked)},
        calibration_error=expected_calibration_error(is_right, p_correct) if len(is_right) else float("nan"),
    )


def _mean(values: Bools) -> float:
    return float(values.mean()) if len(values) else float("nan")
