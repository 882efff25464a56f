"""Calibration of labels: found from outcomes alone, and checked against the launch set."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from selflearn.labels import Calibration, fit_calibration, launch_error
from selflearn.labels.calibration import SIGNALS, calibration_error, source_weights
from selflearn.lakehouse.tables import OTHER_GOAL

WEIGHTS = {"nlu": 0.6, "outcome": 1.0, "pair": 0.3, "variant": 0.1, "prior": 0.0}


def world(n: int, believed: float, told: float = 1.2, seed: int = 3) -> tuple[pd.DataFrame, pd.Series]:
    """Utterances of three candidates, and the goals that are right.

    What is believed besides the outcomes is `believed` times the log-odds that it should be; outcomes of each candidate
    are drawn with a mean that lies `told` higher where it is right, and a variance that makes them its log-likelihood.
    """
    rng = np.random.default_rng(seed)
    rows, right = [], {}
    for number in range(n):
        score = rng.normal(0, 1.5, 3)
        p_right = np.exp(score) / np.exp(score).sum()
        is_right = rng.multinomial(1, p_right)
        right[f"u{number:05}"] = "abc"[int(is_right.argmax())]
        outcome = rng.normal(np.where(is_right == 1, told, -told) / 2, np.sqrt(told))
        evidence = {"nlu": believed * score / WEIGHTS["nlu"], "outcome": outcome}
        total = sum(WEIGHTS[signal] * values for signal, values in evidence.items())
        posterior = np.exp(total) / np.exp(total).sum()
        for k, goal in enumerate("abc"):
            of_goal = {f"{signal}_evidence": float(evidence.get(signal, np.zeros(3))[k]) for signal in SIGNALS}
            rows.append({"utterance_id": f"u{number:05}", "goal": goal, "posterior": posterior[k], **of_goal})
    return pd.DataFrame(rows), pd.Series(right)


def top(rows: pd.DataFrame, right: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    best = rows.loc[rows.groupby("utterance_id")["posterior"].idxmax()]
    return best["posterior"].to_numpy(), (best["goal"].to_numpy() == right[best["utterance_id"]].to_numpy()).astype(
        float
    )


@pytest.mark.parametrize("believed", [1.0, 2.0, 3.0])
def test_it_finds_how_far_posteriors_are_too_sure_from_outcomes_alone(believed: float) -> None:
    rows, right = world(4_000, believed)
    fitted = fit_calibration(rows)
    p, is_right = top(rows, right)
    before, after = (
        calibration_error(p, is_right),
        calibration_error(fitted.calibration.of(p), is_right),
    )
    assert after < 0.03
    assert fitted.error == pytest.approx(after, abs=0.03)
    assert fitted.error_before == pytest.approx(before, abs=0.03)
    assert (before > 0.05) == (believed != 1.0)


def test_what_is_not_sure_enough_is_made_no_surer() -> None:
    rows, right = world(4_000, 0.4)
    p, is_right = top(rows, right)
    assert p.mean() < is_right.mean() - 0.05
    assert fit_calibration(rows).calibration == Calibration(base=0.0, slope=1.0)


def test_more_posterior_never_means_less() -> None:
    calibration = fit_calibration(world(500, 1.0)[0]).calibration
    assert 0 <= calibration.slope <= 1
    p = np.linspace(0, 1, 50)
    assert (np.diff(calibration.of(p)) >= 0).all()
    assert calibration.of(p) == pytest.approx(
        expit(calibration.base + calibration.slope * logit(np.clip(p, 1e-6, 1 - 1e-6)))
    )


def test_few_utterances_change_nothing() -> None:
    for rows in (world(20, 2.0)[0], world(1, 1.0)[0].iloc[:0]):
        fitted = fit_calibration(rows)
        assert fitted.calibration == Calibration()
        assert np.isnan(fitted.error)
    assert Calibration().of(np.array([0.3])) == pytest.approx([0.3])


def test_the_weights_are_read_off_the_posteriors() -> None:
    found = source_weights(world(50, 1.0)[0])
    assert {signal: found[signal] for signal in ("nlu", "outcome")} == pytest.approx({"nlu": 0.6, "outcome": 1.0})


def test_goals_without_a_name_are_never_the_best() -> None:
    rows, _ = world(200, 3.0)
    named = fit_calibration(rows)
    renamed = rows.assign(goal=rows["goal"].replace("c", OTHER_GOAL))
    assert fit_calibration(renamed).calibration != named.calibration


def test_the_launch_set_tells_too() -> None:
    rows, right = world(3_000, 1.0)
    launch = pd.DataFrame({"utterance_id": right.index, "goal": right.to_numpy()})
    # What was believed is what others say; the NLU itself knows these sentences by heart.
    others = rows["nlu_evidence"] * WEIGHTS["nlu"] / WEIGHTS["pair"]
    by_heart = np.where(rows["goal"] == right[rows["utterance_id"]].to_numpy(), 3.0, -3.0)
    scores = np.log(rows["posterior"]) + WEIGHTS["nlu"] * by_heart
    posterior = np.exp(scores) / np.exp(scores).groupby(rows["utterance_id"]).transform("sum")
    told = rows.assign(posterior=posterior, nlu_evidence=by_heart, pair_evidence=others)
    assert launch_error(told, launch, Calibration()) < 0.03
    assert launch_error(told, launch, Calibration(base=2.0)) > 0.1
    assert np.isnan(launch_error(told, launch.head(10), Calibration()))
    twice = pd.concat([launch, launch.assign(goal="x")])
    assert np.isnan(launch_error(told, twice, Calibration()))
    # Of these nobody else says anything.
    assert np.isnan(launch_error(rows, launch, Calibration()))
    assert np.isnan(launch_error(rows.head(0), launch, Calibration()))
    half = pd.concat([told.head(4_500), rows.tail(4_500)])
    assert launch_error(half, launch, Calibration()) == launch_error(told.head(4_500), launch, Calibration())
