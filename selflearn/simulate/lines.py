"""JSON lines, the form in which everything simulated is written."""

from __future__ import annotations

import json

from selflearn.simulate.world import Slots

Json = dict[str, object]

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def as_json(slots: Slots) -> list[Json]:
    """Slots as they stand in a line."""
    return [{"name": name, "value": value} for name, value in slots]


def merged(first: str, second: str) -> str:
    """Two encoded objects as one: a part that many lines share is encoded once."""
    return f"{first[:-1]},{second[1:]}"
