"""Simulated logs as the comparison gets them, without Spark, and the truth about their pairs."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from plain_pairs import Row, as_table
from selflearn.detect.comparison import compare_sessions
from selflearn.settings import Detect
from selflearn.simulate import simulate
from selflearn.simulate.truth import read_truth


def goal_of(frame: Row) -> str | None:
    """A frame as `tables.TURNS` writes goals."""
    slots = sorted(frame["slots"] or (), key=lambda slot: slot["name"])
    return json.dumps({"intent": frame["intent"], "slots": slots}) if frame["intent"] else None


def simulated(folder: Path, n_turns: int, seed: int) -> tuple[pa.Table, pd.DataFrame]:
    """Turns with `turn_id` and `user_id`, and all candidate pairs of them with `is_rephrase`."""
    simulate(folder, n_turns=n_turns, days=1, start=date(2026, 1, 5), seed=seed, workers=1)
    rows = [json.loads(line) for file in sorted((folder / "logs").iterdir()) for line in file.open(encoding="utf-8")]
    rows.sort(key=lambda row: (row["session_id"], row["ts"]))
    index: dict[str, int] = {}
    for row in rows:
        row["turn_index"] = index[row["session_id"]] = index.get(row["session_id"], -1) + 1
    turns = as_table([_observed(row) for row in rows])
    for name in ("turn_id", "user_id"):
        turns = turns.append_column(name, pa.array([row[name] for row in rows]))
    said_again = {row.turn_id: row.rephrase_of for row in read_truth(folder / "truth")}
    compared = compare_sessions(turns, Detect())
    ids = pd.Series([row["turn_id"] for row in rows])
    gold = pd.DataFrame(
        {
            "source_turn_id": ids[compared.source].to_numpy(),
            "target_turn_id": ids[compared.target].to_numpy(),
        }
    )
    return turns, gold.assign(is_rephrase=gold["target_turn_id"].map(said_again) == gold["source_turn_id"])


def _observed(row: Row) -> dict[str, Any]:
    return row | {
        "at": int(datetime.fromisoformat(row["ts"]).timestamp() * 1e6),
        "utterance_id": row["text"].casefold(),
        "normalised_text": row["text"].casefold(),
        "texts": [heard["text"] for heard in row["text_alternatives"] or ()],
        "goal": goal_of(row),
        "goals": [goal_of(frame) for frame in row["nlu_alternatives"] or ()],
        "goal_scores": [frame["score"] for frame in row["nlu_alternatives"] or ()],
        "failed": row["error"] or row["cancelled"],
    }
