"""Learning a detector a day: counts of a sample of its sessions, and of the days before it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.optimize import isotonic_regression

from selflearn.detect.additive import fit_additive, likelihood_ratio
from selflearn.detect.columns import TROUBLE_FRICTION
from selflearn.detect.comparison import Comparison, compare_sessions
from selflearn.detect.counts import Window, count_keys, count_patterns, count_sums
from selflearn.detect.detector import Detector, PairModel
from selflearn.detect.follow_up import EVENT_SIGNALS, FOLLOW_UP_SIGNALS, OWN_DOUBT, follow_up
from selflearn.detect.friction import FrictionModel, Seeding, claimed_doubt, said_again, shipped_friction
from selflearn.detect.latent_class import LevelModel, fit, shipped_model, sigmoid, too_few
from selflearn.detect.shares import path_keys, share_of, utterance_keys
from selflearn.detect.signals import PAIR_SIGNALS, WITHHELD_SIGNALS, levels
from selflearn.encoding import load_encoder
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
    # One encoder's cosines tell nothing of another's.
    counted_as = f"pair by {load_encoder(settings.encoder).encoder_id}" if settings.encoder else "pair"
    for day, turns in samples:
        compared = compare_sessions(turns, settings)
        pairs_per_turn[day] = len(compared.source) / max(1, compared.n_turns)
        counted.append(count_patterns(day, counted_as, compared.levels, compared.seeds))
        window = Window(counted, day, settings.window_days)
        pair = pinned or _fit_pair(window, counted_as)
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


def _fit_pair(window: Window, counted_as: str) -> LevelModel:
    patterns = window.patterns(counted_as, len(PAIR_SIGNALS))
    return fit("pair", patterns, PAIR_SIGNALS, WITHHELD_SIGNALS, shipped_model("pair"))


def _learn_friction(
    compared: Comparison, p_rephrase: Floats, counted: list[pd.DataFrame], window: Window
) -> FrictionModel:
    """Count the day's turns, step by step as the window's counts tell what the next step needs, and fit."""
    turns, day, again = compared.turns, window.last, said_again(compared, p_rephrase)
    claims = ~turns.unread & ~np.isnan(turns.confidence)
    claimed = claimed_doubt(turns)
    level = levels(claimed[:, None], (OWN_DOUBT,))[:, 0]
    by_level = [(k, claims & (level == k)) for k in range(1, OWN_DOUBT.n_levels)]
    values = {
        **{f"doubt {k}": claimed[held] for k, held in by_level},
        **{f"said again {k}": again[held] for k, held in by_level},
        "said again in trouble": again[turns.trouble | (turns.completed == 0)],
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
    """How many failures nobody says again, and what doubt the NLU's claims and the length of a turn unread are worth.

    The log tells all without labels. Of the turns that went visibly wrong those not said again are the share; in a log
    that reports no such thing the NLU's doubts, taken at their word, add up to the failures and the best pairs to those
    said again. Of the turns with a claim, as of those without a reading, as many failed as were said again, over the
    share of failures that are.
    """
    total, n = sums["seed_sum"], sums["n"]
    names = range(1, OWN_DOUBT.n_levels)
    n_claims = np.array([n[f"doubt {k}"] for k in names])
    claimed, again = (np.array([total[f"{name} {k}"] for k in names]) for name in ("doubt", "said again"))
    by_claims = (claimed.sum() - again.sum() + _SHRINK * _USUALLY_UNSAID) / (claimed.sum() + _SHRINK)
    wrong = TROUBLE_FRICTION * n["said again in trouble"]
    by_trouble = (wrong - total["said again in trouble"] + _SHRINK * by_claims) / (wrong + _SHRINK)
    unsaid = float(np.clip(by_trouble, _LEAST_UNSAID, _MOST_UNSAID))
    length = total["length"] / max(1.0, n["length"])
    n_unread = n["length unread"] + _SHRINK
    failed = (total["said again unread"] / (1 - unsaid) + _SHRINK * _USUAL_UNREAD_DOUBT) / n_unread
    by_length = float(failed / max(1.0, (total["length unread"] + _SHRINK * length) / n_unread))
    if not wrong:
        return Seeding(unsaid, by_length)
    bounds = np.array([0.0, *OWN_DOUBT.edges, 1.0])
    claimed = (claimed + (bounds[1:] + bounds[:-1]) / 2) / (n_claims + 1)
    trust = wrong / (wrong + _SHRINK) * n_claims / (n_claims + _SHRINK)
    worth = claimed + trust * (np.minimum(1.0, again / (1 - unsaid) / np.maximum(1.0, n_claims)) - claimed)
    rising = isotonic_regression(worth, weights=n_claims + 1).x
    return Seeding(unsaid, by_length, tuple(claimed.tolist()), tuple(rising.tolist()))


def _shares(sums: pd.DataFrame, mean: float) -> pd.Series:
    """Mean of each frequent key, drawn to the mean of all."""
    frequent = sums[sums["n"] >= _LEAST_OF_KEY]
    return (frequent["seed_sum"] + _SHRINK * mean) / (frequent["n"] + _SHRINK)
