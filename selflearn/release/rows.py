"""What releases are made of on the driver: rows as plain mappings, and how their sentences are told apart."""

from __future__ import annotations

import hashlib
from typing import Any

from selflearn.turns.text import UNIT_SEPARATOR, normalise_text

Row = dict[str, Any]
"""A row of `tables.TRAINING_SETS`, or one that has at least its `locale, context, text, intent, slots`."""

Sentence = tuple[str, str]
"""Locale and normalised text: what may not stand in two splits, in whatever context it was said."""


def sentence_of(row: Row) -> Sentence:
    """The sentence that a row is about."""
    return row["locale"], normalise_text(row["text"])


def meaning_of(row: Row) -> tuple[str, frozenset[tuple[str, str]] | None]:
    """Intent, and slots with their values; None for these where only the intent is known."""
    if row["is_intent_only"]:
        return row["intent"], None
    return row["intent"], frozenset((slot["name"], slot["value"].casefold()) for slot in row["slots"])


def digest(*parts: str) -> str:
    """32 hex digits that stand for the parts."""
    return hashlib.md5(UNIT_SEPARATOR.join(parts).encode()).hexdigest()
