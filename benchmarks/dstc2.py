"""Rephrase detection, friction and weak labels on real phone calls: `--train DIR --test DIR --out DIR`.

DIR holds `dstc2_turns.jsonl.gz` and `dstc2_pairs.jsonl.gz`. The train folder is mined from raw log to weak labels,
and the detector fitted on it scores the pairs of the test folder. Mining reads `obs` alone; gold is read by the
scoring at the end. Beside `scores.json` stand `pairs.parquet` and `labels.parquet`, so that anybody can score again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from common import print_figures, write_scores
from dstc2_log import items_of_goal, read_rows, turn_id, write_log
from selflearn.evaluate import score_friction, score_labels, score_pairs
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import LEARNING, MINING, STAGES, Stage, day_range, run_pipeline
from selflearn.session import build_session, effective_configuration
from selflearn.settings import USER_KEY_VARIABLE, Detect, Settings, Source

_CLEAN = ("rephrase_after_failure", "value_change", "other")
_POSITIVE = "rephrase_after_failure"
_WHOLE_LOG_DAYS = 400


def main() -> None:
    """Run the benchmark and write its files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--train", type=Path, required=True, help="folder that is mined and that the detector learns from"
    )
    parser.add_argument("--test", type=Path, required=True, help="folder whose pairs are scored")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for scores and tables; tables in it are replaced"
    )
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "callers are pseudonyms already")
    started = time.perf_counter()
    spark = build_session("selflearn benchmark dstc2")
    mined = mine(spark, given.train, given.out / "mined", (*MINING, *LEARNING), None)
    model = save_detector(mined, given.out / "detector.json")
    scored = mine(spark, given.test, given.out / "scored", (STAGES["ingest"], STAGES["detect"]), model)
    pairs = consecutive_pairs(given.test, scored)
    labels = labelled_turns(mined)
    pairs.to_parquet(given.out / "pairs.parquet", index=False)
    labels.to_parquet(given.out / "labels.parquet", index=False)
    figures = {
        "pairs": pair_figures(given.test, pairs),
        "friction": friction_figures(given.test, scored),
        "labels": label_figures(given.train, labels),
        "seconds": time.perf_counter() - started,
    }
    write_scores(given.out, figures, effective_configuration(spark))
    print_figures("DSTC2: real phone calls", figures)


def mine(spark: SparkSession, folder: Path, work: Path, stages: tuple[Stage, ...], model: Path | None) -> Path:
    """Run the stages over a folder's calls, from canonical log to tables; returns the lake."""
    shutil.rmtree(work, ignore_errors=True)
    written = write_log(folder, work / "logs")
    days = day_range(date.fromisoformat(written[0]), date.fromisoformat(written[-1]))
    settings = Settings(
        lake=str(work / "lake"),
        source=Source(path=str(work / "logs" / "{date}.jsonl")),
        detect=Detect(model=model, window_days=_WHOLE_LOG_DAYS),
    )
    for manifest, _ in run_pipeline(Lakehouse(spark, settings.lake), settings, days, stages):
        print(
            f"{folder.name} {manifest.stage}: {manifest.seconds:.1f} s, {dict(manifest.row_counts)}",
            flush=True,
        )
    return Path(settings.lake)


def save_detector(lake: Path, file: Path) -> Path:
    """The newest day's pair model, which has seen the whole log."""
    models = DeltaTable(lake / "detectors").to_pandas()
    newest = models[models["model"] == "pair"].sort_values("turn_date").iloc[-1]
    file.write_text(newest["content"], encoding="utf-8")
    return file


def consecutive_pairs(folder: Path, lake: Path) -> pd.DataFrame:
    """`session_id, i, j, p_rephrase` of every pair of consecutive turns; zero where the pair was no candidate."""
    columns = ["source_turn_id", "target_turn_id", "p_rephrase"]
    found = DeltaTable(lake / "rephrase_pairs").to_pandas(columns=columns).set_index(columns[:2])["p_rephrase"]
    turns = pd.DataFrame(
        [(row["session_id"], row["turn"]) for row in read_rows(folder, "dstc2_turns")],
        columns=["session_id", "i"],
    ).sort_values(["session_id", "i"])
    turns["j"] = turns.groupby("session_id")["i"].shift(-1)
    pairs = turns.dropna().astype({"j": int}).reset_index(drop=True)
    ids = [(turn_id(row.session_id, row.i), turn_id(row.session_id, row.j)) for row in pairs.itertuples()]
    return pairs.assign(p_rephrase=found.reindex(ids).fillna(0.0).to_numpy())


def labelled_turns(lake: Path) -> pd.DataFrame:
    """`session_id, turn, items, p_correct` of every turn whose utterance in its context got a weak label."""
    turns = DeltaTable(lake / "turns").to_pandas(columns=["turn_id", "session_id", "utterance_id"])
    labels = DeltaTable(lake / "weak_labels").to_pandas(columns=["utterance_id", "goal", "p_correct"])
    rows = turns.merge(labels, on="utterance_id").sort_values("turn_id", ignore_index=True)
    return pd.DataFrame(
        {
            "session_id": rows["session_id"],
            "turn": rows["turn_id"].str.rpartition("#")[2].astype(int),
            "items": rows["goal"].map(items_of_goal),
            "p_correct": rows["p_correct"],
        }
    )


def pair_figures(folder: Path, pairs: pd.DataFrame) -> dict[str, Any]:
    """Scores against the folder's gold pairs: the clean ones, and all."""
    gold = pd.DataFrame(read_rows(folder, "dstc2_pairs"))[["session_id", "i", "j", "label"]]
    joined = gold.merge(pairs, on=["session_id", "i", "j"], how="left", validate="one_to_one")
    joined["p_rephrase"] = joined["p_rephrase"].fillna(0.0)
    clean = joined[joined["label"].isin(_CLEAN)]
    return {
        name: asdict(score_pairs((rows["label"] == _POSITIVE).to_numpy(), rows["p_rephrase"].to_numpy()))
        for name, rows in (("clean", clean), ("all", joined))
    }


def friction_figures(folder: Path, lake: Path) -> dict[str, Any]:
    """Scores of the folder's turns; one failed where the live reading is not what was meant."""
    outcomes = DeltaTable(lake / "turn_outcomes").to_pandas().set_index("turn_id")
    gold = [
        (turn_id(row["session_id"], row["turn"]), row["gold"], row["obs"]["nlu_items"])
        for row in read_rows(folder, "dstc2_turns")
    ]
    failed = np.array([sorted(meant["items"]) != sorted(live) for _, meant, live in gold], dtype=bool)
    misheard = np.array([not meant["asr_ok"] for _, meant, _ in gold], dtype=bool)
    return asdict(score_friction(outcomes.loc[[key for key, _, _ in gold]], failed, misheard))


def label_figures(folder: Path, labels: pd.DataFrame) -> dict[str, Any]:
    """Scores of the labelled turns against what was meant, and what the live NLU had said."""
    meant, live = {}, {}
    for row in read_rows(folder, "dstc2_turns"):
        key = (row["session_id"], row["turn"])
        meant[key], live[key] = sorted(row["gold"]["items"]), sorted(row["obs"]["nlu_items"])
    rows = [
        ((session, turn), sorted(items)) for session, turn, items in labels[["session_id", "turn", "items"]].to_numpy()
    ]
    is_right = np.array([items == meant[key] for key, items in rows], dtype=bool)
    is_live_right = np.array([live[key] == meant[key] for key, _ in rows], dtype=bool)
    differs = np.array([items != live[key] for key, items in rows], dtype=bool)
    return asdict(score_labels(is_right, is_live_right, differs, labels["p_correct"].to_numpy()))


if __name__ == "__main__":
    main()
