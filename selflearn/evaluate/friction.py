"""How well friction and its causes agree with a gold standard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score

from selflearn.evaluate.pairs import expected_calibration_error

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FrictionScores:
    """Areas under ROC curves, and calibration.

    Attributes:
        auc: of `p_friction`.
        auc_follow_up: of `outcome_log_odds`, from what followed alone.
        calibration_error: of `p_friction`, 10 bins of equal width.
        auc_recognition: of recognition against understanding and unsupported among the turns that failed.
        mean_recognition: mean `p_recognition` of the turns that failed; `share_misheard` is what it should be.
    """

    n: int
    n_failed: int
    auc: float
    auc_follow_up: float
    calibration_error: float
    auc_recognition: float
    mean_recognition: float
    share_misheard: float


def score_friction(outcomes: pd.DataFrame, failed: Bools, misheard: Bools) -> FrictionScores:
    """Compare turns (columns of `tables.TURN_OUTCOMES`) with what became of them; `misheard` counts of the failed."""
    p_friction, recognition = (outcomes[name].to_numpy() for name in ("p_friction", "p_recognition"))
    other = (outcomes["p_understanding"] + outcomes["p_unsupported"]).to_numpy()
    return FrictionScores(
        n=len(failed),
        n_failed=int(failed.sum()),
        auc=float(roc_auc_score(failed, p_friction)),
        auc_follow_up=float(roc_auc_score(failed, outcomes["outcome_log_odds"].to_numpy())),
        calibration_error=expected_calibration_error(failed, p_friction),
        auc_recognition=float(roc_auc_score(misheard[failed], (recognition / (recognition + other))[failed])),
        mean_recognition=float(recognition[failed].mean()),
        share_misheard=float(misheard[failed].mean()),
    )
