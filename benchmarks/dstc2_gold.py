"""A detector that may learn from gold pairs: no pair is scored by a model that saw gold of the same caller."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pandas as pd
from pyspark.sql import functions as F
from sklearn.model_selection import GroupKFold

from dstc2_log import read_rows, turn_id
from selflearn.lakehouse import tables
from selflearn.lakehouse.store import CommitLabel, Lakehouse
from selflearn.pipeline import STAGES, run_stage
from selflearn.pipeline.fitting import fit_pairs
from selflearn.settings import Settings

POSITIVE = "rephrase_after_failure"
_FOLDS, _SEED = 5, 2013


def read_gold_pairs(folder: Path) -> pd.DataFrame:
    """`session_id, user_id` beside the columns that `selflearn fit pairs` reads."""
    user = {row["session_id"]: row["user_id"] for row in read_rows(folder, "dstc2_turns")}
    rows = [
        (
            row["session_id"],
            user[row["session_id"]],
            turn_id(row["session_id"], row["i"]),
            turn_id(row["session_id"], row["j"]),
            row["label"] == POSITIVE,
        )
        for row in read_rows(folder, "dstc2_pairs")
    ]
    return pd.DataFrame(rows, columns=["session_id", "user_id", "source_turn_id", "target_turn_id", "is_rephrase"])


def fit_to_gold(lake: Lakehouse, settings: Settings, gold: pd.DataFrame, most: int | None, file: Path) -> Path:
    """Fit to a seeded draw of at most so many pairs, and save the model."""
    drawn = gold if most is None else gold.sample(most, random_state=_SEED)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(fit_pairs(lake, settings, drawn, False).to_json(), encoding="utf-8")
    return file


def detect_cross_fitted(
    lake: Lakehouse, settings: Settings, days: Sequence[date], folder: Path, most: int | None, work: Path
) -> None:
    """Detect with a model for each fold of callers, learnt from gold of the other callers, and put the folds together.

    What is mined from the pairs afterwards is honest in the same way: every caller's pairs and outcomes come from a
    model that never saw gold of that caller.
    """
    gold = read_gold_pairs(folder)
    callers = pd.DataFrame(
        [(row["session_id"], row["user_id"]) for row in read_rows(folder, "dstc2_turns")],
        columns=["session_id", "user_id"],
    ).drop_duplicates("session_id", ignore_index=True)
    kept = ((tables.TURN_OUTCOMES, "turn_id"), (tables.REPHRASE_PAIRS, "source_turn_id"))
    folds = GroupKFold(_FOLDS, shuffle=True, random_state=_SEED).split(callers, groups=callers["user_id"])
    for fold, (_, held) in enumerate(folds):
        of_fold = callers.iloc[held]
        others = gold[~gold["user_id"].isin(of_fold["user_id"])]
        model = fit_to_gold(lake, settings, others, most, work / f"fold-{fold}.json")
        pinned = settings.model_copy(update={"detect": settings.detect.model_copy(update={"model": model})})
        run_stage(STAGES["detect"], lake, pinned, days)
        sessions = lake.spark.createDataFrame(of_fold[["session_id"]])
        turns = lake.read(tables.TURNS).join(F.broadcast(sessions), "session_id").select("turn_id")
        for table, key in kept:
            rows = lake.read(table).join(F.broadcast(turns.withColumnRenamed("turn_id", key)), key, "left_semi")
            rows.write.mode("overwrite").parquet(str(work / table.name / f"fold={fold}"))
    for table, _ in kept:
        rows = lake.spark.read.parquet(str(work / table.name)).drop("fold")
        label = CommitLabel(f"cross-fitted over {_FOLDS} folds of callers", settings.fingerprint())
        lake.replace(table, rows, label, turn_date=days)
