"""Rephrase and friction detection without labels, language by language: `--worlds N --turns N --out DIR`.

Ten languages are simulated in worlds of a day each, mined through ordinary ingest and detection, and scored apart.
A world is a seed: which wordings the assistant knows is drawn anew. By that luck alone the best and the worst language
of one world are .1 to .3 apart, and never the same ones; so the pairs of many worlds are scored together, and the
standard error of a language's average precision is told by its worlds. The truth is read by the scoring alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from deltalake import DeltaTable
from sklearn.metrics import average_precision_score, roc_auc_score

from common import print_figures, write_scores
from selflearn.evaluate import score_pairs
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import STAGES, day_range, run_pipeline
from selflearn.session import build_session, effective_configuration
from selflearn.settings import USER_KEY_VARIABLE, Settings, Source
from selflearn.simulate import TruthRow, known_locales, read_truth, simulate

_START = date(2026, 3, 2)
_SEED = 4000
_SPREAD = (
    "average_precision",
    "average_precision_next_turn",
    "recall_at_precision_80",
    "recall_at_precision_90",
    "calibration_error",
    "flagged_share",
    "friction_auc",
)
_PAIR = ["source_turn_id", "target_turn_id"]


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=40, help="how many seeds, a day each")
    parser.add_argument("--turns", type=int, default=15_000, help="turns of a world, over all languages")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "simulated people have no secrets")
    work = given.out / "work"
    shutil.rmtree(work, ignore_errors=True)
    started = time.perf_counter()
    truth = simulate_worlds(work, given.worlds, given.turns)
    spark = build_session("selflearn benchmark languages")
    settings = Settings(lake=str(work / "lake"), source=Source(path=str(work / "*" / "logs" / "{date}.jsonl")))
    days = day_range(_START, _START + timedelta(days=given.worlds - 1))
    for manifest, _ in run_pipeline(
        Lakehouse(spark, settings.lake), settings, days, [STAGES["ingest"], STAGES["detect"]]
    ):
        print(f"{manifest.stage}: {manifest.seconds:.1f} s, {dict(manifest.row_counts)}", flush=True)
    figures = {
        "worlds": given.worlds,
        "turns_per_world": given.turns,
        "first_seed": _SEED,
        **language_figures(Path(settings.lake), [row for folder in truth for row in read_truth(folder)]),
        "seconds": time.perf_counter() - started,
    }
    shutil.rmtree(work)
    write_scores(given.out, figures, effective_configuration(spark))
    print(pd.DataFrame(figures["locales"]).T[list(_SPREAD)].to_string(float_format="{:.3f}".format), flush=True)
    print_figures("Ten languages, simulated", {name: figures[name] for name in ("all", "spread", "seconds")})


def simulate_worlds(work: Path, n_worlds: int, n_turns: int) -> list[Path]:
    """Simulate the worlds on days that follow each other; returns the folders of their truth."""
    return [
        simulate(
            work / f"world-{k}",
            n_turns=n_turns,
            days=1,
            start=_START + timedelta(days=k),
            seed=_SEED + k,
            locales=known_locales(),
        ).truth
        for k in range(n_worlds)
    ]


def language_figures(lake: Path, truth: list[TruthRow]) -> dict[str, Any]:
    """Scores of all languages together and of each, and the largest difference of each score between two of them."""
    pairs, turns = scored_pairs(lake, truth), scored_turns(lake, truth)
    found = {
        str(locale): {**pair_figures(of_locale), **turn_figures(turns[turns["locale"] == locale])}
        for locale, of_locale in pairs.groupby("locale")
    }
    table = pd.DataFrame(found).T[list(_SPREAD)]
    return {
        "all": {**pair_figures(pairs), **turn_figures(turns)},
        "locales": found,
        "spread": (table.max() - table.min()).to_dict(),
    }


def pair_figures(pairs: pd.DataFrame) -> dict[str, float]:
    """Scores of `p_rephrase` over candidate pairs; the standard error is that of worlds drawn at random."""
    is_positive, p = pairs["is_rephrase"].to_numpy(), pairs["p_rephrase"].to_numpy()
    by_world = [
        average_precision_score(rows["is_rephrase"], rows["p_rephrase"])
        for _, rows in pairs.groupby("turn_date")
        if rows["is_rephrase"].any()
    ]
    is_next = (pairs["target_turn_index"] == pairs["source_turn_index"] + 1).to_numpy()
    return {
        **asdict(score_pairs(is_positive, p)),
        "average_precision_error": float(np.std(by_world) / np.sqrt(max(1, len(by_world) - 1))),
        "average_precision_next_turn": float(average_precision_score(is_positive[is_next], p[is_next])),
        "flagged_share": float((p >= 0.5).mean()),
    }


def turn_figures(turns: pd.DataFrame) -> dict[str, float]:
    """How well `p_friction` ranks turns that failed above the others."""
    return {"friction_auc": float(roc_auc_score(turns["is_failure"], turns["p_friction"]))}


def scored_pairs(lake: Path, truth: list[TruthRow]) -> pd.DataFrame:
    """Every candidate pair, and whether its target says its source's failed goal again, be it at the second try."""
    columns = ["turn_date", "locale", *_PAIR, "source_turn_index", "target_turn_index", "p_rephrase"]
    pairs = DeltaTable(lake / "rephrase_pairs").to_pandas(columns=columns)
    said_before = {row.turn_id: row.rephrase_of for row in truth}
    return pairs.assign(
        is_rephrase=[
            source in earlier_tries(target, said_before) for source, target in pairs[_PAIR].itertuples(index=False)
        ]
    )


def earlier_tries(turn: str, said_before: Mapping[str, str | None]) -> list[str]:
    """The failed turns that a turn says again: the one before, the one which that said again, and so on."""
    tries = []
    earlier = said_before[turn]
    while earlier is not None:
        tries.append(earlier)
        earlier = said_before[earlier]
    return tries


def scored_turns(lake: Path, truth: list[TruthRow]) -> pd.DataFrame:
    """`p_friction, locale, is_failure` of every turn."""
    outcomes = DeltaTable(lake / "turn_outcomes").to_pandas(columns=["turn_id", "p_friction"])
    known = pd.DataFrame([(row.turn_id, row.locale, row.is_failure) for row in truth])
    return outcomes.merge(known.set_axis(["turn_id", "locale", "is_failure"], axis=1), on="turn_id")


if __name__ == "__main__":
    main()
