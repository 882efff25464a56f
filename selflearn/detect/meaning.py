"""What turns mean, as vectors of an encoder: the rest of the signals see spelling, sound and readings alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selflearn.detect.columns import TurnColumns
from selflearn.detect.items import NONE
from selflearn.encoding import Encoder, Vectors
from selflearn.ragged import Floats, Ints


@dataclass(frozen=True)
class Meanings:
    """Vectors of the turns' first texts.

    Attributes:
        vectors: of each distinct text; zero where the encoder knows nothing of it.
        codes: row of each turn in `vectors`; `NONE` of a turn that is in no pair.
    """

    vectors: Vectors
    codes: Ints

    def similarity(self, source: Ints, target: Ints) -> Floats:
        """Cosine of each pair of turns, shape (pairs,); NaN where either has no vector."""
        n = len(self.vectors)
        keys, pair = np.unique(self.codes[source] * n + self.codes[target], return_inverse=True)
        left, right = np.divmod(keys, n)
        cosines = np.einsum("pd,pd->p", self.vectors[left], self.vectors[right]).astype(np.float64)
        is_known = np.einsum("td,td->t", self.vectors, self.vectors) > 0
        return np.asarray(np.where(is_known[left] & is_known[right], cosines, np.nan)[pair])


def meanings_of(turns: TurnColumns, source: Ints, target: Ints, encoder: Encoder) -> Meanings:
    """Encode the first text of each turn that is in a pair; each distinct text once.

    One text of the n-best stands for a turn: an encoder is slow beside all other signals, and those hear the rest.
    """
    compared = np.union1d(source, target)
    texts, of_turn = np.unique(turns.first_text[compared], return_inverse=True)
    codes = np.full(len(turns.at), NONE)
    codes[compared] = of_turn
    return Meanings(encoder.encode(turns.texts[texts].tolist()), codes)
