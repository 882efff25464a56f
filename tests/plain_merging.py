"""The plain twin of merged readings: one pair of turns at a time."""

from __future__ import annotations

import json
from collections import Counter

from rapidfuzz import fuzz

from plain_pairs import Row, acted_on, considered, heard, sound_key, values


def merged(source: Row, target: Row) -> tuple[str | None, float]:
    """The goal that both readings make together, None where it is either, and its probability in a sure rephrase."""
    known, again = source["goal"], acted_on(target)
    if known is None or again is None or json.loads(known)["intent"] != json.loads(again)["intent"]:
        return None, 0.0
    several = {name for goal in considered(source) for name, n in names(goal).items() if n > 1}
    kept = {(name, value) for name, value in values(known) if name in several or name not in names(again)}
    together = kept | values(again)
    if together in (values(known), values(again)):
        return None, 0.0
    slots = [{"name": name, "value": value} for name, value in sorted(together)]
    goal = json.dumps(
        {"intent": json.loads(again)["intent"], "slots": slots}, ensure_ascii=False, separators=(",", ":")
    )
    p_heard = min((p_heard_in(value, source) for _, value in together - values(known)), default=1.0)
    return goal, min(1.0, considered(target).get(again, 0.0)) * p_heard


def names(goal: str) -> Counter[str]:
    return Counter(slot["name"] for slot in json.loads(goal)["slots"])


def p_heard_in(value: str, turn: Row) -> float:
    """How well it sounds like a part of the best of the first five texts, above chance."""
    key, texts = sound_key(value), [text for text in map(sound_key, heard(turn)[:5]) if text]
    if not key or not texts:
        return 1.0
    found = max(fuzz.partial_ratio(key, text) if len(key) <= len(text) else fuzz.ratio(key, text) for text in texts)
    return max(0.0, (found / 100 - 0.6) / 0.4)
