"""Slots on the words: where a goal's values stand in an utterance."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A slot value on the text: characters `start` to `end` (exclusive)."""

    name: str
    value: str
    start: int
    end: int


@dataclass(frozen=True)
class Annotation:
    """What a goal looks like on an utterance's own words.

    `is_intent_only` is true where a value of the goal does not stand in the words; then no slot is claimed.
    """

    intent: str
    spans: tuple[Span, ...]
    is_intent_only: bool
    annotated: str


def annotate(text: str, goal: str) -> Annotation:
    """Find every slot value of the canonical goal in the text, longest first and without overlap.

    >>> annotate("wake me at 7 am", '{"intent":"alarm","slots":[{"name":"time","value":"7 am"}]}').annotated
    'wake me at [time : 7 am]'
    """
    frame = json.loads(goal)
    lowered = text.casefold()
    # Case folding can change a text's length; then positions in it are not positions in the text.
    searchable = lowered if len(lowered) == len(text) else text
    taken: list[Span] = []
    for slot in sorted(frame["slots"], key=lambda slot: (-len(slot["value"]), slot["name"])):
        start = _find(searchable, slot["value"], taken)
        if start < 0:
            return Annotation(frame["intent"], (), True, text)
        end = start + len(slot["value"])
        taken.append(Span(slot["name"], text[start:end], start, end))
    spans = tuple(sorted(taken, key=lambda span: span.start))
    return Annotation(frame["intent"], spans, False, _bracket(text, spans))


def _find(text: str, value: str, taken: list[Span]) -> int:
    """First place of the value as whole words where the script has words; -1 without one."""
    start = text.find(value) if value else -1
    while start >= 0:
        end = start + len(value)
        overlaps = any(start < span.end and span.start < end for span in taken)
        if not overlaps and not _inside_word(text, start, end):
            return start
        start = text.find(value, start + 1)
    return -1


def _inside_word(text: str, start: int, end: int) -> bool:
    """Whether the span cuts a word of a script with spaces; scripts without have no case and no rule here."""

    def joined(left: str, right: str) -> bool:
        return _spaced(left) and _spaced(right) and left.isalnum() and right.isalnum()

    before = start > 0 and joined(text[start - 1], text[start])
    after = end < len(text) and joined(text[end - 1], text[end])
    return before or after


def _spaced(character: str) -> bool:
    """Whether words of the character's script are set apart by spaces: alphabets with case, and digits."""
    return character.isdigit() or character.lower() != character.upper()


def _bracket(text: str, spans: tuple[Span, ...]) -> str:
    parts, at = [], 0
    for span in spans:
        parts += [text[at : span.start], f"[{span.name} : {span.value}]"]
        at = span.end
    return "".join([*parts, text[at:]])
