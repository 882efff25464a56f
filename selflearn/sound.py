"""What texts roughly sound like, in any script: their letters' broad classes of sounds.

Two texts that sound alike look alike in their *keys*. Any script is transliterated to Latin letters, character by
character (anyascii); consonants are folded to a few classes, vowels and spaces dropped: what a recogniser mishears
keeps the consonants' classes more often than the vowels, and moves the bounds of words. The classes are those of
Soundex (Russell 1918), which are made for spellings, with sibilants parted from velars and liquids joined as in
Dolgopolsky's sound classes (1964), which are made for all languages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from anyascii import anyascii

from selflearn.wording import EDGE

CLASSES = {"P": "bfpvw", "T": "dt", "S": "jsxz", "K": "cgkq", "M": "mn", "R": "lr", "A": "aeiouy"}
VOWEL = "A"
SOFTENING = "eihy"
"""Letters before which a c is a sibilant."""


def sound_keys(texts: Sequence[str]) -> list[str]:
    """The key of each text; empty where it has neither consonant nor digit.

    >>> sound_keys(["the city centre", "de siddy sender", "東京 3", "eh"])
    ['TSTSMTR', 'TSTSMTR', 'TMKSMK3', '']
    """
    joined = EDGE.join([text.replace(EDGE, " ") for text in texts])
    letters = np.frombuffer(joined.translate(_LETTERS).encode("ascii"), dtype=np.uint8)
    sounds = _CLASS_OF[letters]
    is_soft = (letters[:-1] == ord("c")) & _IS_SOFTENING[letters[1:]]
    sounds[:-1][is_soft] = ord("S")
    sounds = sounds[sounds > 0]
    # A class twice in a row is one sound; digits are no sounds, and each counts.
    goes_on = np.zeros(len(sounds), dtype=bool)
    goes_on[1:] = (sounds[1:] == sounds[:-1]) & (sounds[1:] >= ord("A"))
    keys: str = sounds[~goes_on & (sounds != ord(VOWEL))].tobytes().decode("ascii")
    return keys.split(EDGE)[: len(texts)]


class _Letters(dict[int, str]):
    """Lower-case Latin letters of code points, looked up once each."""

    def __missing__(self, code: int) -> str:
        return self.setdefault(code, anyascii(chr(code)).lower())


_LETTERS = _Letters()
_CLASS_OF = np.zeros(128, dtype=np.uint8)
"""Class of each ASCII character; digits and the edge are their own, 0 is none."""
for _name, _members in {**CLASSES, **{own: own for own in f"0123456789{EDGE}"}}.items():
    _CLASS_OF[[*_members.encode()]] = ord(_name)
_IS_SOFTENING = np.zeros(128, dtype=bool)
_IS_SOFTENING[[*SOFTENING.encode()]] = True
