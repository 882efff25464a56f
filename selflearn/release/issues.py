"""What a person should look at in a training set: near duplicates, conflicts, imbalance, outliers, leaks."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from selflearn.release.likeness import likeness, near_pairs
from selflearn.release.rows import Row, Sentence, meaning_of, sentence_of
from selflearn.turns.text import normalise_text

KINDS = ("conflict", "near_conflict", "near_duplicate", "outlier", "imbalance", "leak")
_MOST_OF_KIND = 200
_RARE = 0.1
_UNLIKE = 0.2
"""A sentence that is less like any of its intent shares hardly a word with them."""


@dataclass(frozen=True)
class Issue:
    """One thing to look at.

    Attributes:
        kind: one of `KINDS`.
        locale: of the sentences.
        text: the sentence, or the intent of an imbalance.
        note: what is the matter, in words.
    """

    kind: str
    locale: str
    text: str
    note: str


@dataclass(frozen=True)
class Issues:
    """What was found: how often each kind, and of each the first ones."""

    counts: Mapping[str, int]
    listed: tuple[Issue, ...]

    def to_json(self) -> str:
        """As `from_json` reads it."""
        listed = [asdict(issue) for issue in self.listed]
        return json.dumps({"counts": dict(self.counts), "listed": listed}, ensure_ascii=False)

    @classmethod
    def from_json(cls, content: str) -> Issues:
        """The inverse of `to_json`."""
        found = json.loads(content)
        return cls(found["counts"], tuple(Issue(**issue) for issue in found["listed"]))


def find_issues(examples: Sequence[Row], leaks: Mapping[Sentence, str]) -> Issues:
    """Issues of a training set.

    Args:
        examples: rows of `training_set.EXAMPLE`.
        leaks: of `likeness.leaks`: examples that stand in evaluation sets all the same (launch sentences).
    """
    counts: Counter[str] = Counter()
    listed: list[Issue] = []
    for issue in _issues(examples, leaks):
        counts[issue.kind] += 1
        if counts[issue.kind] <= _MOST_OF_KIND:
            listed.append(issue)
    return Issues({kind: counts[kind] for kind in KINDS}, tuple(listed))


def _issues(examples: Sequence[Row], leaks: Mapping[Sentence, str]) -> Iterator[Issue]:
    yield from _conflicts(examples)
    by_locale: dict[str, list[Row]] = defaultdict(list)
    for row in examples:
        by_locale[row["locale"]].append(row)
    for locale, rows in sorted(by_locale.items()):
        yield from _of_likeness(locale, rows)
        yield from _imbalance(locale, rows)
    for (locale, text), other in sorted(leaks.items()):
        yield Issue("leak", locale, text, f"an evaluation set has {other!r}, and the launch set this")


def _conflicts(examples: Iterable[Row]) -> Iterator[Issue]:
    """One sentence in one context with two meanings."""
    meanings: dict[tuple[Sentence, str], set[str]] = defaultdict(set)
    for row in examples:
        intent, slots = meaning_of(row)
        said = "".join(f", {name}={value}" for name, value in sorted(slots or ()))
        meanings[sentence_of(row), row["context"]].add(intent if slots is None else intent + said)
    for ((locale, text), context), found in sorted(meanings.items()):
        if len(found) > 1:
            after = f" after {context}" if context else ""
            yield Issue("conflict", locale, text, f"means {' and '.join(sorted(found))}{after}")


def _of_likeness(locale: str, rows: Sequence[Row]) -> Iterator[Issue]:
    """Mined sentences that are nearly another one, or like none of their intent."""
    texts = [normalise_text(row["text"]) for row in rows]
    is_mined = [row["origin"] != "launch" for row in rows]
    for first, second in zip(*(places.tolist() for places in near_pairs(texts)), strict=True):
        at, other = (first, second) if is_mined[first] else (second, first)
        if is_mined[at] and texts[at] != texts[other] and rows[at]["context"] == rows[other]["context"]:
            yield _near(locale, rows, texts, at, other)
    by_intent: dict[str, list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        by_intent[row["intent"]].append(at)
    for intent, places in sorted(by_intent.items()):
        if len(places) == 1:
            continue
        of_intent = [texts[at] for at in places]
        mined = np.array([place for place, at in enumerate(places) if is_mined[at]], dtype=np.int64)
        for block, found in likeness([of_intent[place] for place in mined], of_intent):
            alike = found.toarray()
            alike[np.arange(len(alike)), mined[block]] = 0
            for place, most in zip(mined[block].tolist(), alike.max(axis=1).tolist(), strict=True):
                if most < _UNLIKE:
                    note = f"is like no other sentence of {intent} ({most:.2f} at most)"
                    yield Issue("outlier", locale, of_intent[place], note)


def _near(locale: str, rows: Sequence[Row], texts: Sequence[str], at: int, other: int) -> Issue:
    intent, another = rows[at]["intent"], rows[other]["intent"]
    if intent == another:
        return Issue("near_duplicate", locale, texts[at], f"is nearly {texts[other]!r}")
    return Issue("near_conflict", locale, texts[at], f"is {intent}; {texts[other]!r} is {another}")


def _imbalance(locale: str, rows: Iterable[Row]) -> Iterator[Issue]:
    """Intents with less than a tenth, or more than ten times, of the examples that the median intent has."""
    counts = Counter(row["intent"] for row in rows)
    median = float(np.median(list(counts.values())))
    for intent, n in sorted(counts.items()):
        if not _RARE * median <= n <= median / _RARE:
            yield Issue("imbalance", locale, intent, f"has {n} examples, the median intent {median:.0f}")
