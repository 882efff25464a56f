"""Scores of friction against gold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from selflearn.evaluate import score_friction


def test_friction_is_scored_on_all_turns_and_its_cause_on_those_that_failed() -> None:
    outcomes = pd.DataFrame(
        {
            "p_friction": [0.9, 0.8, 0.1, 0.2],
            "outcome_log_odds": [1.0, -1.0, 0.0, -2.0],
            "p_recognition": [0.8, 0.3, 0.9, 0.9],
            "p_understanding": [0.1, 0.5, 0.1, 0.1],
            "p_unsupported": [0.1, 0.1, 0.0, 0.0],
        }
    )
    found = score_friction(outcomes, np.array([True, True, False, False]), np.array([True, False, False, True]))
    assert (found.n, found.n_failed, found.auc, found.auc_follow_up) == (4, 2, 1.0, 0.75)
    assert found.calibration_error == pytest.approx(0.15)
    assert (found.auc_recognition, found.share_misheard) == (1.0, 0.5)
    assert found.mean_recognition == pytest.approx(0.55)
