"""A simulated speech recogniser: what was heard instead of what was said, as a scored n-best list.

It knows no language. Letters are changed, lost or swapped, words are dropped where there are spaces, and
values are taken for others that look alike. Most mishearings are drawn from a few per piece of text, so that
they recur over people; a tail is heard once.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from random import Random

from rapidfuzz import fuzz, process

from selflearn.simulate.chance import pick
from selflearn.simulate.world import Phrasebook, Utterance

_COMMON = tuple(range(6))
_P_TAIL = 0.08
_P_TWICE = 0.25
_P_LOOKALIKE = 0.5
_P_TRUTH_LISTED = 0.65
_LOOKALIKE_LIMIT = 50
_LIST_LENGTHS = (0.30, 0.62, 0.84, 0.95)

Hypotheses = list[tuple[str, float]]


class Recogniser:
    """Hears one language. What is misheard is the caller's chance, what it turns into depends on ``seed``."""

    def __init__(self, book: Phrasebook, seed: int) -> None:
        self._key = f"{seed}/{book.locale}"
        self._letters = _letters(book)
        self._values = book.values
        self._lookalikes = lru_cache(maxsize=4096)(self._find_lookalikes)
        self._common = lru_cache(maxsize=16384)(self._garble)

    def listen(self, rng: Random, said: Utterance, noise: float) -> tuple[Utterance, Hypotheses]:
        """What is heard of ``said`` where ``noise`` is the chance of a mishearing.

        Returns:
            The top hypothesis, and one to five distinct ``(text, log probability)``, best first.
        """
        is_noisy = rng.random() < noise
        heard = self._mishear(rng, said) if is_noisy else said
        texts = {heard.text: None}
        length = 1 + bisect_right(_LIST_LENGTHS, rng.random())
        if length > 1 and is_noisy and rng.random() < _P_TRUTH_LISTED:
            texts[said.text] = None
        for _ in range(length - len(texts)):
            texts[self._mishear(rng, said).text] = None
        score = -abs(rng.gauss(1.1, 0.9)) if is_noisy else -abs(rng.gauss(0.4, 0.5))
        hypotheses = []
        for text in texts:
            hypotheses.append((text, round(score - 0.001, 3)))
            score -= rng.expovariate(0.9)
        return heard, hypotheses

    def _mishear(self, rng: Random, said: Utterance) -> Utterance:
        texts = list(said.texts)
        reach = _reach(said.texts)
        for _ in range(2 if rng.random() < _P_TWICE else 1):
            place = bisect_right(reach, rng.random() * reach[-1])
            texts[place] = self._another(rng, texts[place], said.carrier.names[place])
        heard = Utterance(said.carrier, tuple(texts))
        return heard if heard.text else said

    def _another(self, rng: Random, text: str, slot: str) -> str:
        lookalikes = self._lookalikes(slot, text) if slot else ()
        if lookalikes and rng.random() < _P_LOOKALIKE:
            return pick(rng, lookalikes)
        if rng.random() < _P_TAIL:
            garbled = self._garble(text, rng.getrandbits(32))
        else:
            garbled = self._common(text, pick(rng, _COMMON))
        return (garbled.strip() or text) if slot else garbled

    def _find_lookalikes(self, slot: str, value: str) -> tuple[str, ...]:
        others = [other for other in self._values[slot] if other != value]
        found = process.extract(value, others, scorer=fuzz.ratio, limit=2, score_cutoff=_LOOKALIKE_LIMIT)
        return tuple(str(match[0]) for match in found)

    def _garble(self, text: str, variant: int) -> str:
        """One mishearing of ``text`` per variant; ``text`` itself where none is possible."""
        rng = Random(f"{self._key}/{text}/{variant}")
        words = text.split(" ")
        named = [place for place, word in enumerate(words) if word]
        if len(named) > 1 and rng.random() < 0.3:
            del words[rng.choice(named)]
            return " ".join(words)
        places = [place for place, letter in enumerate(text) if not letter.isspace()]
        if not places:
            return text
        place = rng.choice(places)
        change = rng.random()
        if change < 0.35 and len(places) > 1:
            return text[:place] + text[place + 1 :]
        if change < 0.55 and text[place + 1 : place + 2].strip():
            return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
        return text[:place] + rng.choice(self._letters) + text[place + 1 :]


@lru_cache(maxsize=4096)
def _reach(texts: tuple[str, ...]) -> tuple[int, ...]:
    """Where each text ends when all are laid in a row: long pieces are misheard more often."""
    ends = []
    end = 0
    for text in texts:
        end += len(text)
        ends.append(end)
    return tuple(ends)


def _letters(book: Phrasebook) -> list[str]:
    texts = [text for carrier in book.carriers() for text in carrier.pieces]
    texts += [value for values in book.values.values() for value in values]
    return sorted({letter for letter in "".join(texts).lower() if letter.isalpha()})
