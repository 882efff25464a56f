"""Parquet as the Hugging Face hub takes it: a file per split below `data/`, and a card with its settings in front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from selflearn.release.rows import Row

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_huggingface(examples: Sequence[Row], folder: Path, card: str) -> list[Row]:
    """Write `README.md` and `data/SPLIT.parquet`; refuses nothing."""
    (folder / "data").mkdir()
    splits = [name for name in ("train", "validation", "test") if any(row["split"] == name for row in examples)]
    for split in splits:
        rows = [row for row in examples if row["split"] == split]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "data" / f"{split}.parquet")
    front = yaml.safe_dump(_front_matter(examples, splits), allow_unicode=True, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{front}---\n\n{card}", encoding="utf-8")
    return []


def _front_matter(examples: Sequence[Row], splits: Sequence[str]) -> dict[str, object]:
    size = next((name for limit, name in _SIZES if len(examples) < limit), "n>1M")
    return {
        "language": sorted({row["locale"].replace("_", "-").partition("-")[0].lower() for row in examples}),
        "task_categories": ["text-classification", "token-classification"],
        "task_ids": ["intent-classification", "slot-filling"],
        "annotations_creators": ["machine-generated"],
        "size_categories": [size],
        "tags": ["selflearn", "weak-supervision", "nlu"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}.parquet"} for split in splits],
            }
        ],
    }


SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("split", pa.string()),
        ("origin", pa.string()),
        ("locale", pa.string()),
        ("context", pa.string()),
        ("text", pa.string()),
        ("intent", pa.string()),
        (
            "slots",
            pa.list_(
                pa.struct([("name", pa.string()), ("value", pa.string()), ("start", pa.int32()), ("end", pa.int32())])
            ),
        ),
        ("is_intent_only", pa.bool_()),
        ("annotated_utterance", pa.string()),
        ("weight", pa.float64()),
        ("other_intents", pa.list_(pa.struct([("intent", pa.string()), ("weight", pa.float64())]))),
        ("utterance_id", pa.string()),
        ("reason", pa.string()),
    ]
)
"""Columns of `training_set.EXAMPLE`, as Arrow has them."""
