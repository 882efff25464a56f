"""Values on the words: where each value of a goal stands in what was said, or in what was heard of it.

A value that stands there letter by letter is taken as it is. What recognition mangled is put on the stretch of words
that is most like it in letters and in sound, both Latinised, so that any script is compared with any other. All values
of a goal are placed at once, by an optimal assignment (Jonker & Volgenant 1987) whose spans may not overlap. A value
that nothing in the words is like has no place; nor has a number where another one stands, for those are not misspelt.
Where there is an encoder, such a value is looked for once more among the words that are left, by what they mean: people
say "telly" where the goal writes "tv", or name it in another language than the goal does.
"""

from __future__ import annotations

import heapq
import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from anyascii import anyascii
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from scipy.optimize import linear_sum_assignment

from selflearn.labels.meaning import Encode, alike_in_meaning
from selflearn.ragged import Floats
from selflearn.sound import sound_keys
from selflearn.wording import word_spans

Place = tuple[int, int]
"""Characters from start to end (exclusive)."""

LEAST_ALIKE = 0.6
"""Words less alike than this are no place of a value: measured on one half of SLURP's sentences, held on the other.

Of meanings, on a fifth of xSID's sentences and on that half of SLURP's.
"""
_BY_SOUND = 0.3
_HOPELESS = (LEAST_ALIKE - _BY_SOUND) / (1 - _BY_SOUND)
"""What is no more alike in letters is no place, whatever it sounds like."""
_LONGEST = 2.0
"""A place has at most so many times the letters of its value, and at least one part in so many."""
_MORE_WORDS = 2
"""A place that means a value has at most so many words more."""
_MOST_WORDS = 200
_MOST_BRANCHES = 500
_NO_DIGIT = re.compile(r"\D+")
_SHORTER = 1e-6
"""Of places that are equally alike the shorter is taken, then the earlier."""


def project(text: str, values: Sequence[str], encode: Encode | None = None) -> list[Place | None]:
    """The place of each value in the text, None where it has none; no two overlap.

    >>> project("play radio head in the kitten", ["radiohead", "kitchen", "paris"])
    [(5, 15), (23, 29), None]
    """
    places = exact_places(text, values)
    if any(place is None for place in places):
        places = _by_likeness(text, values, places)
    if encode and any(place is None for place in places):
        places = _by_meaning(text, values, places, encode)
    return places


def _by_likeness(text: str, values: Sequence[str], exact: list[Place | None]) -> list[Place | None]:
    """The places of all values, in view of those that some have letter by letter."""
    places, letters = _stretches(text, values)
    for place in sorted({place for place in exact if place is not None} - set(places)):
        places.append(place)
        letters.append(_latin(text[place[0] : place[1]]))
    if not places:
        return exact
    gain = _likeness(text, places, letters, values) - LEAST_ALIKE
    for row, found in enumerate(exact):
        if found is not None:
            gain[row, places.index(found)] = 1 - LEAST_ALIKE
    return _placed(gain, places)


def _by_meaning(text: str, values: Sequence[str], known: list[Place | None], encode: Encode) -> list[Place | None]:
    """The places that some values have, and those of the others among the words that are left."""
    spans = word_spans(text)[:_MOST_WORDS]
    n_words = {row: len(word_spans(values[row])) for row, place in enumerate(known) if place is None}
    missing = [row for row, count in n_words.items() if count]
    longest = max((n_words[row] for row in missing), default=0) + _MORE_WORDS
    taken = [place for place in known if place is not None]
    pairs = [(first, last) for first in range(len(spans)) for last in range(first, min(first + longest, len(spans)))]
    where = {pair: (spans[pair[0]][0], spans[pair[1]][1]) for pair in pairs}
    free = [pair for pair in pairs if not any(_overlap(where[pair], other) for other in taken)]
    if not missing or not free:
        return known
    wanted, places = [values[row] for row in missing], [where[pair] for pair in free]
    said = [text[start:end] for start, end in spans]
    alike = alike_in_meaning(wanted, said, [(first, last + 1) for first, last in free], encode)
    numbers, there = _numbers(map(_latin, wanted)), _numbers(_latin(text[start:end]) for start, end in places)
    # A number may be written out, but is no other number.
    is_other = [[bool(number and other and number != other) for other in there] for number in numbers]
    found = dict(zip(missing, _placed(np.where(is_other, 0.0, alike) - LEAST_ALIKE, places), strict=True))
    return [found.get(row, place) for row, place in enumerate(known)]


def _placed(gain: Floats, places: Sequence[Place]) -> list[Place | None]:
    """The place of each value, of its gain in each; of places that gain alike the shorter, then the earlier."""
    length = np.array([end - start for start, end in places])
    chosen = _assigned(gain - _SHORTER * (length + np.arange(len(places)) / len(places)), places)
    return [places[at] if at is not None else None for at in chosen]


def exact_places(text: str, values: Sequence[str]) -> list[Place | None]:
    """First place of each value letter by letter, but for case, as whole words; the longest values choose first."""
    lowered = text.casefold()
    # Case folding can change a text's length; then positions in it are not positions in the text.
    searchable = lowered if len(lowered) == len(text) else text
    found: list[Place | None] = [None] * len(values)
    for row in sorted(range(len(values)), key=lambda row: -len(values[row])):
        found[row] = _find(searchable, values[row].casefold(), [place for place in found if place])
    return found


def _find(text: str, value: str, taken: Sequence[Place]) -> Place | None:
    start = text.find(value) if value else -1
    while start >= 0:
        place = start, start + len(value)
        if not _inside_word(text, *place) and not any(_overlap(place, other) for other in taken):
            return place
        start = text.find(value, start + 1)
    return None


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


def _overlap(one: Place, other: Place) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _stretches(text: str, values: Sequence[str]) -> tuple[list[Place], list[str]]:
    """Stretches of words about as long as a value, and their Latin letters."""
    words = word_spans(text)[:_MOST_WORDS]
    latin = [_latin(text[start:end]) for start, end in words]
    whole, ends = "".join(latin), list(itertools.accumulate(map(len, latin)))
    lengths = [len(_latin(value)) for value in values if value]
    shortest, longest = max(1, min(lengths, default=0) / _LONGEST), max(lengths, default=0) * _LONGEST
    places, letters = [], []
    for first, (start, _) in enumerate(words):
        begin = ends[first] - len(latin[first])
        enough, beyond = bisect_left(ends, begin + shortest, first), bisect_right(ends, begin + longest, first)
        places += [(start, words[last][1]) for last in range(enough, beyond)]
        letters += [whole[begin : ends[last]] for last in range(enough, beyond)]
    return places, letters


def _likeness(text: str, places: Sequence[Place], letters: Sequence[str], values: Sequence[str]) -> Floats:
    """How alike each value and each place are in letters and in sound, in [0, 1]; shape (values, places)."""
    wanted = [_latin(value) for value in values]
    by_letters = _similarity(wanted, letters)
    if (by_letters <= _HOPELESS).all():
        # Sounds take most of the time.
        return (1 - _BY_SOUND) * by_letters
    keys = sound_keys([*values, *(text[start:end] for start, end in places)])
    sounds = _similarity(keys[: len(values)], keys[len(values) :])
    # Where there are vowels alone, letters tell more than no sounds at all.
    by_sound = np.where([not key for key in keys[: len(values)]], 0.0, _BY_SOUND)[:, None]
    alike = (1 - by_sound) * by_letters + by_sound * sounds
    numbers = _numbers(letters)
    is_other = [[number != there for there in numbers] for number in _numbers(wanted)]
    return np.where(is_other, 0.0, alike)


def _numbers(texts: Iterable[str]) -> list[str]:
    """The digits of each text."""
    return [_NO_DIGIT.sub("", text) for text in texts]


def _similarity(left: Sequence[str], right: Sequence[str]) -> Floats:
    """One minus the edit distance over the longer one's length; shape (left, right)."""
    return np.asarray(cdist(left, right, scorer=Levenshtein.normalized_similarity, dtype=np.float64))


@lru_cache(maxsize=100_000)
def _latin(text: str) -> str:
    return "".join(character for character in anyascii(text).casefold() if character.isalnum())


def _assigned(gain: Floats, spans: Sequence[Place]) -> list[int | None]:
    """The span of each value, or none, that gain most together; no two overlap.

    The assignment alone may choose spans that overlap: then one of the two values must do without its span, and the
    better of both ways is followed first (branch and bound). None at all where that takes too long.
    """
    rows = len(gain)
    usable = np.flatnonzero((gain > 0).any(axis=0))
    if not len(usable):
        return [None] * rows
    # A column of its own for each value is no span.
    start = np.concatenate([gain[:, usable], np.where(np.eye(rows, dtype=bool), 0.0, -np.inf)], axis=1)
    start[:, : len(usable)][start[:, : len(usable)] <= 0] = -np.inf
    serial = itertools.count()
    heap = [(-_best(start)[0], next(serial), start)]
    for _ in range(_MOST_BRANCHES):
        open_gain = heapq.heappop(heap)[2]
        columns = _best(open_gain)[1]
        chosen = [int(usable[at]) if at < len(usable) else None for at in columns]
        clash = _clash(chosen, spans)
        if clash is None:
            return chosen
        for row in clash:
            without = open_gain.copy()
            without[row, columns[row]] = -np.inf
            heapq.heappush(heap, (-_best(without)[0], next(serial), without))
    return [None] * rows


def _best(gain: Floats) -> tuple[float, list[int]]:
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return float(gain[rows, columns].sum()), columns.tolist()


def _clash(chosen: Sequence[int | None], spans: Sequence[Place]) -> tuple[int, int] | None:
    placed = [(row, spans[at]) for row, at in enumerate(chosen) if at is not None]
    for (row, one), (other_row, other) in itertools.combinations(placed, 2):
        if _overlap(one, other):
            return row, other_row
    return None
