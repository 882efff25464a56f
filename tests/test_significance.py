"""Edges that are no more than chance carry no message: the ratio and the procedure equal their plain twins."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from scipy.stats import chi2_contingency, norm

from selflearn.graph import significant
from selflearn.graph.significance import FALSE_DISCOVERIES, MIN_EDGES, least_significant, with_chance_z

EDGES = "locale string, source_utterance string, target_utterance string, n double"


def plain_z(edges: list[tuple[str, str, str, float]], edge: tuple[str, str, str, float]) -> float:
    locale, source, target, n = edge
    of_source = sum(m for where, a, _, m in edges if (where, a) == (locale, source))
    of_target = sum(m for where, _, b, m in edges if (where, b) == (locale, target))
    everything = sum(m for where, *_, m in edges if where == locale)
    table = np.array([[n, of_source - n], [of_target - n, everything - of_source - of_target + n]])
    if not table.sum(axis=0).all() or not table.sum(axis=1).all():
        return 0.0
    ratio = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
    return math.copysign(math.sqrt(max(0.0, ratio)), n * everything - of_source * of_target)


def test_an_edge_is_compared_with_how_often_its_ends_would_meet(spark: SparkSession) -> None:
    rng = Random(5)
    names = [f"u{k}" for k in range(7)]
    edges = [
        (locale, source, target, rng.uniform(0.2, 9))
        for locale in ("de", "en")
        for source in names
        for target in names
        if source != target and rng.random() < 0.6
    ] + [("fr", "only", "one", 3.0)]
    found = with_chance_z(spark.createDataFrame(edges, EDGES)).collect()
    z = {tuple(row)[:3]: row["chance_z"] for row in found}
    assert z == pytest.approx({edge[:3]: plain_z(edges, edge) for edge in edges}, abs=1e-6)
    assert min(z.values()) < 0 < max(z.values())


def test_what_everybody_says_after_everything_is_chance(spark: SparkSession) -> None:
    """Each of 30 wordings has one of its own that repairs it; all are followed by `yes`, too."""
    own = [("en", f"u{k}", f"v{k}", 4.0) for k in range(30)]
    common = [("en", f"u{k}", "yes", 1.0) for k in range(30)]
    kept = significant(with_chance_z(spark.createDataFrame(own + common, EDGES)))
    assert {row["target_utterance"] for row in kept.collect()} == {f"v{k}" for k in range(30)}
    assert significant(with_chance_z(spark.createDataFrame([], EDGES))).count() == 0
    # Of few edges nobody knows what is chance.
    assert significant(with_chance_z(spark.createDataFrame((own + common)[29:32], EDGES))).count() == 3


@given(
    st.lists(st.tuples(st.integers(-300, 900), st.integers(1, 50)), min_size=1, max_size=20, unique_by=lambda b: b[0])
)
def test_threshold_is_that_of_the_step_up_procedure(binned: list[tuple[int, int]]) -> None:
    bins, counts = (np.array(column) for column in zip(*binned, strict=True))
    p = np.sort(norm.sf(np.repeat(bins, counts) / 100))
    under = np.flatnonzero(p <= FALSE_DISCOVERIES * np.arange(1, len(p) + 1) / len(p))
    n_kept = int(under[-1]) + 1 if len(under) else 0
    expected = n_kept if len(p) >= MIN_EDGES else len(p)
    assert counts[bins >= least_significant(bins, counts)].sum() == expected
