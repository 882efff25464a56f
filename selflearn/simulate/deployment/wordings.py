"""Wordings that people wrote, with what they mean: read from JSON lines, and divided by sentence.

A row has `text`, `intent`, and may have `slots` (pairs, objects with name and value, or a map), `locale` (or `lang`)
and `heard`, what a recogniser made of recordings of the sentence.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from selflearn.errors import DataError
from selflearn.nlu.classifiers import place_of
from selflearn.simulate.world import Frame, Slots, Utterance, load_world

_SAMPLE_VALUES = 12
"""Sentences of each wording of the project's own sample that has places for values."""


@dataclass(frozen=True, slots=True)
class Wording:
    """A sentence, what it means, and what was heard of it where it was recorded.

    `pieces` are its parts in order; `names` tell for each which slot's value it is, "" where of none. Where a value
    does not stand in the words there is one piece, and no other value can take its place.
    """

    text: str
    goal: Frame
    locale: str
    heard: tuple[str, ...]
    pieces: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, text: str, goal: Frame, locale: str, heard: Sequence[str] = ()) -> Wording:
        """Find the values in the words."""
        places = [(place_of(slot, text), slot[0]) for slot in goal.slots]
        found = sorted((place, name) for place, name in places if place is not None)
        ends = [0, *(end for (_, end), _ in found)]
        overlap = any(start < end for ((start, _), _), end in zip(found, ends, strict=False))
        if overlap or len(found) < len(goal.slots):
            return cls(text, goal, locale, tuple(heard), (text,), ("",))
        pieces: list[tuple[str, str]] = []
        at = 0
        for (start, end), name in found:
            pieces += [(text[at:start], ""), (text[start:end], name)]
            at = end
        pieces.append((text[at:], ""))
        texts, names = zip(*((piece, name) for piece, name in pieces if piece), strict=True)
        return cls(text, goal, locale, tuple(heard), texts, names)

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The slots of the goal, sorted; a name stands as often as it has values."""
        return tuple(sorted(name for name, _ in self.goal.slots))

    @property
    def is_carrier(self) -> bool:
        """Whether other values can take the places of its own."""
        return len([name for name in self.names if name]) == len(self.goal.slots)

    def saying(self, goal: Frame) -> str:
        """The words with the goal's values in the places of their own, which must be of the same slots."""
        values: dict[str, list[str]] = defaultdict(list)
        for name, value in goal.slots:
            values[name].append(value)
        return "".join(
            values[name].pop(0) if name else piece for piece, name in zip(self.pieces, self.names, strict=True)
        )


@dataclass(frozen=True)
class Division:
    """Wordings by use: those the NLU begins with, others that people say, and those nobody says but in the test.

    Those out of scope ask for what the assistant has no intent for; they are said or tested, too.
    """

    launch: tuple[Wording, ...]
    spoken: tuple[Wording, ...]
    test: tuple[Wording, ...]
    out_of_scope: tuple[Wording, ...] = ()
    out_of_scope_test: tuple[Wording, ...] = ()


def read_wordings(path: Path, locale: str = "en") -> list[Wording]:
    """Wordings of a JSON lines file, gzipped or not, each text of a locale once: the first meaning counts.

    Args:
        path: the file.
        locale: of rows that name none.

    Raises:
        DataError: the file is missing, no JSON lines, or a row lacks text or intent.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"wordings {path} cannot be read: {error}", "give a file of JSON lines") from None
    return wordings_of(rows, locale, str(path))


def wordings_of(rows: Iterable[Mapping[str, Any]], locale: str, origin: str) -> list[Wording]:
    """Rows as wordings, each text of a locale once."""
    found: dict[tuple[str, str], Wording] = {}
    for number, row in enumerate(rows, 1):
        text = " ".join(str(row.get("text") or "").split())
        if not text or not row.get("intent"):
            raise DataError(f"row {number} of wordings {origin} lacks text or intent", "mend or remove the row")
        of = str(row.get("locale") or row.get("lang") or locale)
        goal = Frame(str(row["intent"]), _slots(row.get("slots") or ()))
        heard = tuple(filter(None, (" ".join(str(one).split()) for one in row.get("heard") or ())))
        found.setdefault((of, text.casefold()), Wording.of(text, goal, of, heard))
    return list(found.values())


def sample_wordings(locale: str) -> list[Wording]:
    """Requests of the project's own sample of a locale, with some of their values.

    Raises:
        SettingsError: the sample has no such locale.
    """
    book = load_world((locale,)).phrasebooks[locale]
    found: dict[str, Wording] = {}
    for intent, carriers in book.requests.items():
        for carrier in carriers:
            values = list(product(*(book.values[name] for name in carrier.slot_names)))
            chosen = Random(carrier.text).sample(values, min(len(values), _SAMPLE_VALUES))
            for filling in chosen:
                slots = dict(zip(carrier.slot_names, filling, strict=True))
                text = Utterance.of(carrier, slots).text
                goal = Frame(intent, _slots(slots))
                found.setdefault(text.casefold(), Wording.of(text, goal, locale))
    return list(found.values())


def divide(
    wordings: Sequence[Wording], n_launch: int, test_share: float, seed: int, out_of_scope: str | None = None
) -> Division:
    """Divide by sentence, intent by intent: `n_launch` of each to begin with, a share to test, the others spoken.

    Nothing is launched of the intent `out_of_scope`.

    Raises:
        DataError: nothing is left to be said, or nobody wrote anything of `out_of_scope`.
    """
    by_intent: dict[str, list[Wording]] = defaultdict(list)
    for wording in wordings:
        by_intent[wording.goal.intent].append(wording)
    if out_of_scope is not None and out_of_scope not in by_intent:
        raise DataError(
            f"no wording is of the intent {out_of_scope}, which is to be out of scope",
            f"name one of {', '.join(sorted(by_intent))}",
        )
    beyond = by_intent.pop(out_of_scope, []) if out_of_scope is not None else []
    launch, spoken, test = [], [], []
    for intent, group in sorted(by_intent.items()):
        shuffled = Random(f"{seed}/{intent}").sample(group, len(group))
        n_test = round(test_share * len(group))
        test += shuffled[:n_test]
        launch += shuffled[n_test : n_test + n_launch]
        spoken += shuffled[n_test + n_launch :]
    if not (launch and spoken and test):
        raise DataError(
            f"{len(wordings)} wordings of {len(by_intent)} intents leave none to begin with, to be said or to test",
            "give more wordings, or fewer of each intent to the launch set",
        )
    beyond = Random(f"{seed}/{out_of_scope}").sample(beyond, len(beyond))
    n_test = round(test_share * len(beyond))
    return Division(tuple(launch), tuple(spoken), tuple(test), tuple(beyond[n_test:]), tuple(beyond[:n_test]))


def _slots(given: Any) -> Slots:
    """Slots in any of the forms that a row may have, values in single blanks; sorted."""
    pairs = given.items() if isinstance(given, Mapping) else given
    named = ((one["name"], one["value"]) if isinstance(one, Mapping) else one for one in pairs)
    return tuple(sorted((str(name), " ".join(str(value).split()).casefold()) for name, value in named))
