"""Candidate pairs of whole sessions, and their signals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selflearn.detect.columns import TurnColumns, turn_columns
from selflearn.detect.meaning import meanings_of
from selflearn.detect.signals import PAIR_SIGNALS, levels
from selflearn.detect.similarity import compare
from selflearn.encoding import load_encoder
from selflearn.ragged import Floats, Ints
from selflearn.settings import Detect

_PAIRS_AT_ONCE = 20_000


@dataclass(frozen=True)
class Comparison:
    """Turns, and what every candidate pair of them has in common.

    Attributes:
        source, target: rows of the turns, shape (pairs,); sorted by source, then target.
        distance: turns from source to target.
        signals: shape (pairs, signals), in the order of `PAIR_SIGNALS`, NaN where missing.
        seeds: shape (pairs,), in [0, 1].
        rows: the turns as they came (columns of `detection.observed`).
    """

    turns: TurnColumns
    source: Ints
    target: Ints
    distance: Ints
    signals: Floats
    seeds: Floats
    rows: pa.Table

    @cached_property
    def levels(self) -> npt.NDArray[np.int8]:
        return levels(self.signals, PAIR_SIGNALS)

    @property
    def n_turns(self) -> int:
        return len(self.turns.at)


def compare_sessions(turns: pa.Table, settings: Detect) -> Comparison:
    """Compare each turn with the `max_turns` later ones of its session.

    Pairs further apart than `max_gap_minutes` are no candidates; of a session, the first `max_turns_per_session` turns
    are compared. `turns` holds whole sessions, in order (columns of `detection.observed`).

    Raises:
        SelflearnError: the encoder that the settings name cannot be loaded.
    """
    index = turns["turn_index"].to_numpy().astype(np.int64)
    session = _sessions(turns, index, settings.max_turns_per_session)
    columns = turn_columns(turns, session)
    source, target = _candidates(session, columns.at, index, settings)
    distance = index[target] - index[source]
    meanings = meanings_of(columns, source, target, load_encoder(settings.encoder)) if settings.encoder else None
    signals, seeds = np.empty((len(source), len(PAIR_SIGNALS))), np.empty(len(source))
    for start in range(0, len(source), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        signals[some], seeds[some] = compare(columns, source[some], target[some], distance[some], meanings)
    return Comparison(columns, source, target, distance, signals, seeds, turns)


def _sessions(turns: pa.Table, index: Ints, most: int) -> Ints:
    """A number for each session; what lies beyond its first `most` turns counts as others."""
    session = turns["session_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return np.asarray(session * (int(index.max(initial=0)) // most + 1) + index // most)


def _candidates(session: Ints, at: Ints, index: Ints, settings: Detect) -> tuple[Ints, Ints]:
    max_gap = settings.max_gap_minutes * 60e6
    found = []
    for distance in range(1, settings.max_turns + 1):
        source = np.arange(len(session) - distance)
        target = source + distance
        near = at[target] - at[source] <= max_gap
        kept = near & (session[source] == session[target]) & (index[target] < settings.max_turns_per_session)
        found.append((source[kept], target[kept]))
    sources, targets = (np.concatenate(ends) for ends in zip(*found, strict=True))
    order = np.lexsort((targets, sources))
    return sources[order], targets[order]
