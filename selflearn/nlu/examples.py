"""What the reference NLU learns from, and what it says of a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Item = tuple[str, str]
"""Slot and value, the value as a canonical goal has it."""


@dataclass(frozen=True)
class Tagged:
    """A slot on the words: characters `start` to `end` (exclusive)."""

    slot: str
    start: int
    end: int


Tags = tuple[Tagged, ...]
"""A tagging: spans in order, none overlapping."""


@dataclass(frozen=True)
class Example:
    """A sentence with its meaning.

    Attributes:
        items: every slot value of the goal, whether or not it stands in the words.
        tagged: where values stand; None where only the intent is known, and then `items` are not learnt from either.
        weight: probability that the meaning is right, in (0, 1].
    """

    text: str
    context: str
    intent: str
    items: frozenset[Item] = frozenset()
    tagged: Tags | None = ()
    weight: float = 1.0


@dataclass(frozen=True)
class Reading:
    """What the NLU reads a sentence as, and the probability of that."""

    intent: str
    items: frozenset[Item]
    p_intent: float
    p_items: float

    @property
    def probability(self) -> float:
        return self.p_intent * self.p_items


def examples_of(rows: Iterable[Mapping[str, Any]]) -> list[Example]:
    """Rows of `tables.TRAINING_SETS` as examples: what a row may mean too is an example more, by its weight."""
    return [example for row in rows for example in (_example(row), *_others(row))]


def _example(row: Mapping[str, Any]) -> Example:
    spans = None if row["is_intent_only"] else row["slots"]
    return Example(
        text=row["text"],
        context=row["context"],
        intent=row["intent"],
        items=frozenset((span["name"], span["value"].casefold()) for span in spans or ()),
        tagged=None if spans is None else tuple(Tagged(span["name"], span["start"], span["end"]) for span in spans),
        weight=row["weight"],
    )


def _others(row: Mapping[str, Any]) -> Iterator[Example]:
    for other in row["other_intents"]:
        yield Example(row["text"], row["context"], other["intent"], tagged=None, weight=other["weight"])
