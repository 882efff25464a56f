"""What a wording's chance to work is before it was tried: a Beta prior by locale and intent, fitted to all wordings.

Empirical Bayes by moments: how far the shares that work lie apart, beyond what chance does to so many trials, tells how
much alike wordings are (Kleinman 1973). Of an intent with few wordings its locale's stand in, of a locale with few all
of them, of few altogether the flat prior.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.lakehouse import tables
from selflearn.ragged import Floats

PRIORS = "locale string, intent string, prior_worked double, prior_failed double"
SUMS = ("n_wordings", "n", "n_squared", "worked", "worked_squared")
"""Of wordings: how many, their trials n, n * n, those that worked, and what is expected of the square of these, by n.

What worked is known by probabilities alone. With a mean p, n turns work np times, and the square of that number is
n * n * p * p + n * p * (1 - p) where all turns have that probability; where some are surer it is less, so that wordings
are held to be rather less alike than they are.
"""
MOST_TRIALS = 10.0
"""Trials that count of one wording, lest a few popular ones be everything; of fewer than two nothing can be told."""
_LEAST_TRIALS = 2.0
_BORROWED = 20.0
"""Wordings that are added to an intent's from its locale, and to a locale's from all."""
_FLAT = pd.Series({"n_wordings": 1.0, "n": 6.0, "n_squared": 36.0, "worked": 3.0, "worked_squared": 13 / 6})
"""What is expected of a wording with six trials whose chance may be any: n / 3 + 1 / 6 is the last sum."""
_LEAST_WORTH, _MOST_WORTH = 1.0, 20.0
"""Trials that a prior may be worth."""


def priors(nodes: DataFrame) -> DataFrame:
    """Columns of `PRIORS`, of the locales and intents of the likeliest goals; `nodes` are `tables.GRAPH_NODES`."""
    n, share = F.least("n_turns", F.lit(MOST_TRIALS)), 1 - F.col("friction")
    of_wording = (F.lit(1.0), n, n * n, n * share, n * share * share + share * (1 - share))
    sums = (
        nodes.where((F.col("rank") == 1) & (F.col("goal") != tables.OTHER_GOAL))
        .groupBy("locale", F.get_json_object("goal", "$.intent").alias("intent"))
        .agg(
            *(
                F.sum(F.when(F.col("n_turns") >= _LEAST_TRIALS, column).otherwise(0.0)).alias(name)
                for name, column in zip(SUMS, of_wording, strict=True)
            )
        )
    )
    return nodes.sparkSession.createDataFrame(fitted(sums.toPandas()), PRIORS)


def fitted(sums: pd.DataFrame) -> pd.DataFrame:
    """Columns of `PRIORS` from `locale, intent` and `SUMS`."""
    columns = list(SUMS)
    everything = _with(sums[columns].sum().to_frame().T, _FLAT)
    of_locale = _with(sums.groupby("locale")[columns].transform("sum"), everything.iloc[0])
    worked, failed = fit(_with(sums[columns], of_locale).to_numpy(dtype=np.float64))
    return sums[["locale", "intent"]].assign(prior_worked=worked, prior_failed=failed)


def fit(sums: Floats) -> tuple[Floats, Floats]:
    """Beta priors: trials that worked and that failed, of `SUMS` in rows."""
    n_wordings, n, n_squared, worked, worked_squared = sums.T
    mean = np.clip(worked / n, 0.01, 0.99)
    # What is the spread of shares, and what would be if all wordings had one chance?
    spread = (worked_squared - worked * worked / n) / (mean * (1 - mean))
    likeness = (spread - (n_wordings - 1)) / (n - n_squared / n - (n_wordings - 1))
    worth = 1 / np.clip(likeness, 1 / (1 + _MOST_WORTH), 1 / (1 + _LEAST_WORTH)) - 1
    return mean * worth, (1 - mean) * worth


def _with(sums: pd.DataFrame, others: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """Sums with those of `_BORROWED` average wordings of others."""
    n_wordings = others["n_wordings"]
    average = others / n_wordings if isinstance(others, pd.Series) else others.div(n_wordings, axis=0)
    return sums + _BORROWED * average
