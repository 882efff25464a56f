"""The EM's steps against a peer's: Splink, on the same levels of the same pairs, from the same start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pytest
from pyspark.sql import SparkSession

from peer import (
    MAX_STEPS,
    Converged,
    Start,
    by_pair,
    counted,
    difference,
    plain_em,
    posterior,
    simulated_pairs,
    splink_em,
    splink_linker,
    told_apart,
)
from selflearn.detect import PAIR_SIGNALS
from selflearn.detect.detection import observed
from selflearn.detect.latent_class import Levels, shipped_model
from selflearn.detect.signals import Signal
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import STAGES, run_stage
from selflearn.settings import USER_KEY_VARIABLE, Settings, Source
from simulated_turns import DAY, USER_KEY, simulated_turns

TOLERANCE = 1e-5

SIGNALS = (
    Signal("alike", "similarity", (0.3, 0.6), "rises with a match"),
    Signal("unlike", "similarity", (0.5,), "falls with a match"),
    Signal("noise", "context", (0.5,), "the same in both classes"),
    Signal("again", "similarity", (0.2, 0.4, 0.8), "rises with a match, its lowest level never seen"),
    Signal("rarely_known", "source", (0.5,), "rises with a match, mostly missing"),
)
# Shares of levels 0 (missing), 1, 2, ... in each class.
MATCH = ((0.0, 0.1, 0.2, 0.7), (0.0, 0.9, 0.1), (0.0, 0.5, 0.5), (0.1, 0.0, 0.1, 0.2, 0.6), (0.8, 0.02, 0.18))
UNMATCH = ((0.0, 0.7, 0.2, 0.1), (0.0, 0.2, 0.8), (0.0, 0.5, 0.5), (0.1, 0.0, 0.6, 0.25, 0.05), (0.8, 0.16, 0.04))
P_MATCH = 0.2


def two_classes(n: int) -> Levels:
    """Levels of pairs of which a fifth are matches; signals are independent in each class."""
    rng = np.random.default_rng(7)
    is_match = rng.random(n) < P_MATCH
    columns = [
        np.where(is_match, rng.choice(len(m), n, p=m), rng.choice(len(u), n, p=u))
        for m, u in zip(MATCH, UNMATCH, strict=True)
    ]
    return np.stack(columns, axis=1).astype(np.int8)


def both(levels: Levels, signals: Sequence[Signal], start: Start) -> tuple[Converged, Converged, float]:
    """Where ours and Splink's EM end, and the largest difference between their probabilities of a pair."""
    ours = plain_em(counted(levels, np.zeros(len(levels))), signals, start, TOLERANCE)
    with duckdb.connect(config={"threads": 1}) as connection:
        linker = splink_linker(connection, levels, signals, start, TOLERANCE)
        theirs = splink_em(linker)
        p_match = by_pair(linker.inference.predict().as_pyarrow_table())
    return ours, theirs, float(np.abs(posterior(ours, levels) - p_match).max())


def test_both_recover_the_model_that_drew_the_pairs() -> None:
    levels = two_classes(20_000)
    rising = [np.array([0.0, *np.arange(1, s.n_levels)]) / np.arange(1, s.n_levels).sum() for s in SIGNALS]
    falling = [np.array([0.0, *row[:0:-1]]) for row in rising]
    falling[1], rising[1] = rising[1], falling[1]
    ours, theirs, apart = both(levels, SIGNALS, Start(0.5, rising, falling))
    assert 5 < ours.steps == theirs.steps < MAX_STEPS
    assert ours.p_match == pytest.approx(theirs.p_match, abs=1e-9)
    assert max(difference(ours, theirs, levels)) < 1e-9
    assert apart < 1e-9
    assert ours.p_match == pytest.approx(P_MATCH, abs=0.02)
    for weights, match, unmatch in zip(ours.weights, MATCH, UNMATCH, strict=True):
        seen = [level for level in range(1, len(match)) if match[level]]
        true = [np.log2(match[level] / unmatch[level]) for level in seen]
        assert weights[seen] == pytest.approx(true, abs=0.3)


def test_both_weigh_the_pairs_of_a_simulated_log_alike(tmp_path: Path) -> None:
    levels, _ = simulated_pairs(tmp_path / "log", 12_000)
    told = told_apart(levels, PAIR_SIGNALS)
    levels, signals = levels[:, told], [PAIR_SIGNALS[k] for k in told]
    shipped = shipped_model("pair")
    start = Start(0.1, [shipped.match[k] for k in told], [shipped.unmatch[k] for k in told])
    ours, theirs, apart = both(levels, signals, start)
    assert len(signals) > len(PAIR_SIGNALS) / 2
    assert 5 < ours.steps == theirs.steps < MAX_STEPS
    assert ours.p_match == pytest.approx(theirs.p_match, abs=1e-9)
    assert max(difference(ours, theirs, levels)) < 1e-9
    assert apart < 1e-9


def test_simulated_turns_are_what_ingest_and_detection_make_of_the_log(
    spark: SparkSession, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = simulated_turns(tmp_path, 1_000, seed=3)
    monkeypatch.setenv(USER_KEY_VARIABLE, USER_KEY)
    settings = Settings(lake=str(lake), source=Source(path=str(tmp_path / "logs" / "{date}.jsonl")))
    run_stage(STAGES["ingest"], Lakehouse(spark, settings.lake), settings, [DAY])
    ingested = observed(spark.read.format("delta").load(f"{settings.lake}/turns")).toArrow()
    expected = ingested.sort_by([("session_id", "ascending"), ("turn_index", "ascending")])
    assert turns.num_rows > 900
    assert turns.select(expected.column_names).cast(expected.schema).to_pylist() == expected.to_pylist()
