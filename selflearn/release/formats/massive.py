"""MASSIVE JSONL (FitzGerald et al. 2022): one file per locale, slots as `[slot : value]` in the words.

The format has no escape for its brackets: a sentence whose words or slot names could be taken for them is refused.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selflearn.release.rows import Row

PARTITIONS = {"train": "train", "validation": "dev", "test": "test"}
_SLOT = re.compile(r"\[([^\[\]:]+?) : ([^\[\]]*)\]")


def write_massive(examples: Sequence[Row], folder: Path) -> list[Row]:
    """Write `LOCALE.jsonl` files; returns the examples that the format cannot carry."""
    refused = []
    by_locale: dict[str, list[str]] = defaultdict(list)
    for row in examples:
        line = massive_line(row)
        if read_massive(line) == _content(row):
            by_locale[row["locale"]].append(line)
        else:
            refused.append(row)
    for locale, lines in by_locale.items():
        (folder / f"{locale}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return refused


def massive_line(row: Row) -> str:
    """An example as a line of the format; what MASSIVE has no field for stands in fields of our names."""
    return json.dumps(
        {
            "id": row["example_id"],
            "locale": row["locale"],
            "partition": PARTITIONS[row["split"]],
            "scenario": row["intent"].partition("_")[0],
            "intent": row["intent"],
            "utt": row["text"],
            "annot_utt": _annotated(row),
            "worker_id": "",
            "context": row["context"],
            "is_intent_only": row["is_intent_only"],
            "weight": row["weight"],
            "origin": row["origin"],
        },
        ensure_ascii=False,
    )


def read_massive(line: str) -> dict[str, Any]:
    """What a line says: `example_id, locale, split, intent, text, slots`, and what of ours it carries."""
    fields = json.loads(line)
    text, slots = "", []
    at = 0
    for found in _SLOT.finditer(fields["annot_utt"]):
        text += fields["annot_utt"][at : found.start()]
        slots.append({"name": found[1], "value": found[2], "start": len(text), "end": len(text) + len(found[2])})
        text += found[2]
        at = found.end()
    text += fields["annot_utt"][at:]
    splits = {name: split for split, name in PARTITIONS.items()}
    return {
        "example_id": fields["id"],
        "split": splits[fields["partition"]],
        "text": text if text == fields["utt"] else None,
        "slots": slots,
        **{name: fields[name] for name in ("locale", "intent", "context", "is_intent_only", "weight", "origin")},
    }


def _annotated(row: Row) -> str:
    parts, at = [], 0
    for slot in row["slots"]:
        parts += [row["text"][at : slot["start"]], f"[{slot['name']} : {slot['value']}]"]
        at = slot["end"]
    return "".join([*parts, row["text"][at:]])


def _content(row: Row) -> dict[str, Any]:
    names = (
        "example_id",
        "split",
        "text",
        "slots",
        "locale",
        "intent",
        "context",
        "is_intent_only",
        "weight",
        "origin",
    )
    return {name: row[name] for name in names}
