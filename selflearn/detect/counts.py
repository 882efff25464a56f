"""What is learnt from, as rows of counts: additive over days, and the same in whatever order they are summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from selflearn.detect.latent_class import Patterns
from selflearn.detect.shares import Keys
from selflearn.detect.signals import level_patterns, pattern_levels
from selflearn.ragged import Floats

MAX_KEYS_PER_DAY = 1_000
_BILLION = 1e9
"""Seeds are summed in billionths: whole numbers give the same sum in whatever order."""


def count_patterns(day: date, model: str, cut: npt.NDArray[np.int8], seeds: Floats) -> pd.DataFrame:
    """Distinct rows of levels as strings of digits, how often each occurs, and the sum of its seeds."""
    distinct, place, counts = np.unique(cut, axis=0, return_inverse=True, return_counts=True)
    billionths = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(billionths, place.ravel(), _billionths(seeds))
    return _rows(day, model, level_patterns(distinct).to_pylist(), counts, billionths)


def count_keys(day: date, model: str, keys: Keys, seeds: Floats) -> pd.DataFrame:
    """How often each key occurs, and the sum of its seeds; of those that occur twice, the most frequent."""
    counts = np.bincount(keys.codes, minlength=len(keys.names))
    billionths = np.zeros(len(counts), dtype=np.int64)
    np.add.at(billionths, keys.codes, _billionths(seeds))
    rows = _rows(day, model, list(keys.names), counts, billionths)
    frequent = rows[rows["n"] > 1].sort_values(["n", "pattern"], ascending=[False, True])
    return frequent.head(MAX_KEYS_PER_DAY).reset_index(drop=True)


def count_sums(day: date, model: str, values: Mapping[str, Floats]) -> pd.DataFrame:
    """How many values there are under each name, and their sum."""
    sums = np.array([_billionths(of_name).sum() for of_name in values.values()], dtype=np.int64)
    return _rows(day, model, list(values), np.array([len(of_name) for of_name in values.values()]), sums)


@dataclass(frozen=True)
class Window:
    """Rows of counts (columns of `tables.LEVEL_PATTERNS`) of which those of `n_days` days up to `last` count."""

    counted: Sequence[pd.DataFrame]
    last: date
    n_days: int

    def sums(self, model: str) -> pd.DataFrame:
        """`n` and `seed_sum` of each pattern of a model, by pattern, sorted."""
        since = self.last - timedelta(days=self.n_days)
        counting = [
            rows[(rows["model"] == model) & (rows["turn_date"] > since) & (rows["turn_date"] <= self.last)]
            for rows in self.counted
        ]
        window = pd.concat([rows for rows in counting if len(rows)] or counting[:1])
        window["seed_sum"] = _billionths(window["seed_sum"].to_numpy(dtype=np.float64))
        summed = window.groupby("pattern", sort=True)[["n", "seed_sum"]].sum()
        return summed.assign(n=summed["n"].astype(float), seed_sum=summed["seed_sum"].astype(float) / _BILLION)

    def patterns(self, model: str, n_signals: int) -> Patterns:
        """The level patterns of a model."""
        sums = self.sums(model)
        # Patterns that another version counted, of other signals, tell nothing.
        sums = sums[sums.index.str.len() == n_signals]
        counts = sums["n"].to_numpy()
        return Patterns(pattern_levels(sums.index.tolist(), n_signals), counts, sums["seed_sum"].to_numpy() / counts)


def _billionths(seeds: Floats) -> npt.NDArray[np.int64]:
    return np.rint(seeds * _BILLION).astype(np.int64)


def _rows(
    day: date, model: str, patterns: list[str], counts: npt.NDArray[np.int64], billionths: npt.NDArray[np.int64]
) -> pd.DataFrame:
    columns = {"turn_date": day, "model": model, "pattern": patterns, "n": counts, "seed_sum": billionths / _BILLION}
    return pd.DataFrame(columns, index=range(len(patterns)))
