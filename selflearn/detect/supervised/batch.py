"""Compared turns as the supervised features see them: bounds of sessions, names of items, what the assistant said."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from selflearn.detect.comparison import Comparison
from selflearn.detect.items import NONE, Bools, Item, goal_items
from selflearn.ragged import Floats, Ints, offsets_of, places
from selflearn.wording import characters_of, gram_counts

BEYOND = -1
"""Row of a turn that is not there: before the first of its session, or after the last."""


@dataclass(frozen=True)
class Batch:
    """A comparison with what the features look up beside it.

    Attributes:
        first, last: row of the first and last turn of each row's session.
        contexts: the turns' context keys; `compared.turns.context` are codes into it.
        prompts: what the assistant had said before a turn, case folded; `compared.turns.prompt` are codes into it.
        names: slot and value of each item; the slot of an intent is empty.
        slots: code of each item's slot.
        goal_offsets, goal_items: items of each goal, lists by goal.
    """

    compared: Comparison
    first: Ints
    last: Ints
    contexts: list[str]
    prompts: list[str]
    names: list[Item]
    slots: Ints
    goal_offsets: Ints
    goal_items: Ints

    def turn_after(self, turn: Ints, steps: int) -> Ints:
        """The turn so many steps later (or earlier, where negative) in the same session, or `BEYOND`."""
        at = turn + steps
        return np.where((at >= self.first[turn]) & (at <= self.last[turn]) & (turn != BEYOND), at, BEYOND)

    @cached_property
    def acted_items(self) -> tuple[Ints, Ints]:
        """Turn and item of every item on a reading that was acted on."""
        acted_on = self.compared.turns.readings.acted_on
        read = np.flatnonzero(acted_on != NONE)
        place, taken = places(self.goal_offsets, acted_on[read])
        return np.repeat(read, np.diff(taken)), self.goal_items[place]

    @cached_property
    def acted_slots(self) -> Ints:
        """Sorted `turn * slots + slot` of what was acted on."""
        turn, item = self.acted_items
        return np.unique(turn * self.n_slots + self.slots[item])

    @property
    def n_slots(self) -> int:
        return int(self.slots.max(initial=0)) + 1

    def is_slot_filled(self, turn: Ints, item: Ints) -> Bools:
        """Whether the reading that the turn was acted on by has a value for the item's slot."""
        return np.isin(turn * self.n_slots + self.slots[item], self.acted_slots)

    @cached_property
    def prompt_grams(self) -> sparse.csr_array:
        """Which n-grams each prompt has, rows of length one; a last row without any stands for no prompt."""
        return unit(presence([*self.prompts, ""]))

    @cached_property
    def read_grams(self) -> sparse.csr_array:
        """Which n-grams the values that each turn was acted on by have."""
        turn, item = self.acted_items
        values = presence(self.compared.turns.items.strings.tolist())
        held = sparse.csr_array((np.ones(len(turn)), (turn, item)), shape=(self.compared.n_turns, len(self.names)))
        return sparse.csr_array((held @ values) > 0).astype(np.float64)


def batch_of(compared: Comparison) -> Batch:
    """Everything the features look up beside the comparison."""
    turns = compared.turns
    ends = np.flatnonzero(turns.ends_session)
    number: Ints = np.cumsum(turns.ends_session) - turns.ends_session
    codes: dict[Item, int] = {}
    held = [[codes.setdefault(item, len(codes)) for item in goal_items(goal)] for goal in turns.readings.goals]
    slots: dict[str, int] = {}
    return Batch(
        compared=compared,
        first=np.append(0, ends[:-1] + 1)[number] if len(ends) else ends,
        last=ends[number] if len(ends) else ends,
        contexts=_distinct(compared.rows["context"]),
        prompts=[text.casefold() for text in _distinct(compared.rows["prompt"])],
        names=list(codes),
        slots=np.array([slots.setdefault(name, len(slots)) for name, _ in codes], dtype=np.int64),
        goal_offsets=offsets_of([len(items) for items in held]),
        goal_items=np.array([code for items in held for code in items], dtype=np.int64),
    )


def presence(texts: list[str]) -> sparse.csr_array:
    """Which n-grams each text has, shape (texts, buckets)."""
    return sparse.csr_array(gram_counts(characters_of(texts)) > 0).astype(np.float64)


def unit(rows: sparse.csr_array) -> sparse.csr_array:
    """Rows of length one; an empty row stays empty."""
    scaled = sparse.csr_array(rows, copy=True)
    scaled.data = scaled.data / np.repeat(np.sqrt(np.maximum(squares(rows), 1e-12)), np.diff(rows.indptr))
    return scaled


def squares(rows: sparse.csr_array) -> Floats:
    """Squared length of each row."""
    return np.asarray(rows.multiply(rows).sum(axis=1), dtype=np.float64).ravel()


def dot(left: sparse.csr_array, right: sparse.csr_array) -> Floats:
    """Product of each row with the same row of the other."""
    return np.asarray(left.multiply(right).sum(axis=1), dtype=np.float64).ravel()


def _distinct(column: pa.ChunkedArray) -> list[str]:
    """Distinct strings in the order that `columns.turn_columns` codes them in."""
    found: list[str] = column.combine_chunks().dictionary_encode().dictionary.to_pylist()
    return found


Strings = npt.NDArray[np.object_]
