"""What a person should look at in a training set: near duplicates, conflicts, imbalance, outliers, leaks."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from selflearn.release.likeness import NEAR_DUPLICATE, likeness
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
    # Compared row by row with all others: numbers, not strings.
    intents, contexts = (
        np.unique([row[name] for row in rows], return_inverse=True)[1] for name in ("intent", "context")
    )
    mined = np.array([at for at, row in enumerate(rows) if row["origin"] != "launch"], dtype=np.int64)
    for block, found in likeness([texts[at] for at in mined], texts):
        alike = found.toarray()
        for at, one in zip(mined[block].tolist(), alike, strict=True):
            one[at] = 0
            yield from _near(locale, rows, texts, one, at, contexts == contexts[at])
            of_intent = (intents == intents[at]) & (np.arange(len(rows)) != at)
            if of_intent.any() and one[of_intent].max() < _UNLIKE:
                note = f"is like no other sentence of {rows[at]['intent']} ({one[of_intent].max():.2f} at most)"
                yield Issue("outlier", locale, texts[at], note)


def _near(
    locale: str,
    rows: Sequence[Row],
    texts: Sequence[str],
    alike: npt.NDArray[np.float64],
    at: int,
    is_in_context: npt.NDArray[np.bool_],
) -> Iterator[Issue]:
    for other in np.flatnonzero((alike >= NEAR_DUPLICATE) & is_in_context).tolist():
        is_twin = rows[other]["origin"] != "launch" and other < at
        if is_twin or texts[other] == texts[at]:
            continue
        intent, another = rows[at]["intent"], rows[other]["intent"]
        if intent == another:
            yield Issue("near_duplicate", locale, texts[at], f"is nearly {texts[other]!r}")
        else:
            yield Issue("near_conflict", locale, texts[at], f"is {intent}; {texts[other]!r} is {another}")


def _imbalance(locale: str, rows: Iterable[Row]) -> Iterator[Issue]:
    """Intents with less than a tenth, or more than ten times, of the examples that the median intent has."""
    counts = Counter(row["intent"] for row in rows)
    median = float(np.median(list(counts.values())))
    for intent, n in sorted(counts.items()):
        if not _RARE * median <= n <= median / _RARE:
            yield Issue("imbalance", locale, intent, f"has {n} examples, the median intent {median:.0f}")
