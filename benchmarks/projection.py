"""Slot values put on the words: span F1 on recordings as they were recognised, and on sentences as people wrote them.

`--data DIR` holds `slurp_asr`, `slurp_text`, `hwu64` and `snips` (`.jsonl.gz`). Half of SLURP's sentences, by the MD5
of their words, served to choose the constants of `selflearn.labels.projection`; every figure here is of the other half.

*Recognised text*: the slots of the written sentence are put on what a recogniser heard of it. Where they really stand
there is found without the projection, from the whole written sentence: it is aligned with the recognised text character
by character (Levenshtein), and a word belongs to the slot with whose characters most of its own are aligned. A value
is *recognisable* where these words share half of its letters or more (edit distance over the longer one's length); one
that is not should get no place, and any it gets counts as wrong. *Guessed* is the share of values of the same slot in
another sentence, which were not said, that got a place. *Written text*: the values, in lower case, put on the very
sentence; of values that stand twice in it only one place is right.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from rapidfuzz.distance import Levenshtein

from common import print_figures, write_scores
from selflearn.labels.meaning import Encode
from selflearn.labels.projection import Place, project
from selflearn.wording import word_spans

_SLOT = re.compile(r"\[([^:\]]+?) : ([^\]]*)\]")
_RECOGNISABLE = 0.5
_LIMITS = (0.3, 0.4, 0.5, 0.6, 1.0)
_WRITTEN = ("slurp_text", "hwu64", "snips")
_SEED = 20260105

Row = dict[str, Any]


@dataclass(frozen=True)
class Value:
    """A slot's value as it was written, where it really stands in `Case.text` if anywhere, and how like it that is."""

    slot: str
    written: str
    place: Place | None
    likeness: float


@dataclass(frozen=True)
class Case:
    """A text, and the values that are to be put on it."""

    text: str
    values: tuple[Value, ...]


def main() -> None:
    """Run the benchmark and write its files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores")
    given = parser.parse_args()
    heard = recognised(given.data, is_reported)
    figures: dict[str, Any] = {
        "recognised": scores(heard, _RECOGNISABLE),
        "recognised_f1_by_likeness": {f"{limit:.1f}": scores(heard, limit)["f1"] for limit in _LIMITS},
        "recognised_mangled": scores(mangled(heard), _RECOGNISABLE),
        "guessed": guessed(heard),
        "written": {name: scores(written(given.data, name), _RECOGNISABLE) for name in _WRITTEN},
        "seed": _SEED,
    }
    write_scores(given.out, figures, {})
    print_figures("Slot values put on the words", figures)


def recognised(folder: Path, is_in: Callable[[str], bool]) -> list[Case]:
    """Distinct recognised texts of the sentences that are in, with the slots of the sentence."""
    sentences = {row["id"]: row["annot"] for row in _rows(folder, "slurp_text") if "annot" in row}
    found: dict[tuple[str, str], Case] = {}
    for row in _rows(folder, "slurp_asr"):
        sentence, slots = parsed(sentences[row["id"]])
        text = row["asr"].casefold()
        if slots and is_in(sentence):
            values = tuple(_heard(slot, sentence, place, text) for slot, place in slots)
            found[sentence, text] = Case(text, values)
    return list(found.values())


def written(folder: Path, name: str) -> list[Case]:
    """Distinct sentences with their own slots."""
    found = {}
    for row in _rows(folder, name):
        sentence, slots = _of_parts(row["parts"]) if "parts" in row else parsed(row.get("annot") or row["text"])
        if slots and (name != "slurp_text" or is_reported(sentence)):
            values = (Value(slot, sentence[place[0] : place[1]].casefold(), place, 1.0) for slot, place in slots)
            found[sentence] = Case(sentence, tuple(values))
    return list(found.values())


def parsed(annotated: str) -> tuple[str, list[tuple[str, Place]]]:
    """The words of `... [slot : value] ...`, and the slots' places in them.

    >>> parsed("wake me at [time : nine]")
    ('wake me at nine', [('time', (11, 15))])
    """
    parts: list[tuple[str, str | None]] = []
    at = 0
    for slot in _SLOT.finditer(annotated):
        parts += [(annotated[at : slot.start()], None), (slot[2], slot[1].strip())]
        at = slot.end()
    return _of_parts([*parts, (annotated[at:], None)])


def _of_parts(parts: Sequence[tuple[str, str | None]]) -> tuple[str, list[tuple[str, Place]]]:
    text, slots = "", []
    for words, slot in parts:
        if slot and words.strip():
            start = len(text) + len(words) - len(words.lstrip())
            slots.append((slot, (start, start + len(words.strip()))))
        text += words
    return text, slots


def _heard(slot: str, sentence: str, place: Place, text: str) -> Value:
    """The words of the recognised text that stand where the value stood."""
    source = [-1] * len(text)
    for step in Levenshtein.opcodes(sentence, text):
        if step.tag in ("equal", "replace"):
            source[step.dest_start : step.dest_end] = range(step.src_start, step.src_end)
    own = []
    for start, end in word_spans(text):
        aligned = [at for at in source[start:end] if at >= 0]
        if 2 * sum(place[0] <= at < place[1] for at in aligned) > len(aligned):
            own.append((start, end))
    value = sentence[place[0] : place[1]]
    if not own:
        return Value(slot, value, None, 0.0)
    found = own[0][0], own[-1][1]
    likeness = Levenshtein.normalized_similarity(value.replace(" ", ""), text[found[0] : found[1]].replace(" ", ""))
    return Value(slot, value, found, likeness)


def scores(cases: Sequence[Case], recognisable: float, encode: Encode | None = None) -> dict[str, float]:
    """Precision, recall and F1 of exact places; microseconds a text."""
    n_right = n_placed = n_wanted = 0
    started = time.perf_counter()
    places = [project(case.text, [value.written for value in case.values], encode) for case in cases]
    seconds = time.perf_counter() - started
    for case, of_case in zip(cases, places, strict=True):
        for value, place in zip(case.values, of_case, strict=True):
            is_wanted = value.place is not None and value.likeness >= recognisable
            n_wanted += is_wanted
            n_placed += place is not None
            n_right += is_wanted and place == value.place
    precision, recall = n_right / n_placed, n_right / n_wanted
    return {
        "f1": 2 * precision * recall / (precision + recall),
        "precision": precision,
        "recall": recall,
        "values": sum(len(case.values) for case in cases),
        "recognisable": n_wanted,
        "microseconds_per_text": seconds / len(cases) * 1e6,
    }


def guessed(cases: Sequence[Case], encode: Encode | None = None) -> float:
    """Share of values from other sentences that get a place, though they were not said."""
    others: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        for value in case.values:
            others[value.slot].add(value.written)
    rng, n_placed, n_tried = Random(_SEED), 0, 0
    for case in cases:
        for value in case.values:
            unsaid = sorted(other for other in others[value.slot] if not set(other.split()) & set(case.text.split()))
            if unsaid:
                n_tried += 1
                n_placed += project(case.text, [rng.choice(unsaid)], encode) != [None]
    return n_placed / n_tried


def mangled(cases: Sequence[Case]) -> list[Case]:
    """Of each case the values that were not recognised letter by letter."""
    kept = [Case(case.text, tuple(value for value in case.values if value.likeness < 1)) for case in cases]
    return [case for case in kept if case.values]


def is_reported(sentence: str) -> bool:
    """Whether the sentence is of the half that chose no constant."""
    return hashlib.md5(sentence.encode()).digest()[-1] % 2 == 1


def _rows(folder: Path, name: str) -> Iterator[Row]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


if __name__ == "__main__":
    main()
