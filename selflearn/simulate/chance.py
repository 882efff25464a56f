"""Chance that anybody can repeat: draws that depend on a key alone, and Zipfian picks."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from itertools import accumulate
from random import Random
from typing import TypeVar

T = TypeVar("T")


def draws(*key: object) -> tuple[float, ...]:
    """Eight numbers in [0, 1) that depend on ``key`` alone, in every process and on every machine."""
    digest = blake2b("\x1f".join(map(str, key)).encode(), digest_size=32).digest()
    return tuple(number / 2**32 for number in struct.unpack("<8I", digest))


@cache
def zipf(size: int) -> tuple[float, ...]:
    """Cumulative probabilities of ranks 0 .. size - 1, each rank r as likely as 1 / (r + 1)."""
    total = sum(1 / (rank + 1) for rank in range(size))
    return tuple(accumulate(1 / (rank + 1) / total for rank in range(size)))


def pick(rng: Random, options: Sequence[T]) -> T:
    """One of ``options``, which stand in order of popularity, by Zipf's law."""
    place = bisect_right(zipf(len(options)), rng.random())
    return options[min(place, len(options) - 1)]
