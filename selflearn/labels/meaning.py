"""Words that mean what a value means, though they neither look nor sound like it: by the vectors of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from selflearn.ragged import Floats, offsets_of
from selflearn.wording import words

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""Texts to vectors, shape (texts, dimension), of length one or zero; equal functions give equal vectors."""


def alike_in_meaning(
    values: Sequence[str], said: Sequence[str], stretches: Sequence[tuple[int, int]], encode: Encode
) -> Floats:
    """How alike each value and each stretch of what was said are in meaning, at most 1; shape (values, stretches).

    The cosine of both as a whole, or that of the value's word which has the least like in the stretch, where it is
    less: "march" means nearly what "march the seventh" does, but lacks part of it.

    Args:
        values: each of a word at least.
        said: words.
        stretches: first and last word (exclusive).
        encode: what makes vectors.
    """
    wanted = [words(value) for value in values]
    whole = [" ".join(said[first:beyond]) for first, beyond in stretches]
    parts = [values, whole, said, list(chain.from_iterable(wanted))]
    vectors = encode(list(chain.from_iterable(parts))).astype(np.float64)
    of_value, of_stretch, of_said, of_wanted = np.split(vectors, np.cumsum([len(part) for part in parts])[:-1])
    word = of_wanted @ of_said.T
    best = np.stack([word[:, first:beyond].max(axis=1) for first, beyond in stretches], axis=1)
    least = np.minimum.reduceat(best, offsets_of([len(one) for one in wanted])[:-1], axis=0)
    return np.asarray(np.minimum(of_value @ of_stretch.T, least))
