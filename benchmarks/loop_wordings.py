"""Pools of wordings from data sets whose rows are not those of `read_wordings`, and from the project's own sample."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dstc2_log import asked_slot, frame, read_rows
from selflearn.errors import SettingsError
from selflearn.simulate.deployment import Wording, read_wordings, sample_wordings, wordings_of

Row = dict[str, Any]


def pool_of(name: str, data: Path | None) -> list[Wording]:
    """Wordings of a data set `NAME.jsonl.gz` of a folder, `xsid:LANG` for one language; without a folder, of a locale.

    Raises:
        SettingsError: there is no such data set or locale.
    """
    if data is None:
        return sample_wordings(name)
    base, _, language = name.partition(":")
    path = data / f"{base}.jsonl.gz"
    if not path.exists():
        raise SettingsError(f"there is no {path}", "name a data set of the folder, without its ending")
    if base == "slurp_asr":
        return wordings_of(_recorded(_rows(path)), "en", str(path))
    if base == "dstc2_turns":
        return wordings_of(_called(read_rows(data, base)), "en", str(path))
    if base == "xsid":
        return wordings_of(_tagged(_rows(path), language or "en"), "en", str(path))
    return read_wordings(path)


def _rows(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _recorded(rows: Iterable[Row]) -> Iterable[Row]:
    """SLURP: one sentence for all recordings of it."""
    heard = defaultdict(list)
    gold = {}
    for row in rows:
        heard[row["text"]].append(row["asr"])
        gold[row["text"]] = row["gold"]
    for text, meaning in gold.items():
        yield {"text": text, "intent": meaning["action"], "slots": meaning["slots"], "heard": heard[text]}


def _called(rows: Iterable[Row]) -> Iterable[Row]:
    """DSTC2: what callers said and what was heard of it; the intent is the acts, with the slot asked for."""
    heard = defaultdict(list)
    said = {}
    for row in rows:
        meant = frame(row["gold"]["acts"], asked_slot(row["obs"]["prompt_acts"] or []))
        text = row["gold"]["text"]
        if meant and text and text not in ("noise", "unintelligible"):
            heard[text].append(row["obs"]["asr"] or "")
            said.setdefault(text, meant)
    for text, meant in said.items():
        yield {"text": text, **meant, "heard": heard[text]}


def _tagged(rows: Iterable[Row], language: str) -> Iterable[Row]:
    """xSID: BIO tags of words to slots."""
    for row in rows:
        if row["lang"] == language:
            slots: list[list[str]] = []
            for token, tag in zip(row["tokens"], row["tags"], strict=True):
                if tag.startswith("B-"):
                    slots.append([tag[2:], token])
                elif tag.startswith("I-") and slots:
                    slots[-1][1] += f" {token}"
            yield {"text": row["text"], "intent": row["intent"], "slots": slots, "locale": language}
