"""Rasa's NLU training data (YAML, version 3.1): a folder per locale, a file per split.

An example is a mapping with its text and its metadata, so that YAML's own quoting carries every character. Entities
are marked in the text, `[Berlin](city)`, which Rasa reads by one regular expression that knows no escape: a sentence
that it would not give back is refused, and so are names of intents with a `/` or with blanks around them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from selflearn.release.rows import Row

VERSION = "3.1"
_PLAIN_NAME = re.compile(r"[^:)\[\](){}\"]+")
# As Rasa 3 has it: `[text](entity:value)`, `[text]{"entity": "name"}` or `[text][{"entity": "name"}, ..]`.
_ENTITY = re.compile(
    r"\[(?P<text>[^\]]+?)\]"
    r"(\((?P<entity>[^:)]+?)(?:\:(?P<value>[^)]+))?\)|\{(?P<fields>[^}]+?)\}|\[(?P<several>.*?)\])"
)
_STRIPPED = "\n\r "


class _Quoted(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes every string, so that no word is taken for a number, a truth or a date by any version of YAML."""


_Quoted.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def write_rasa(examples: Sequence[Row], folder: Path) -> list[Row]:
    """Write `LOCALE/SPLIT.yml` files; returns the examples that the format cannot carry."""
    refused = []
    files: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in examples:
        text = rasa_text(row)
        if is_plain_intent(row["intent"]) and read_rasa(text) == (row["text"], row["slots"]):
            metadata = {name: row[name] for name in ("example_id", "context", "weight", "origin", "is_intent_only")}
            files[row["locale"], row["split"]][row["intent"]].append({"text": text, "metadata": metadata})
        else:
            refused.append(row)
    for (locale, split), intents in files.items():
        file = folder / locale / f"{split}.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(_document(intents), encoding="utf-8")
    return refused


def is_plain_intent(intent: str) -> bool:
    """Whether Rasa gives the name back: it cuts blanks off, and takes what follows a `/` for another name."""
    return "/" not in intent and intent == intent.strip()


def rasa_text(row: Row) -> str:
    """The text with its entities marked."""
    parts, at = [], 0
    for slot in row["slots"]:
        name = slot["name"]
        mark = f"({name})" if _PLAIN_NAME.fullmatch(name) else json.dumps({"entity": name}, ensure_ascii=False)
        parts += [row["text"][at : slot["start"]], f"[{slot['value']}]{mark}"]
        at = slot["end"]
    return "".join([*parts, row["text"][at:]])


def read_rasa(marked: str) -> tuple[str, list[dict[str, Any]]] | None:
    """Text and slots as Rasa's reader finds them; None where it finds what is never ours, or stumbles."""
    text, slots = "", []
    at, marked = 0, marked.strip(_STRIPPED)
    for found in _ENTITY.finditer(marked):
        if found["several"] is not None:
            return None
        text += marked[at : found.start()]
        name, value = found["entity"], found["value"] or found["text"]
        if found["fields"]:
            try:
                fields = json.loads(f"{{{found['fields']}}}")
            except ValueError:
                return None
            name, value = fields.get("entity"), fields.get("value", found["text"])
        slots.append({"name": name, "value": value, "start": len(text), "end": len(text) + len(found["text"])})
        text += found["text"]
        at = found.end()
    return text + marked[at:], slots


def _document(intents: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    blocks = [{"intent": intent, "examples": list(examples)} for intent, examples in sorted(intents.items())]
    content: str = yaml.dump(
        {"version": VERSION, "nlu": blocks}, Dumper=_Quoted, allow_unicode=True, sort_keys=False, width=1_000_000
    )
    return content
