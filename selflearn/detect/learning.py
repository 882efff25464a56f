"""Learning a detector a day: level patterns of a sample of its sessions, and of the days before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from selflearn.detect.comparison import compare_sessions
from selflearn.detect.detector import Detector, PairModel
from selflearn.detect.friction import FRICTION_SIGNALS, friction_signals
from selflearn.detect.latent_class import LevelModel, Patterns, fit, shipped_model, sigmoid
from selflearn.detect.signals import PAIR_SIGNALS, WITHHELD_SIGNALS, Signal, level_patterns, levels, pattern_levels
from selflearn.lakehouse import tables
from selflearn.ragged import Floats
from selflearn.settings import Detect

_SIGNALS: Mapping[str, tuple[Signal, ...]] = {"pair": PAIR_SIGNALS, "friction": FRICTION_SIGNALS}
_WITHHELD: Mapping[str, tuple[str, ...]] = {"pair": WITHHELD_SIGNALS, "friction": ()}
_BILLION = 1e9
"""Seeds are summed in billionths: whole numbers give the same sum in whatever order."""


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
    """A detector for each day, of the patterns of that day and the `window_days - 1` before it.

    A day's detector never depends on a later day, so that daily runs and one run over a range give the same scores.

    Args:
        samples: days in order, each with whole sessions (columns of `detection.observed`).
        earlier: patterns of days before (columns of `tables.LEVEL_PATTERNS`).
        settings: the window, and which turns are compared.
        pinned: the model of pairs, where it is not to be fitted.
    """
    counted: list[pd.DataFrame] = []
    detectors, pairs_per_turn = {}, {}
    for day, turns in samples:
        compared = compare_sessions(turns, settings)
        pairs_per_turn[day] = len(compared.source) / max(1, compared.n_turns)
        counted.append(count_patterns(day, "pair", compared.levels, compared.seeds))
        pair = pinned or _fitted("pair", day, [earlier, *counted], settings)
        signals, seeds = friction_signals(compared, sigmoid(pair.pair_log_odds(compared)))
        counted.append(count_patterns(day, "friction", levels(signals, FRICTION_SIGNALS), seeds))
        detectors[day] = Detector(pair, _fitted("friction", day, [earlier, *counted], settings))
    models = [
        (day, model.name, model.record())
        for day, detector in detectors.items()
        for model in (detector.pair, detector.friction)
    ]
    return Learnt(
        detectors,
        pairs_per_turn,
        pd.concat(counted, ignore_index=True) if counted else earlier.iloc[:0],
        pd.DataFrame(models, columns=tables.DETECTORS.schema.fieldNames()),
    )


def count_patterns(day: date, model: str, cut: npt.NDArray[np.int8], seeds: Floats) -> pd.DataFrame:
    """Distinct rows of levels as strings of digits, how often each occurs, and the sum of its seeds."""
    distinct, place, counts = np.unique(cut, axis=0, return_inverse=True, return_counts=True)
    billionths = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(billionths, place.ravel(), np.rint(seeds * _BILLION).astype(np.int64))
    patterns = level_patterns(distinct).to_pylist()
    columns = {"turn_date": day, "model": model, "pattern": patterns, "n": counts, "seed_sum": billionths / _BILLION}
    return pd.DataFrame(columns, index=range(len(patterns)))


def _fitted(name: str, day: date, counted: Sequence[pd.DataFrame], settings: Detect) -> LevelModel:
    """A model of the patterns in the day's window."""
    since = day - timedelta(days=settings.window_days)
    counting = [
        rows[(rows["model"] == name) & (rows["turn_date"] > since) & (rows["turn_date"] <= day)] for rows in counted
    ]
    window = pd.concat([rows for rows in counting if len(rows)] or counting[:1])
    window["billionths"] = np.rint(window["seed_sum"].to_numpy(dtype=np.float64) * _BILLION).astype(np.int64)
    summed = window.groupby("pattern", sort=True)[["n", "billionths"]].sum()
    counts = summed["n"].to_numpy(dtype=np.float64)
    cut = pattern_levels(summed.index.tolist(), len(_SIGNALS[name]))
    patterns = Patterns(cut, counts, summed["billionths"].to_numpy() / _BILLION / counts)
    return fit(name, patterns, _SIGNALS[name], _WITHHELD[name], shipped_model(name))
