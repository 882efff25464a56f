"""The items that either turn of a pair may mean: a row each, and what a pair's rows say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from selflearn.detect.items import INTENT, NONE, Bools
from selflearn.detect.supervised.batch import BEYOND, Batch
from selflearn.detect.supervised.statistics import Expectation, item_keys
from selflearn.ragged import Floats, Ints, max_of, places, sum_of

_EARLIER, _LATER = 3, 4
_ALMOST_ONE = 0.999
_NOTHING_KEPT = 2.0
_DIGITS = 9
_OF_SOURCE = 0.1
"""Weight of an item's probability in the source where the likeliest new item of the target is looked for."""


@dataclass(frozen=True)
class ItemTable:
    """Lists by pair (`offsets`) of items, and columns of numbers about each: probabilities, log ratios, and 0 or 1.

    `rank` is the items' place in the order of their names: codes depend on the batch, what is found must not.
    """

    offsets: Ints
    rank: Ints
    columns: Mapping[str, Floats]


def item_table(batch: Batch, source: Ints, target: Ints, usual: Mapping[str, Expectation]) -> ItemTable:
    """Every item that the NLU considered for the source or the target of each pair."""
    items, n_items = batch.compared.turns.items, max(1, len(batch.names))
    held = []
    for end in (source, target):
        place, taken = places(items.offsets, end)
        held.append(np.repeat(np.arange(len(source)), np.diff(taken)) * n_items + items.codes[place])
    keys = np.unique(np.concatenate(held))
    pair, item = np.divmod(keys, n_items)
    s, t = source[pair], target[pair]
    in_source, in_target = items.is_acted_on(s, item), items.is_acted_on(t, item)
    columns: dict[str, Floats] = {
        "p_source": items.probability(s, item),
        "p_target": items.probability(t, item),
        "p_earlier": _in_any(batch, s, item, range(-_EARLIER, 0)),
        "p_after": _in_any(batch, t, item, range(1, 2)),
        "p_later": _in_any(batch, t, item, range(1, _LATER + 1)),
        "in_source": in_source.astype(np.float64),
        "in_target": in_target.astype(np.float64),
        "in_prompt_source": _prompted(batch, s, item),
        "in_prompt_target": _prompted(batch, t, item),
        "contradicts_source": (batch.is_slot_filled(s, item) & ~in_source).astype(np.float64),
        "contradicts_target": (batch.is_slot_filled(t, item) & ~in_target).astype(np.float64),
        "is_intent": np.array([slot == INTENT for slot, _ in batch.names] or [False])[item].astype(np.float64),
    }
    names, slots = item_keys(batch.names), list(dict.fromkeys(slot for slot, _ in batch.names))
    for side, turn in (("source", s), ("target", t)):
        context = batch.compared.turns.context[turn]
        columns[f"expected_{side}"] = usual["item"].log_ratio(batch.contexts, names, context, item)
        columns[f"slot_expected_{side}"] = usual["slot"].log_ratio(batch.contexts, slots, context, batch.slots[item])
    rank = np.argsort(np.argsort(np.array(names or [""])))[item]
    return ItemTable(np.searchsorted(keys, np.arange(len(source) + 1) * n_items), rank, columns)


def summaries(found: ItemTable) -> dict[str, Floats]:
    """Features of each pair: what its items say together, and all that is known of the likeliest new one."""
    c, offsets = found.columns, found.offsets
    p_source, p_target = c["p_source"], c["p_target"]
    old, read = c["in_source"] > 0, c["in_target"] > 0

    def most(values: Floats) -> Floats:
        return max_of(values, offsets, 0.0)

    def n(is_such: Bools) -> Floats:
        return sum_of(is_such.astype(np.float64), offsets)

    def least_old(values: Floats) -> Floats:
        return -max_of(np.where(old, -values, -_NOTHING_KEPT), offsets, -_NOTHING_KEPT)

    both = np.log1p(-np.minimum(p_source * p_target, _ALMOST_ONE))
    columns = {
        "missed_both": most(np.where(old, 0, np.minimum(p_source, p_target))),
        "missed_joint": -np.expm1(sum_of(np.where(old, 0, both), offsets)),
        "missed_source": most(np.where(old, 0, p_source)),
        "missed_target": most(np.where(old, 0, p_target)),
        "missed_later": most(np.where(old, 0, p_source * c["p_later"])),
        "kept_most": most(np.where(old, p_target, 0)),
        "kept_least": least_old(p_target),
        "sure_least": least_old(p_source),
        "old_later": most(np.where(old, c["p_later"], 0)),
        "old_echoed": most(np.where(old, c["in_prompt_target"], 0)),
        "old_echoed_least": least_old(c["in_prompt_target"]),
        "read_echoed": most(np.where(read, c["in_prompt_target"], 0)),
        "new_echoed": most(np.where(read & ~old, c["in_prompt_target"], 0)),
        "read_later": most(np.where(read, c["p_later"], 0)),
        "n_old": n(old),
        "n_read": n(read),
        "n_kept": n(old & read),
        "n_new": n(read & ~old),
        "n_items": np.diff(offsets).astype(np.float64),
    }
    key = np.where(old, NONE, np.round(p_target + _OF_SOURCE * p_source, _DIGITS))
    likeliest = _first_largest(key, found.rank, offsets)
    return columns | {f"new.{name}": np.append(values, np.nan)[likeliest] for name, values in c.items()}


def _first_largest(key: Floats, rank: Ints, offsets: Ints) -> Ints:
    """Place of each list's largest key, of equal ones the first by rank; -1 where no key is above `NONE`."""
    counts = np.diff(offsets)
    order = np.lexsort((rank, -key, np.repeat(np.arange(len(counts)), counts)))
    filled = counts > 0
    place = np.full(len(counts), -1, dtype=np.int64)
    place[filled] = order[offsets[:-1][filled]]
    return np.where(filled & (np.append(key, NONE)[place] > NONE), place, -1)


def _in_any(batch: Batch, turn: Ints, item: Ints, steps: range) -> Floats:
    """Largest probability of each item among the turns so many steps off, of the same session."""
    found = np.zeros(len(turn))
    for step in steps:
        at = batch.turn_after(turn, step)
        there = np.flatnonzero(at != BEYOND)
        found[there] = np.maximum(found[there], batch.compared.turns.items.probability(at[there], item[there]))
    return found


def _prompted(batch: Batch, turn: Ints, item: Ints) -> Floats:
    """Whether what the assistant had said before the turn holds the item's value."""
    prompt, strings, n = batch.compared.turns.prompt[turn], batch.compared.turns.items.strings, len(batch.prompts)
    told = np.flatnonzero((prompt != NONE) & (strings[item] != ""))
    keys, group = np.unique(item[told] * n + prompt[told], return_inverse=True)
    held = np.array([strings[key // n] in batch.prompts[key % n] for key in keys.tolist()], dtype=np.float64)
    found = np.zeros(len(turn))
    found[told] = held[group]
    return found
