"""Rows of training sets for tests."""

from __future__ import annotations

from typing import Any

from selflearn.release.training_set import EXAMPLE

Row = dict[str, Any]


def example(text: str, intent: str = "play", *spans: tuple[str, int, int], **fields: Any) -> Row:
    """An example whose slots are the given name, start and end."""
    slots = [{"name": name, "value": text[start:end], "start": start, "end": end} for name, start, end in spans]
    row = {
        "example_id": f"{intent} {text}",
        "split": "train",
        "origin": "launch",
        "locale": "en-GB",
        "context": "",
        "text": text,
        "intent": intent,
        "slots": slots,
        "is_intent_only": False,
        "annotated_utterance": text,
        "weight": 1.0,
        "other_intents": [],
        "utterance_id": text,
        "reason": None,
    } | fields
    assert set(EXAMPLE) <= set(row)
    return row
