"""Learning a detector a day: counts of a sample of its sessions, and of the days before it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa

from selflearn.detect.additive import fit_additive, likelihood_ratio
from selflearn.detect.comparison import Comparison, compare_sessions
from selflearn.detect.counts import Window, count_keys, count_patterns, count_sums
from selflearn.detect.detector import Detector, PairModel
from selflearn.detect.follow_up import EVENT_SIGNALS, FOLLOW_UP_SIGNALS, OWN_DOUBT, follow_up
from selflearn.detect.friction import FrictionModel, Seeding, claimed_doubt, said_again, shipped_friction
from selflearn.detect.latent_class import LevelModel, fit, shipped_model, sigmoid, too_few
from selflearn.detect.shares import path_keys, share_of, utterance_keys
from selflearn.detect.signals import PAIR_SIGNALS, WITHHELD_SIGNALS, levels
from selflearn.lakehouse import tables
from selflearn.ragged import Floats
from selflearn.settings import Detect

_LEAST_OF_KEY = 5
"""Turns from which on a key has a share."""
_SHRINK = 20.0
"""Turns of the mean that every share and mean begins with."""
_USUALLY_UNSAID, _LEAST_UNSAID, _MOST_UNSAID = 0.25, 0.05, 0.8
_USUAL_UNREAD_DOUBT = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learnt:
    """Detectors by day, and what they were learnt from.

    Attributes:
        pairs_per_turn: candidate pairs by turn of each day's sample.
        patterns: columns of `tables.LEVEL_PATTERNS`.
        models: columns of `tables.DETECTORS`.
    """

    detectors: Mapping[date, Detector]
    pairs_per_turn: Mapping[date, float]
    patterns: pd.DataFrame
    models: pd.DataFrame


def learn_daily(
    samples: Iterable[tuple[date, pa.Table]], earlier: pd.DataFrame, settings: Detect, pinned: PairModel | None = None
) -> Learnt:
    """A detector for each day, of the counts of that day and the `window_days - 1` before it.

    A day's detector never depends on a later day, so that daily runs and one run over a range give the same scores.

    Args:
        samples: days in order, each with whole sessions (columns of `detection.observed`).
        earlier: counts of days before (columns of `tables.LEVEL_PATTERNS`).
        settings: the window, and which turns are compared.
        pinned: the model of pairs, where it is not to be fitted.
    """
    counted: list[pd.DataFrame] = [earlier]
    detectors, pairs_per_turn = {}, {}
    for day, turns in samples:
        compared = compare_sessions(turns, settings)
        pairs_per_turn[day] = len(compared.source) / max(1, compared.n_turns)
        counted.append(count_patterns(day, "pair", compared.levels, compared.seeds))
        window = Window(counted, day, settings.window_days)
        pair = pinned or _fit_pair(window)
        p_rephrase = sigmoid(pair.pair_log_odds(compared))
        detectors[day] = Detector(pair, _learn_friction(compared, p_rephrase, counted, window))
    models = [
        (day, name, content)
        for day, detector in detectors.items()
        for name, content in (("pair", detector.pair.record()), ("friction", detector.friction.to_json()))
    ]
    return Learnt(
        detectors,
        pairs_per_turn,
        pd.concat(counted[1:], ignore_index=True) if len(counted) > 1 else earlier.iloc[:0],
        pd.DataFrame(models, columns=tables.DETECTORS.schema.fieldNames()),
    )


def _fit_pair(window: Window) -> LevelModel:
    patterns = window.patterns("pair", len(PAIR_SIGNALS))
    return fit("pair", patterns, PAIR_SIGNALS, WITHHELD_SIGNALS, shipped_model("pair"))


def _learn_friction(
    compared: Comparison, p_rephrase: Floats, counted: list[pd.DataFrame], window: Window
) -> FrictionModel:
    """Count the day's turns, step by step as the window's counts tell what the next step needs, and fit."""
    turns, day, again = compared.turns, window.last, said_again(compared, p_rephrase)
    claims = ~turns.unread & ~np.isnan(turns.confidence)
    values = {
        "doubt": claimed_doubt(turns)[claims],
        "said again": again[claims],
        "said again unread": again[turns.unread],
        "length": turns.length.astype(np.float64),
        "length unread": turns.length[turns.unread].astype(np.float64),
    }
    counted.append(count_sums(day, "seeding", values))
    seeding = _seeding(window.sums("seeding"))
    seeds = seeding.seeds(turns, again)
    paths = path_keys(turns)
    counted.append(count_sums(day, "seed", {"": seeds}))
    counted.append(count_keys(day, "path", paths, seeds))
    counted.append(count_keys(day, "utterance", utterance_keys(turns), turns.unread.astype(np.float64)))
    everything = window.sums("seed")
    mean = float(everything["seed_sum"].sum() / max(1.0, everything["n"].sum()))
    path_trouble = _shares(window.sums("path"), mean) / mean
    signals = follow_up(compared, share_of(paths, dict(path_trouble)))
    own = levels(seeding.doubt(turns)[:, None], (OWN_DOUBT,))
    counted.append(count_patterns(day, "friction", np.hstack([own, levels(signals, FOLLOW_UP_SIGNALS)]), seeds))
    patterns = window.patterns("friction", 1 + len(FOLLOW_UP_SIGNALS))
    followed = patterns.of(slice(1, None))
    problem = too_few("friction", patterns)
    if problem:
        logger.warning("%s; shipped weights are used", problem)
        return shipped_friction()
    return FrictionModel(
        seeding=seeding,
        weights=fit_additive(followed, FOLLOW_UP_SIGNALS),
        evidence=likelihood_ratio(
            fit_additive(patterns, (OWN_DOUBT, *FOLLOW_UP_SIGNALS)), patterns.of(slice(-len(EVENT_SIGNALS), None))
        ),
        path_trouble=dict(path_trouble),
        left_unread=dict(_shares(window.sums("utterance"), 0.0)),
        n=patterns.n,
    )


def _seeding(sums: pd.DataFrame) -> Seeding:
    """How many failures nobody says again, and how much doubt the length of a turn without a reading leaves.

    The log tells both without labels: where the NLU claims a probability its doubts add up to the failures, and the
    best pairs to those said again. Of the turns without a reading as many failed as were said again, over the share of
    failures that are.
    """
    total, n = sums["seed_sum"], sums["n"]
    not_said = total["doubt"] - total["said again"] + _SHRINK * _USUALLY_UNSAID
    unsaid = float(np.clip(not_said / (total["doubt"] + _SHRINK), _LEAST_UNSAID, _MOST_UNSAID))
    length = total["length"] / max(1.0, n["length"])
    n_unread = n["length unread"] + _SHRINK
    failed = (total["said again unread"] / (1 - unsaid) + _SHRINK * _USUAL_UNREAD_DOUBT) / n_unread
    return Seeding(unsaid, float(failed / max(1.0, (total["length unread"] + _SHRINK * length) / n_unread)))


def _shares(sums: pd.DataFrame, mean: float) -> pd.Series:
    """Mean of each frequent key, drawn to the mean of all."""
    frequent = sums[sums["n"] >= _LEAST_OF_KEY]
    return (frequent["seed_sum"] + _SHRINK * mean) / (frequent["n"] + _SHRINK)
