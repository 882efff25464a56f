"""Many distinct utterances: real people's sentences where a data folder is given, and the simulated people's.

Both are made more by other values in their slots; the simulated ones are heard through the simulated recogniser.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from selflearn.simulate.recogniser import Recogniser
from selflearn.simulate.world import PLAIN, Phrasebook, Utterance, known_locales, load_world
from selflearn.turns import normalise_text

_P_FILLER = 0.3
_P_MISHEARD = 0.3
_REAL_EXPANDED = 0.5
_VALUE = re.compile(r"\[(\w+) : ([^\]]+)\]")

Template = tuple[tuple[str, str], ...]
"""Pieces of a sentence: `(slot, value)`, or `("", text)`."""


def distinct_utterances(n: int, data: Path | None, seed: int) -> list[str]:
    """`n` distinct normalised texts in a random order; at most half of them are real sentences with other values.

    Args:
        n: how many.
        data: folder of real sentences, every `*.jsonl.gz` of it is read; None for simulated people alone.
        seed: of every draw.
    """
    rng = Random(seed)
    found: dict[str, None] = {}
    if data is not None:
        rows = list(chain.from_iterable(map(_rows, sorted(data.glob("*.jsonl.gz")))))
        _add(found, n, chain.from_iterable(map(_texts, rows)))
        _add(found, max(len(found), int(n * _REAL_EXPANDED)), _refilled(rows, rng))
    _add(found, n, _simulated(rng, seed))
    texts = list(found)
    rng.shuffle(texts)
    return texts


def _add(found: dict[str, None], n: int, texts: Iterator[str]) -> None:
    while len(found) < n and (text := next(texts, None)) is not None:
        if normal := normalise_text(text):
            found[normal] = None


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _texts(row: dict[str, Any]) -> Iterator[str]:
    """What was said, or heard, in a row of any of the files."""
    yield from (row[name] for name in ("text", "asr") if row.get(name))
    yield from (text for text, *_ in row.get("obs", {}).get("asr_nbest", ()))
    yield from (turn[2] for turn in row.get("turns", ()) if turn[0] == "U")


def _refilled(rows: list[dict[str, Any]], rng: Random) -> Iterator[str]:
    """Real sentences with slots, endlessly, each value replaced by one that was said in such a slot."""
    templates = [template for template in map(_template, rows) if any(slot for slot, _ in template)]
    values: dict[str, list[str]] = defaultdict(list)
    for slot, value in chain.from_iterable(templates):
        values[slot].append(value)
    while templates:
        yield "".join(rng.choice(values[slot]) if slot else text for slot, text in rng.choice(templates))


def _template(row: dict[str, Any]) -> Template:
    if "parts" in row:
        return tuple((slot or "", text) for text, slot in row["parts"])
    pieces = _VALUE.split(row.get("annot") or "")
    return tuple(
        piece
        for text, slot, value in zip(pieces[::3], [*pieces[1::3], ""], [*pieces[2::3], ""], strict=True)
        for piece in (("", text), (slot, value))
        if piece[1]
    )


def _simulated(rng: Random, seed: int) -> Iterator[str]:
    """What ten languages' simulated people say, as it is heard, endlessly; languages by turns."""
    books = load_world(known_locales()).phrasebooks
    spoken = [(book, [*book.carriers()], Recogniser(book, seed)) for book in books.values()]
    while True:
        for book, carriers, recogniser in spoken:
            said = Utterance.of(rng.choice(carriers), _values(book, rng), _filler(book, rng))
            yield recogniser.listen(rng, said, _P_MISHEARD)[0].text


def _values(book: Phrasebook, rng: Random) -> dict[str, str]:
    return {slot: rng.choice(values) for slot, values in book.values.items()}


def _filler(book: Phrasebook, rng: Random) -> tuple[str, str]:
    return rng.choice(book.fillers) if rng.random() < _P_FILLER else PLAIN
