"""DSTC2 calls as a production log: one canonical turn per user turn, made of what the live system saw alone."""

from __future__ import annotations

import gzip
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

Act = dict[str, Any]
Row = dict[str, Any]

_VALUE_ACTS = ("confirm", "deny")
_CHECKING_ACTS = ("expl-conf", "impl-conf", "select")


def read_rows(folder: Path, name: str) -> Iterator[Row]:
    """Rows of `NAME.jsonl.gz` in a folder of the benchmark's shape."""
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def write_log(folder: Path, out: Path, is_in: Callable[[str], bool] = lambda user: True) -> list[str]:
    """Write `out/YYYY-MM-DD.jsonl`, canonical turns by day, of the callers that are in; returns the days, sorted.

    Reads `obs` alone.
    """
    by_day: dict[str, list[str]] = defaultdict(list)
    for row in read_rows(folder, "dstc2_turns"):
        if is_in(row["user_id"]):
            turn = canonical_turn(row)
            by_day[turn["ts"][:10]].append(json.dumps(turn, ensure_ascii=False))
    out.mkdir(parents=True, exist_ok=True)
    for day, lines in by_day.items():
        (out / f"{day}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sorted(by_day)


def turn_id(session_id: str, turn: int) -> str:
    """Id of a turn in the canonical log."""
    return f"{session_id}#{turn:03d}"


def canonical_turn(row: Row) -> Row:
    """One canonical turn. The context is what the system had just asked or said: its acts, and the slot asked for."""
    seen = row["obs"]
    prompt_acts: list[Act] = seen["prompt_acts"] or []
    asked = asked_slot(prompt_acts)
    top = frame(seen["nlu"], asked)
    alternatives = [(frame(acts, asked), score) for acts, score in seen["nlu_nbest"]]
    return {
        "turn_id": turn_id(row["session_id"], row["turn"]),
        "session_id": row["session_id"],
        "user_id": row["user_id"],
        "ts": row["ts"] + "Z",
        "locale": row["locale"],
        "text": seen["asr"] or " ".join(text for text, _ in seen["asr_nbest"][:1]) or "…",
        "text_alternatives": [{"text": text, "score": score} for text, score in seen["asr_nbest"] if text],
        "asr_score": min(1.0, math.exp(seen["asr_score"])) if seen["asr_score"] is not None else None,
        **(top or {"intent": None, "slots": None}),
        "nlu_score": seen["nlu_score"],
        "nlu_alternatives": [{**found, "score": score} for found, score in alternatives if found],
        "prompt": seen["prompt"],
        "response": seen["response"],
        "context": context_key(prompt_acts),
        "fallback": top is None,
    }


def asked_slot(prompt_acts: Sequence[Act]) -> str | None:
    """The slot that the system had asked for, or asked to confirm or choose, which a bare value ("this") answers."""
    for act in prompt_acts:
        if act["act"] == "request" and act["slots"]:
            return str(act["slots"][0][1])
    for act in prompt_acts:
        if act["act"] in _CHECKING_ACTS and act["slots"]:
            return str(act["slots"][0][0])
    return None


def context_key(prompt_acts: Sequence[Act]) -> str:
    """Acts of the prompt, with the slot where one was asked for: `request:food`, `inform offer`, ..."""
    asked = asked_slot(prompt_acts)
    asking = ("request", *_CHECKING_ACTS)
    return " ".join(sorted({f"{act['act']}:{asked}" if act["act"] in asking else act["act"] for act in prompt_acts}))


def frame(acts: Iterable[Act], asked: str | None) -> Row | None:
    """Intent (the acts) and slots of a reading; a slot that is not informed carries its act in its name."""
    acts = list(acts)
    if not acts:
        return None
    slots = set()
    for act in acts:
        for name, value in act["slots"]:
            slot = (asked or name) if name == "this" else name
            if act["act"] == "request":
                slots.add(("request", value))
            elif act["act"] == "inform":
                slots.add((slot, value))
            else:
                slots.add((f"{act['act']}.{slot}", value))
    return {
        "intent": "+".join(sorted({act["act"] for act in acts})),
        "slots": [{"name": name, "value": value} for name, value in sorted(slots)],
    }


def items_of_goal(goal: str) -> list[str]:
    """A mined goal in the notation of the benchmark's `nlu_items`: the inverse of `frame`."""
    meaning = json.loads(goal)
    items = {"reqalts"} & set(meaning["intent"].split("+"))
    for slot in meaning["slots"]:
        name, value = slot["name"], slot["value"]
        act, dot, rest = name.partition(".")
        if name == "request":
            items.add(f"request({value})")
        elif dot and act in _VALUE_ACTS:
            items.add(f"{act}({rest}={value})")
        elif not dot:
            items.add(f"inform({name}={value})")
    return sorted(items)
