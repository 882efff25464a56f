"""Priors of wordings: what their trials say of how far their chances lie apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from selflearn.lakehouse import tables
from selflearn.rewrites.priors import MOST_TRIALS, SUMS, fit, fitted, priors

Trials = list[tuple[float, float]]
"""Of each wording its trials and those that worked."""


def sums_of(trials: Trials) -> list[float]:
    n, worked = (np.array(column) for column in zip(*trials, strict=True))
    return [len(n), n.sum(), (n * n).sum(), worked.sum(), (worked * worked / n + worked / n * (1 - worked / n)).sum()]


def plain_fit(trials: Trials) -> tuple[float, float]:
    """The twin: Kleinman's moments from the wordings one by one, with the variance that each one's trials have."""
    total = sum(n for n, _ in trials)
    mean = min(0.99, max(0.01, sum(worked for _, worked in trials) / total))
    own = sum(worked for _, worked in trials) / total
    spread = sum(n * (worked / n - own) ** 2 + worked / n * (1 - worked / n) for n, worked in trials)
    by_chance = mean * (1 - mean) * (len(trials) - 1)
    apart = mean * (1 - mean) * sum(n * (1 - n / total) for n, _ in trials) - by_chance
    likeness = min(1 / 2, max(1 / 21, (spread - by_chance) / apart))
    worth = 1 / likeness - 1
    return mean * worth, (1 - mean) * worth


@given(st.lists(st.tuples(st.floats(2.1, 10), st.floats(0, 1)), min_size=2, max_size=30))
def test_moments_from_sums_equal_those_of_the_wordings(drawn: Trials) -> None:
    trials = [(n, n * share) for n, share in drawn]
    worked, failed = fit(np.array([sums_of(trials)]))
    assert (worked[0], failed[0]) == pytest.approx(plain_fit(trials), rel=1e-6)


@pytest.mark.parametrize(("worked", "failed"), [(0.8, 0.4), (1.0, 1.0), (6.0, 2.0)])
def test_the_prior_that_chances_were_drawn_from_is_found(worked: float, failed: float) -> None:
    """What worked of each wording is told by its chance."""
    rng = np.random.default_rng(3)
    n = rng.integers(2, 10, 20_000).astype(float)
    found = fit(np.array([sums_of(list(zip(n, n * rng.beta(worked, failed, len(n)), strict=True)))]))
    assert (found[0][0], found[1][0]) == pytest.approx((worked, failed), rel=0.1)


def as_sums(groups: dict[tuple[str, str], Trials]) -> pd.DataFrame:
    rows = [[*key, *(sums_of(trials) if trials else [0.0] * len(SUMS))] for key, trials in groups.items()]
    return pd.DataFrame(rows, columns=["locale", "intent", *SUMS])


def mean(row: pd.Series) -> float:
    return float(row["prior_worked"] / (row["prior_worked"] + row["prior_failed"]))


def test_few_wordings_lean_on_their_locale_and_few_of_a_locale_on_all() -> None:
    fails, works = [(5.0, 0.5)] * 200, [(5.0, 4.5)] * 200
    found = fitted(
        as_sums(
            {
                ("de-DE", "many"): works,
                ("de-DE", "none"): [],
                ("en-GB", "many"): fails,
                ("en-GB", "one"): works[:1],
                ("hi-IN", "one"): works[:1],
            }
        )
    ).set_index(["locale", "intent"])
    means = {key: mean(row) for key, row in found.iterrows()}
    assert means["de-DE", "many"] > means["de-DE", "none"] > 0.8
    assert means["en-GB", "many"] < means["en-GB", "one"] < 0.2
    assert 0.4 < means["hi-IN", "one"] < 0.6


def test_where_nothing_is_known_the_prior_is_flat() -> None:
    [row] = fitted(as_sums({("en-GB", "any"): []})).to_dict("records")
    assert (row["prior_worked"], row["prior_failed"]) == pytest.approx((1.0, 1.0), abs=0.15)


def test_priors_of_nodes(spark: SparkSession) -> None:
    sources = [name for name in tables.GRAPH_NODES.schema.fieldNames() if name.endswith("_evidence")]
    rng = np.random.default_rng(5)
    rows, trials = [], []
    for number in range(60):
        n, share = float(rng.integers(1, 20)), float(rng.random())
        known = {"as_of": None, "locale": "en-GB", "utterance_id": str(number), "context": "", "text": "words"}
        counts = {"n_turns": n, "n_pairs": 0.0, "n_users": 1, "n_users_behind": 1, "friction": 1 - share}
        belief = {"posterior": 0.9, "posterior_without_one": 0.9, "p_nlu": 0.9}
        for rank, goal in enumerate(('{"intent":"alarm","slots":[]}', tables.OTHER_GOAL), 1):
            rows.append(known | counts | belief | dict.fromkeys(sources, 0.0) | {"goal": goal, "rank": rank})
        if n >= 2:
            trials.append((min(n, MOST_TRIALS), min(n, MOST_TRIALS) * share))
    names = [name for name in tables.GRAPH_NODES.schema.fieldNames() if name != "as_of"]
    schema = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in tables.GRAPH_NODES.schema[1:])
    nodes = spark.createDataFrame([tuple(map(row.get, names)) for row in rows], schema)
    [found] = priors(nodes).collect()
    expected = fitted(as_sums({("en-GB", "alarm"): trials})).iloc[0]
    assert found.asDict() == pytest.approx(expected.to_dict())
