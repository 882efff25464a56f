"""A simulated day's turns as detection sees them, made without Spark."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selflearn.simulate import simulate
from selflearn.turns import frame_goal, hash_user, normalise_text, utterance_id

DAY = date(2026, 1, 5)
USER_KEY = "simulated people have no secrets"
_LINES_AT_ONCE = 10_000
_COLUMNS = {
    "turn_date": pa.date32(),
    "session_id": pa.string(),
    "turn_id": pa.string(),
    "user_id": pa.string(),
    "locale": pa.string(),
    "utterance_id": pa.string(),
    "at": pa.timestamp("us", "UTC"),
    "context": pa.string(),
    "prompt": pa.string(),
    "normalised_text": pa.string(),
    "texts": pa.list_(pa.string()),
    "asr_score": pa.float64(),
    "nlu_score": pa.float64(),
    "goal": pa.string(),
    "goals": pa.list_(pa.string()),
    "goal_scores": pa.list_(pa.float64()),
    "fallback": pa.bool_(),
    "failed": pa.bool_(),
    "completed": pa.bool_(),
    "feedback": pa.int32(),
    "barge_in": pa.bool_(),
}


def simulated_turns(folder: Path, n_turns: int, seed: int) -> pa.Table:
    """Whole sessions of one day in order, columns of `detection.observed`; the log is written to `folder`."""
    simulate(folder, n_turns=n_turns, days=1, start=DAY, seed=seed)
    tables = []
    for path in sorted((folder / "logs").glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            tables += [_as_table(map(json.loads, some), DAY) for some in _chunks(lines)]
    return _in_order(pa.concat_tables(tables))


def observed_turns(rows: Iterable[dict[str, Any]], day: date) -> pa.Table:
    """Rows of a log as detection sees them: whole sessions in order, columns of `detection.observed`."""
    return _in_order(_as_table(rows, day))


def _in_order(turns: pa.Table) -> pa.Table:
    turns = turns.sort_by([("session_id", "ascending"), ("at", "ascending")]).combine_chunks()
    session = turns["session_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    first = np.flatnonzero(np.append(True, session[1:] != session[:-1]))
    index = np.arange(len(session)) - np.repeat(first, np.diff(np.append(first, len(session))))
    turns = turns.append_column("turn_index", pa.array(index.astype(np.int32)))
    return turns.set_column(turns.schema.get_field_index("at"), "at", pc.cast(turns["at"], pa.int64()))


def _chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    lines = iter(lines)
    while some := list(islice(lines, _LINES_AT_ONCE)):
        yield some


def _as_table(rows: Iterable[dict[str, Any]], day: date) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for row in rows:
        text = normalise_text(row["text"])
        made = row | {
            "turn_date": day,
            "user_id": hash_user(row["user_id"], USER_KEY.encode()),
            "utterance_id": utterance_id(row["locale"], row["context"], text),
            "at": row["ts"],
            "normalised_text": text,
            "texts": [heard["text"] for heard in row["text_alternatives"]],
            "goal": frame_of(row),
            "goals": [frame_of(reading) for reading in row["nlu_alternatives"]],
            "goal_scores": [reading["score"] for reading in row["nlu_alternatives"]],
            "failed": row["error"] or row["cancelled"],
        }
        for name, values in columns.items():
            values.append(made[name])
    arrays = [pa.array(columns[name]).cast(kind) for name, kind in _COLUMNS.items()]
    return pa.table(dict(zip(columns, arrays, strict=True)))


def frame_of(frame: dict[str, Any]) -> str | None:
    """The canonical goal of a logged reading, None of none."""
    if frame["intent"] is None:
        return None
    return _frame_goal(frame["intent"], tuple((slot["name"], slot["value"]) for slot in frame["slots"]))


_frame_goal = cache(frame_goal)
