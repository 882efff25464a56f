"""Rephrase detection, friction and weak labels on real phone calls: `--train DIR --test DIR --out DIR`.

DIR holds `dstc2_turns.jsonl.gz` and `dstc2_pairs.jsonl.gz`. The train folder is mined from raw log to weak labels,
and the detector fitted on it scores the pairs of the test folder. Mining reads `obs` alone; gold is read by the
scoring at the end, unless `--gold` lets the detector learn from gold pairs of the train folder: then every caller's
pairs, and the labels mined from them, come from a model that saw gold of other callers alone. Beside `scores.json`
stand `pairs.parquet` and `labels.parquet`, so that anybody can score again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from deltalake import DeltaTable

from common import print_figures, write_scores
from dstc2_gold import POSITIVE, detect_cross_fitted, fit_to_gold, read_gold_pairs
from dstc2_log import items_of_goal, read_rows, turn_id, write_log
from selflearn.evaluate import score_friction, score_labels, score_pairs
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import LEARNING, MINING, STAGES, Stage, day_range, run_pipeline
from selflearn.session import build_session, effective_configuration
from selflearn.settings import USER_KEY_VARIABLE, Detect, Labels, Settings, Source

_CLEAN = (POSITIVE, "value_change", "other")
_WHOLE_LOG_DAYS = 400
_LOWER_THRESHOLD = 0.5
"""At the default one fewer than 300 turns differ from the live NLU."""


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
    parser.add_argument(
        "--gold",
        choices=["0", "200", "all"],
        default="0",
        help="gold pairs of the train folder that the detector may learn from; 200: a seeded random draw",
    )
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "callers are pseudonyms already")
    started = time.perf_counter()
    spark = build_session("selflearn benchmark dstc2")
    log = prepare(given.train, given.out / "mined")
    lake = Lakehouse(spark, log.settings.lake)
    if given.gold == "0":
        mine(lake, log, (*MINING, *LEARNING))
        model = save_detector(Path(lake.root), given.out / "detector.json")
    else:
        most = None if given.gold == "all" else int(given.gold)
        mine(lake, log, (STAGES["ingest"], STAGES["detect"]))
        detect_cross_fitted(lake, log.settings, log.days, given.train, most, given.out / "folds")
        mine(lake, log, (STAGES["embed"], STAGES["evidence"], *LEARNING))
        model = fit_to_gold(lake, log.settings, read_gold_pairs(given.train), most, given.out / "detector.json")
    mined = scored = Path(lake.root)
    if given.gold == "0" or given.train.resolve() != given.test.resolve():
        test = prepare(given.test, given.out / "scored", model)
        mine(Lakehouse(spark, test.settings.lake), test, (STAGES["ingest"], STAGES["detect"]))
        scored = Path(test.settings.lake)
    pairs = consecutive_pairs(given.test, scored)
    labels = labelled_turns(mined)
    less_sure = replace(log, settings=log.settings.model_copy(update={"labels": Labels(threshold=_LOWER_THRESHOLD)}))
    mine(lake, less_sure, (STAGES["label"],))
    pairs.to_parquet(given.out / "pairs.parquet", index=False)
    labels.to_parquet(given.out / "labels.parquet", index=False)
    figures = {
        "pairs": pair_figures(given.test, pairs),
        "friction": friction_figures(given.test, scored),
        "labels": label_figures(given.train, labels),
        f"labels_from_{_LOWER_THRESHOLD}": label_figures(given.train, labelled_turns(mined)),
        "gold": given.gold,
        "seconds": time.perf_counter() - started,
    }
    write_scores(given.out, figures, effective_configuration(spark))
    print_figures("DSTC2: real phone calls", figures)


@dataclass(frozen=True)
class Log:
    """A folder's calls as a canonical log: its days, and the settings to mine it with."""

    folder: Path
    days: Sequence[date]
    settings: Settings


def prepare(
    folder: Path, work: Path, model: Path | None = None, is_in: Callable[[str], bool] = lambda user: True
) -> Log:
    """Write a folder's calls, of the callers that are in, as a log below `work`, where its lake will lie too."""
    shutil.rmtree(work, ignore_errors=True)
    written = write_log(folder, work / "logs", is_in)
    settings = Settings(
        lake=str(work / "lake"),
        source=Source(path=str(work / "logs" / "{date}.jsonl")),
        detect=Detect(model=model, window_days=_WHOLE_LOG_DAYS),
    )
    return Log(folder, day_range(date.fromisoformat(written[0]), date.fromisoformat(written[-1])), settings)


def mine(lake: Lakehouse, log: Log, stages: Sequence[Stage]) -> None:
    """Run the stages over a log."""
    for manifest, _ in run_pipeline(lake, log.settings, log.days, stages):
        print(
            f"{log.folder.name} {manifest.stage}: {manifest.seconds:.1f} s, {dict(manifest.row_counts)}",
            flush=True,
        )


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
    labels = labels[labels["goal"].notna()]
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
        name: asdict(score_pairs((rows["label"] == POSITIVE).to_numpy(), rows["p_rephrase"].to_numpy()))
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
