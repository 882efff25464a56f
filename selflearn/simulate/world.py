"""The world the simulated people live in: goals, and how each language words them.

The data lies in ``wordings/``: ``goals.json`` holds what can be wanted, one file per locale how it is said.
Lists stand in order of popularity. A wording may stand under two intents; it is then truly ambiguous.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from itertools import accumulate
from typing import Any, NamedTuple

from selflearn.errors import DataError, SettingsError

CANCEL = "cancel"
PLAIN = ("", "")
_MIN_CARRIERS = 4
_MIN_VALUES = 8

Slots = tuple[tuple[str, str], ...]


class Frame(NamedTuple):
    """The meaning of a request: an intent and its ``(name, value)`` pairs, sorted by name."""

    intent: str
    slots: Slots


@dataclass(frozen=True, slots=True)
class Intent:
    """Something that can be wanted.

    ``like`` names the intents it is confused with, the nearest first. An intent asks for its slot ``ask``
    where that is missing, or, with ``confirm``, asks whether it is meant before it acts.
    """

    name: str
    domain: str
    weight: float
    slots: tuple[str, ...]
    like: tuple[str, ...]
    ask: str | None = None
    confirm: bool = False

    @property
    def question(self) -> str:
        """The context in which this intent's answers are given; empty where it asks nothing."""
        if self.ask:
            return f"ask:{self.name}"
        return f"confirm:{self.name}" if self.confirm else ""

    def asks_after(self, slots: Slots, context: str) -> str:
        """The context that follows this intent read with ``slots`` in ``context``; empty where it acts."""
        if self.ask:
            return "" if any(name == self.ask for name, _ in slots) else self.question
        return "" if context == self.question else self.question


@dataclass(frozen=True, slots=True, eq=False)
class Carrier:
    """A wording with places for slot values, and for what stands before and after it.

    ``pieces`` are its texts in order of speech, with empty ones at both ends; ``names`` tell for each of them
    which slot's value belongs there, if any; ``slots`` are ``(name, place)``, sorted.
    """

    text: str
    intent: str
    context: str
    pieces: tuple[str, ...]
    names: tuple[str, ...]
    slots: tuple[tuple[str, int], ...]

    @classmethod
    def parse(cls, text: str, intent: str, context: str) -> Carrier:
        """Read a wording such as ``wake me up at {time}``."""
        split = enumerate(re.split(r"\{(\w+)\}", text))
        spoken = [("", piece) if place % 2 else (piece, "") for place, piece in split if piece]
        pieces, names = zip(("", ""), *spoken, ("", ""), strict=True)
        slots = sorted((name, place) for place, name in enumerate(names) if name)
        return cls(text, intent, context, pieces, names, tuple(slots))

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The slots that the wording names, sorted."""
        return tuple(name for name, _ in self.slots)


class Utterance(NamedTuple):
    """Words said or heard: a carrier with ``texts`` in the place of its pieces."""

    carrier: Carrier
    texts: tuple[str, ...]

    @classmethod
    def of(cls, carrier: Carrier, values: Mapping[str, str], filler: tuple[str, str] = PLAIN) -> Utterance:
        """Fill ``carrier`` with ``values``, which may hold more than it needs."""
        texts = list(carrier.pieces)
        texts[0], texts[-1] = filler
        for name, place in carrier.slots:
            texts[place] = values[name]
        return cls(carrier, tuple(texts))

    @property
    def text(self) -> str:
        """The words as one line, with single spaces."""
        text = "".join(self.texts).strip()
        return " ".join(text.split()) if "  " in text else text

    @property
    def frame(self) -> Frame:
        """What the carrier means with the values that stand in it."""
        return Frame(self.carrier.intent, tuple([(name, self.texts[place]) for name, place in self.carrier.slots]))


@dataclass(frozen=True, slots=True, eq=False)
class Phrasebook:
    """One language: requests by intent, answers and refusals by context, values by slot, fixed sentences."""

    locale: str
    not_understood: str
    out_of_order: str
    fillers: tuple[tuple[str, str], ...]
    values: Mapping[str, tuple[str, ...]]
    done: Mapping[str, str]
    asks: Mapping[str, str]
    requests: Mapping[str, tuple[Carrier, ...]]
    answers: Mapping[str, tuple[Carrier, ...]]
    refusals: Mapping[str, tuple[Carrier, ...]]

    def carriers(self) -> Iterable[Carrier]:
        """Every wording of the language, requests first, in a fixed order."""
        for table in (self.requests, self.answers, self.refusals):
            for group in table.values():
                yield from group

    def siblings(self, carrier: Carrier) -> tuple[Carrier, ...]:
        """The wordings that say the same thing in the same context, ``carrier`` among them."""
        if not carrier.context:
            return self.requests[carrier.intent]
        return (self.refusals if carrier.intent == CANCEL else self.answers)[carrier.context]


@dataclass(frozen=True)
class World:
    """All intents by name, the phrasebooks by locale, and the relative number of people who speak each."""

    intents: Mapping[str, Intent]
    phrasebooks: Mapping[str, Phrasebook]
    speakers: Mapping[str, int]

    @cached_property
    def popular(self) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """Intents that open a conversation, and their cumulative weights."""
        wanted = [intent for intent in self.intents.values() if intent.weight > 0]
        return tuple(i.name for i in wanted), tuple(accumulate(i.weight for i in wanted))

    @cached_property
    def _wheel(self) -> list[str]:
        return [locale for locale, share in self.speakers.items() for _ in range(share)]

    def locale_of(self, person: int) -> str:
        """The locale of person number ``person``: exact shares in every block of people, the order turns."""
        return self._wheel[(person + person // len(self._wheel)) % len(self._wheel)]


def known_locales() -> tuple[str, ...]:
    """Every locale that has wordings."""
    return tuple(_read("goals")["locales"])


@cache
def load_world(locales: tuple[str, ...] | None = None) -> World:
    """Read the packaged wordings of the locales, or of the usual ones.

    Raises:
        SettingsError: no locale is named, one is named twice, or one has no wordings.
        DataError: a wording names an unknown slot or intent, or a list is too short.
    """
    raw = _read("goals")
    chosen = raw["usual_locales"] if locales is None else locales
    unknown = sorted(set(chosen) - set(raw["locales"]))
    if unknown:
        raise SettingsError(
            f"Nobody speaks {', '.join(unknown)} here.", f"Choose from {', '.join(sorted(raw['locales']))}."
        )
    if not chosen or len(set(chosen)) < len(chosen):
        raise SettingsError(f"The locales are {', '.join(chosen) or 'none'}.", "Name at least one, and each once.")
    intents = {name: _intent(name, entry) for name, entry in raw["intents"].items()}
    books = {locale: _phrasebook(locale, _read(locale), intents) for locale in chosen}
    return World(intents, books, {locale: raw["locales"][locale] for locale in chosen})


@cache
def _read(name: str) -> dict[str, Any]:
    path = files("selflearn.simulate").joinpath("wordings", f"{name}.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _intent(name: str, entry: Mapping[str, Any]) -> Intent:
    return Intent(
        name,
        entry["domain"],
        entry["weight"],
        tuple(entry["slots"]),
        tuple(entry["like"]),
        entry.get("ask"),
        entry.get("confirm", False),
    )


def _phrasebook(locale: str, raw: Mapping[str, Any], intents: Mapping[str, Intent]) -> Phrasebook:
    requests = {n: tuple(Carrier.parse(t, n, "") for t in raw["intents"][n]["say"]) for n in intents}
    answers = {}
    refusals = {}
    for intent in intents.values():
        wordings = raw["answers"][intent.ask] if intent.ask else raw["yes"] if intent.confirm else ()
        if wordings:
            answers[intent.question] = tuple(Carrier.parse(t, intent.name, intent.question) for t in wordings)
        if intent.confirm:
            refusals[intent.question] = tuple(Carrier.parse(t, CANCEL, intent.question) for t in raw["no"])
    book = Phrasebook(
        locale,
        raw["not_understood"],
        raw["out_of_order"],
        tuple((before, after) for before, _, after in (filler.partition("{}") for filler in raw["fillers"])),
        {slot: tuple(values) for slot, values in raw["values"].items()},
        {name: raw["intents"][name]["done"] for name in intents},
        {i.question: raw["intents"][i.name]["ask"] for i in intents.values() if i.question},
        requests,
        answers,
        refusals,
    )
    _check(book, intents)
    return book


def _check(book: Phrasebook, intents: Mapping[str, Intent]) -> None:
    """Name every fault of one language's wordings at once."""
    faults = [
        f"{carrier.text!r} has a slot that {carrier.intent} lacks"
        for carrier in book.carriers()
        if set(carrier.slot_names) - set(intents[carrier.intent].slots)
    ]
    for slot, values in book.values.items():
        if len(set(values)) < _MIN_VALUES:
            faults.append(f"{slot!r} has fewer than {_MIN_VALUES} values")
    for name, group in book.requests.items():
        if len({carrier.text for carrier in group}) < _MIN_CARRIERS:
            faults.append(f"{name!r} has fewer than {_MIN_CARRIERS} wordings")
    for intent in intents.values():
        unknown = (set(intent.like) - set(intents)) | (set(intent.slots) - set(book.values))
        if unknown:
            faults.append(f"{intent.name!r} names the unknown {', '.join(sorted(unknown))}")
    if faults:
        raise DataError(f"The wordings of {book.locale} are faulty: {'; '.join(faults)}.", "Mend their file.")
