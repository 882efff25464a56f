"""Fellegi-Sunter EM on a simulated log's candidate pairs, ours beside Splink's: `--pairs N --out DIR`.

The detector is no plain EM, on purpose: it is seeded and anchored, weighs by reliance, and stops after a few steps.
What it shares with one is compared here: level patterns are counted, the M-step finds shares, their ratios weigh
levels. Both start at the shipped shares and stop where no share moves by more than the tolerance. Splink blocks each
two records on their pair's number and reads the levels that we cut, a missing one as null. Seconds are the
processor's, of one thread each.

Left alone on such pairs, EM drives the shares of some levels to 0 in one class, which Splink refuses. So the levels of
one pair in twenty are shuffled among those pairs, and a signal with a level too rare for that is left out.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from splink import DuckDBAPI, Linker, SettingsCreator

from common import print_figures, write_scores
from selflearn.detect import PAIR_SIGNALS
from selflearn.detect.comparison import compare_sessions
from selflearn.detect.latent_class import (
    Floats,
    Levels,
    Patterns,
    fit,
    level_shares,
    level_weights,
    shipped_model,
    sigmoid,
    weigh,
)
from selflearn.detect.signals import WITHHELD_SIGNALS, Signal
from selflearn.settings import Detect
from simulated_turns import simulated_turns

_SEED = 11
_LEAST_TURNS = 2_000
_SHUFFLED = 20
_LEAST_SHARE = 1e-3
MAX_STEPS = 1_000

Shares = Sequence[Sequence[float] | Floats]
"""Share of each level in a class, by signal; level 0 has none."""


@dataclass(frozen=True)
class Start:
    """Where EM starts: share of matches, and the shares of levels in either class."""

    p_match: float
    match: Shares
    unmatch: Shares


@dataclass(frozen=True)
class Converged:
    """Where EM ended: share of matches, log2 weights of the levels by signal (level 0 first), steps taken."""

    p_match: float
    weights: list[Floats]
    steps: int


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000, help="pairs, drawn from those of a simulated log")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest move of a share at the end")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    given = parser.parse_args()
    every_level, seeds = simulated_pairs(given.out / "work", given.pairs)
    told = told_apart(every_level, PAIR_SIGNALS)
    levels, signals = np.ascontiguousarray(every_level[:, told]), [PAIR_SIGNALS[k] for k in told]
    shipped = shipped_model("pair")
    start = Start(0.1, [shipped.match[k] for k in told], [shipped.unmatch[k] for k in told])

    begun = time.process_time()
    patterns = counted(levels, seeds)
    ours = plain_em(patterns, signals, start, given.tolerance)
    fitted = time.process_time()
    p_match = posterior(ours, levels)
    scored = time.process_time()
    fit("pair", counted(every_level, seeds), PAIR_SIGNALS, WITHHELD_SIGNALS, shipped)
    detector_fitted = time.process_time()
    with duckdb.connect(config={"threads": 1}) as connection:
        linker = splink_linker(connection, levels, signals, start, given.tolerance)
        begun_theirs = time.process_time()
        theirs = splink_em(linker)
        fitted_theirs = time.process_time()
        predictions = linker.inference.predict()
        scored_theirs = time.process_time()
        p_match_theirs = by_pair(predictions.as_pyarrow_table())
    figures: dict[str, Any] = {
        "pairs": len(levels),
        "patterns": len(patterns.counts),
        "signals": len(signals),
        "tolerance": given.tolerance,
        "selflearn": {
            "fit_seconds": fitted - begun,
            "score_seconds": scored - fitted,
            "steps": ours.steps,
            "detector_fit_seconds": detector_fitted - scored,
        },
        "splink": {
            "fit_seconds": fitted_theirs - begun_theirs,
            "score_seconds": scored_theirs - fitted_theirs,
            "steps": theirs.steps,
        },
        "largest_difference": {
            # As text: figures are rounded to four digits.
            "weight_bits": f"{max(difference(ours, theirs, levels)):.0e}",
            "share_of_matches": f"{abs(ours.p_match - theirs.p_match):.0e}",
            "p_match_of_a_pair": f"{np.abs(p_match - p_match_theirs).max():.0e}",
        },
    }
    print_figures("EM, ours and Splink's", figures)
    write_scores(given.out, figures, {name: version(name) for name in ("splink", "duckdb", "numpy")})


def simulated_pairs(work: Path, n_pairs: int) -> tuple[Levels, Floats]:
    """Levels and seeds of pairs drawn, with repetition, from a simulated log's; one in `_SHUFFLED` is shuffled."""
    shutil.rmtree(work, ignore_errors=True)
    compared = compare_sessions(simulated_turns(work, max(_LEAST_TURNS, n_pairs // 2), _SEED), Detect())
    shutil.rmtree(work)
    random = np.random.default_rng(_SEED)
    drawn = random.integers(len(compared.levels), size=n_pairs)
    levels = compared.levels[drawn]
    levels[::_SHUFFLED] = random.permuted(levels[::_SHUFFLED], axis=0)
    return levels, compared.seeds[drawn]


def told_apart(levels: Levels, signals: Sequence[Signal]) -> list[int]:
    """Signals with two levels or more, none of them rare."""
    shares = [
        np.bincount(levels[:, k], minlength=signal.n_levels)[1:] / len(levels) for k, signal in enumerate(signals)
    ]
    return [k for k, row in enumerate(shares) if (row > 0).sum() > 1 and row[row > 0].min() >= _LEAST_SHARE]


def counted(levels: Levels, seeds: Floats) -> Patterns:
    """Distinct rows of levels, how often each occurs, and its mean seed."""
    distinct, place, counts = np.unique(levels, axis=0, return_inverse=True, return_counts=True)
    return Patterns(distinct, counts.astype(np.float64), np.bincount(place.ravel(), weights=seeds) / counts)


def plain_em(patterns: Patterns, signals: Sequence[Signal], start: Start, tolerance: float) -> Converged:
    """Expectation-maximisation under conditional independence until nothing moves by `tolerance`."""
    p_match, match, unmatch = start.p_match, _rows(start.match), _rows(start.unmatch)
    no_prior = [np.zeros(signal.n_levels - 1) for signal in signals]
    moved, steps = np.inf, 0
    while moved >= tolerance and steps < MAX_STEPS:
        log_odds = np.log(p_match / (1 - p_match)) + weigh(level_weights(match, unmatch), patterns.levels).sum(axis=1)
        before = np.concatenate([[p_match], *match, *unmatch])
        p_match = float(patterns.counts @ sigmoid(log_odds)) / patterns.n
        match = level_shares(patterns, sigmoid(log_odds), signals, no_prior)
        # Not 1 - p, which is 0 where the other is nearly so: a share of 0 never rises again.
        unmatch = level_shares(patterns, sigmoid(-log_odds), signals, no_prior)
        moved, steps = np.abs(np.concatenate([[p_match], *match, *unmatch]) - before).max(), steps + 1
    return Converged(p_match, [row / np.log(2) for row in level_weights(match, unmatch)], steps)


def _rows(shares: Shares) -> list[Floats]:
    return [np.asarray(row, dtype=np.float64) for row in shares]


def posterior(fitted: Converged, levels: Levels) -> Floats:
    """Probability of each row of levels that it is a match."""
    prior = np.log(fitted.p_match / (1 - fitted.p_match))
    return sigmoid(prior + weigh(fitted.weights, levels).sum(axis=1) * np.log(2))


def splink_linker(
    connection: duckdb.DuckDBPyConnection, levels: Levels, signals: Sequence[Signal], start: Start, tolerance: float
) -> Linker:
    """Two records for each pair, with the pair's number and its levels."""
    logging.getLogger("splink").setLevel(logging.ERROR)
    pairs = {"pair": np.arange(len(levels)), **{signal.name: levels[:, k] for k, signal in enumerate(signals)}}
    api = DuckDBAPI(connection)
    records = [api.register(pa.table(pairs), dataset_display_name=side) for side in ("source", "target")]
    settings = SettingsCreator(
        link_type="link_only",
        unique_id_column_name="pair",
        comparisons=[
            {"output_column_name": signal.name, "comparison_levels": splink_levels(signal.name, match, unmatch)}
            for signal, match, unmatch in zip(signals, start.match, start.unmatch, strict=True)
        ],
        blocking_rules_to_generate_predictions=[{"blocking_rule": "l.pair = r.pair"}],
        probability_two_random_records_match=start.p_match,
        em_convergence=tolerance,
        max_iterations=MAX_STEPS,
        retain_matching_columns=False,
    )
    return Linker(records, settings, log_level=None)


def splink_levels(name: str, match: Sequence[float] | Floats, unmatch: Sequence[float] | Floats) -> list[Any]:
    """A signal's levels in Splink's words, the highest first."""
    known = [
        {
            "sql_condition": f"{name}_l = {level}",
            "label_for_charts": str(level),
            "m_probability": float(match[level]),
            "u_probability": float(unmatch[level]),
        }
        for level in range(len(match) - 1, 0, -1)
    ]
    return [{"sql_condition": f"{name}_l = 0", "label_for_charts": "0", "is_null_level": True}, *known]


def splink_em(linker: Linker) -> Converged:
    """Splink's EM on agreement patterns, all shares free to move."""
    session = linker.training.estimate_parameters_using_expectation_maximisation(
        "l.pair = r.pair",
        estimate_without_term_frequencies=True,
        fix_u_probabilities=False,
        populate_probability_two_random_records_match_from_trained_values=True,
    )
    model = linker.misc.save_model_to_json()
    weights = [
        np.array([0.0, *[_bits(level) for level in reversed(comparison["comparison_levels"][1:])]])
        for comparison in model["comparisons"]
    ]
    return Converged(
        model["probability_two_random_records_match"], weights, len(session._core_model_settings_history) - 1
    )


def _bits(level: dict[str, Any]) -> float:
    """Match weight of a level; NaN where Splink has seen none."""
    seen = "m_probability" in level and "u_probability" in level
    return float(np.log2(level["m_probability"] / level["u_probability"])) if seen else float("nan")


def by_pair(predictions: pa.Table) -> Floats:
    """Splink's probability of each pair that it is a match, in the order of the pairs."""
    return np.asarray(predictions.sort_by("pair_l")["match_probability"].to_numpy())


def difference(one: Converged, other: Converged, levels: Levels) -> list[float]:
    """Largest difference of the weights, in bits, of each signal's levels that occur."""
    return [
        float(np.abs(a - b)[np.unique(levels[:, k])].max())
        for k, (a, b) in enumerate(zip(one.weights, other.weights, strict=True))
    ]


if __name__ == "__main__":
    main()
