"""What a recogniser makes of words that somebody else wrote: words for others that sound alike, lost, or garbled.

It knows no language: what sounds alike is told by transliteration, with vowels and voiced consonants set equal. Most
mishearings of a word are drawn from a few, so that they recur over people; a tail is heard once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from random import Random

from anyascii import anyascii
from rapidfuzz import fuzz, process

from selflearn.simulate.chance import pick
from selflearn.wording import word_spans, words

_COMMON = tuple(range(5))
_P_TAIL = 0.08
_P_TWO_WORDS = 0.35
_P_LOST = 0.15
_P_GARBLED = 0.2
_P_TRUTH_LISTED = 0.6
_P_LISTED = 0.7
_MOST_ALIKE = 5
_LEAST_ALIKE = 45
_SOUNDS = str.maketrans("bdgvzjyqcouiw", "ptkfssikkaaia")

Hypotheses = list[tuple[str, float]]


class Channel:
    """Hears one language, whose words are those it may take others for."""

    def __init__(self, texts: Iterable[str], seed: int) -> None:
        self._vocabulary = sorted({word for text in texts for word in words(text.casefold())})
        self._sounds = [_sound(word) for word in self._vocabulary]
        self._seed = seed
        self._alike = lru_cache(maxsize=None)(self._find_alike)
        self._common = lru_cache(maxsize=None)(self._misheard)

    def hear(self, rng: Random, text: str, noise: float) -> Hypotheses:
        """One to three hypotheses and their log probabilities, best first; `noise` is the chance of a mishearing."""
        is_noisy = rng.random() < noise
        best = self._mishear(rng, text) if is_noisy else text
        texts = {best: None}
        if rng.random() < _P_LISTED:
            texts[text if is_noisy and rng.random() < _P_TRUTH_LISTED else self._mishear(rng, text)] = None
        score = -abs(rng.gauss(1.1, 0.8)) if is_noisy else -abs(rng.gauss(0.4, 0.5))
        found = []
        for heard in texts:
            found.append((heard, round(score - 0.001, 3)))
            score -= rng.expovariate(0.9)
        return found

    def _mishear(self, rng: Random, text: str) -> str:
        spans = word_spans(text)
        places = sorted(rng.sample(range(len(spans)), min(len(spans), 2 if rng.random() < _P_TWO_WORDS else 1)))
        for place in reversed(places):
            start, end = spans[place]
            variant = rng.getrandbits(32) if rng.random() < _P_TAIL else pick(rng, _COMMON)
            text = text[:start] + self._common(text[start:end], variant) + text[end:]
        return " ".join(text.split()) or text.strip() or "?"

    def _misheard(self, word: str, variant: int) -> str:
        rng = Random(f"{self._seed}/{word}/{variant}")
        kind = rng.random()
        if kind < _P_LOST:
            return ""
        alike = self._alike(word.casefold())
        if alike and kind > _P_LOST + _P_GARBLED:
            return pick(rng, alike)
        place = rng.randrange(len(word))
        return word[:place] + word[place + 1 :] if len(word) > 1 and rng.random() < 0.6 else word + word[place]

    def _find_alike(self, word: str) -> tuple[str, ...]:
        found = process.extract(
            _sound(word), self._sounds, scorer=fuzz.ratio, limit=_MOST_ALIKE + 1, score_cutoff=_LEAST_ALIKE
        )
        return tuple(self._vocabulary[at] for _, _, at in found if self._vocabulary[at] != word)


def _sound(word: str) -> str:
    folded = re.sub(r"[^a-z0-9]", "", anyascii(word).lower().replace("ph", "f")).translate(_SOUNDS)
    return re.sub(r"(.)\1+", r"\1", folded)
