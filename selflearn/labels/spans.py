"""Slots on the words: what a goal looks like on an utterance's own words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from selflearn.labels.meaning import Encode
from selflearn.labels.projection import exact_places, project
from selflearn.wording import word_spans

_KEPT = 4_096
"""The same words with the same goal are asked for again and again: in several contexts, as one tagging of several."""


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


@lru_cache(_KEPT)
def annotate(text: str, goal: str, encode: Encode | None = None) -> Annotation:
    """Put every slot value of the canonical goal on the words of the text, without overlap; `encode` as in `project`.

    >>> annotate("wake me at 7 am", '{"intent":"alarm","slots":[{"name":"time","value":"7 am"}]}').annotated
    'wake me at [time : 7 am]'
    """
    frame = json.loads(goal)
    slots = sorted(frame["slots"], key=lambda slot: (-len(slot["value"]), slot["name"]))
    places = project(text, [slot["value"] for slot in slots], encode)
    found = [
        Span(slot["name"], text[place[0] : place[1]], *place)
        for slot, place in zip(slots, places, strict=True)
        if place is not None
    ]
    if len(found) < len(slots):
        return intent_alone(text, goal)
    spans = tuple(sorted(found, key=lambda span: span.start))
    return Annotation(frame["intent"], spans, False, bracketed(text, spans))


def intent_alone(text: str, goal: str) -> Annotation:
    """The goal's intent, and no claim of its slots."""
    return Annotation(json.loads(goal)["intent"], (), True, text)


def says_another_value(text: str, goal: str, read: str) -> bool:
    """Whether the words say a value with which they were read, and nothing like the goal's own value of that slot.

    >>> of = '{"intent":"weather","slots":[{"name":"city","value":"%s"}]}'
    >>> oslo, rome = of % "oslo", of % "rome"
    >>> [says_another_value(f"weather in {city}", oslo, read=rome) for city in ("rome", "room", "rome or oslo")]
    [True, False, False]
    """
    if goal == read:
        return False
    meant, other = ({(slot["name"], slot["value"]) for slot in json.loads(frame)["slots"]} for frame in (goal, read))
    said = {name for name, value in other - meant if exact_places(text, [value]) != [None]}
    return any(name in said and project(text, [value]) == [None] for name, value in meant - other)


def bracketed(text: str, spans: tuple[Span, ...]) -> str:
    """MASSIVE's form, `[slot : value]`; the spans in order."""
    parts, at = [], 0
    for span in spans:
        parts += [text[at : span.start], f"[{span.name} : {span.value}]"]
        at = span.end
    return "".join([*parts, text[at:]])


def bio_tags(text: str, spans: tuple[Span, ...]) -> list[tuple[str, str]]:
    """Words and their tags: `B-slot` where a slot begins, `I-slot` within it, `O` elsewhere.

    >>> bio_tags("at 7 am", (Span("time", "7 am", 3, 7),))
    [('at', 'O'), ('7', 'B-time'), ('am', 'I-time')]
    """
    tags, names = [], {span: span.name for span in spans}
    before: Span | None = None
    for start, end in word_spans(text):
        of = next((span for span in names if start < span.end and span.start < end), None)
        tags.append((text[start:end], f"{'I' if of is before else 'B'}-{of.name}" if of else "O"))
        before = of
    return tags
