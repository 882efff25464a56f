"""The lake's weak labels: what each signal says of them, and how right they are where the truth is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from selflearn.errors import DataError
from selflearn.evaluate.labels import LabelScores, score_labels
from selflearn.turns.text import frame_goal

_NEEDED = ("turn_id", "intent", "slots")


@dataclass(frozen=True)
class LabelEvaluation:
    """Labels as of a day.

    Attributes:
        n_labels, n_new, n_intent_only: of all labels.
        votes: `signal, coverage, overlap, conflict, for, against` (shares of all labels): where a signal votes, where
            another one does too, and where another one votes otherwise; as in Snorkel's `LFAnalysis` (Ratner 2017).
        metrics: what the run noted of its calibration.
        scores: of the labelled turns whose truth is known, None without truth.
    """

    as_of: date
    n_labels: int
    n_new: int
    n_intent_only: int
    votes: pd.DataFrame
    metrics: dict[str, float]
    scores: LabelScores | None


def evaluate_labels(lake: str, truth: pd.DataFrame | None = None) -> LabelEvaluation:
    """Evaluate the newest labels; `truth` has columns of `read_truth_goals`.

    Raises:
        DataError: the lake has no labels.
    """
    labels = _read(lake, "weak_labels")
    if labels.empty:
        raise DataError(f"{lake} has no weak labels", "run the stage label over more days of logs")
    as_of = max(labels["as_of"])
    labels = labels[labels["as_of"] == as_of]
    runs = _read(lake, "runs")
    last = runs[(runs["stage"] == "label") & (runs["state"] == "succeeded")].sort_values("started_at")["metrics"]
    metrics = dict(last.iloc[-1]) if len(last) else {}
    return LabelEvaluation(
        as_of,
        len(labels),
        int(labels["is_new"].sum()),
        int(labels["is_intent_only"].sum()),
        vote_summary(labels["votes"].tolist()),
        {name: float(value) for name, value in sorted(metrics.items())},
        None if truth is None else _scores(lake, labels, truth),
    )


def vote_summary(votes: Sequence[Sequence[dict[str, float]]]) -> pd.DataFrame:
    """One row per signal, columns of `LabelEvaluation.votes`."""
    table = pd.DataFrame([{vote["signal"]: np.sign(vote["lead"]) for vote in of_label} for of_label in votes])
    signs = table.fillna(0.0).to_numpy()
    rows = []
    for column, signal in enumerate(table.columns):
        own, others = signs[:, column], np.delete(signs, column, axis=1)
        is_overlap = (own != 0) & (others != 0).any(axis=1)
        # Two signals against the goal may be for different ones: only for and against is surely a conflict.
        is_conflict = (own != 0) & (others == -own[:, None]).any(axis=1)
        shares = (own != 0, is_overlap, is_conflict, own > 0, own < 0)
        rows.append((signal, *(float(share.mean()) for share in shares)))
    return pd.DataFrame(rows, columns=["signal", "coverage", "overlap", "conflict", "for", "against"])


def read_truth_goals(path: Path) -> pd.DataFrame:
    """`turn_id, goal` of JSONL rows with `turn_id, intent, slots` (`name, value`), of a file or of all in a folder.

    Raises:
        DataError: there are none, or one lacks a field.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    found: dict[str, str] = {}
    for file in files:
        try:
            with file.open(encoding="utf-8") as lines:
                rows = [json.loads(line) for line in lines if line.strip()]
            for row in rows:
                pairs = [(slot["name"], slot["value"]) for slot in row["slots"] or ()]
                found[str(row["turn_id"])] = frame_goal(row["intent"], pairs) if row["intent"] else ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"truth file {file} cannot be read: {error!r}", f"give JSONL rows with {', '.join(_NEEDED)}"
            ) from None
    if not found:
        raise DataError(f"{path} holds no truth", f"give a file, or a folder of them, with rows of {_NEEDED}")
    return pd.DataFrame({"turn_id": list(found), "goal": list(found.values())})


def _scores(lake: str, labels: pd.DataFrame, truth: pd.DataFrame) -> LabelScores:
    turns = _read(lake, "turns", ["turn_id", "utterance_id", "goal"]).rename(columns={"goal": "read_as"})
    columns = ["utterance_id", "goal", "intent", "p_correct"]
    rows = turns.merge(labels[columns], on="utterance_id").merge(truth, on="turn_id", suffixes=("", "_true"))
    if rows.empty:
        raise DataError("no labelled turn is in the truth", "give the truth of the turns that were mined")
    is_whole = rows["goal"].notna().to_numpy(dtype=bool)

    def says(goals: pd.Series) -> np.ndarray:
        """What a goal says of what the label is about: the whole goal, or its intent."""
        intents = goals.map(lambda goal: json.loads(goal)["intent"] if goal else None)
        return np.where(is_whole, goals.fillna(""), intents.fillna(""))

    said = np.where(is_whole, rows["goal"].fillna(""), rows["intent"])
    true, live = says(rows["goal_true"]), says(rows["read_as"].fillna(""))
    return score_labels(said == true, live == true, said != live, rows["p_correct"].to_numpy())


def _read(lake: str, name: str, columns: list[str] | None = None) -> pd.DataFrame:
    try:
        return DeltaTable(f"{lake}/{name}").to_pandas(columns=columns)
    except TableNotFoundError:
        raise DataError(f"{lake} has no table {name}", "give the lake of a run whose stage label is done") from None
