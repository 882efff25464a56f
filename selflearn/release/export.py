"""Training sets as plain files, for trainers that read no Delta."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd


def export_jsonl(examples: pd.DataFrame, path: Path) -> int:
    """Write one JSON object per example, UTF-8, in the order given; returns how many.

    The file appears whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            for row in examples.to_dict("records"):
                row["slots"] = [dict(slot) for slot in row["slots"]]
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(examples)
