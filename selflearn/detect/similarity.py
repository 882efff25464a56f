"""Signals of many pairs of turns at once: arrays in, arrays out, each distinct pair of strings compared once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from rapidfuzz import fuzz, process

from selflearn.detect.columns import Heard, TurnColumns
from selflearn.detect.items import (
    NONE,
    any_of,
    compare_readings,
    items_missed,
    reading_new,
    reading_offered,
    value_again,
)
from selflearn.detect.meaning import Meanings
from selflearn.detect.signals import PAIR_SIGNAL_NAMES
from selflearn.ragged import Floats, Ints, max_of, products
from selflearn.wording import beyond_chance, length_ratio, shared

Strings = npt.NDArray[np.object_]


_CHANCE_FOUND = 0.6
"""Partial ratio that unrelated strings reach: a value found no better than this is not found."""


def compare(
    turns: TurnColumns, source: Ints, target: Ints, distance: Ints, meanings: Meanings | None = None
) -> tuple[Floats, Floats]:
    """Signals of each pair, shape (pairs, signals), in the order of `PAIR_SIGNALS`, NaN where missing; and its seed.

    The seed in [0, 1] says roughly, before any weight is learnt, which pairs a person would call a rephrase after a
    failure: friction of the source times how surely the target says again what the source failed to get. The latter is
    the mean of two views: by words, which count as far as the target's reading is not what the source's was already,
    and by items, where there are any. Words that are the only witness count by what is beyond chance.
    """
    items, readings = turns.items, turns.readings
    considered = readings.is_any[source] | readings.is_any[target]
    wording = shared(turns.gram_profiles, source, target)
    overlap, contradicts, new, new_offsets = compare_readings(readings, items, source, target)
    pair, missed, p_target, p_source = items_missed(items, source, target)
    asked = np.concatenate([source[pair], np.repeat(source, np.diff(new_offsets))])
    found_missed, found_new = np.split(_found(turns, np.concatenate([missed, new]), asked), [len(missed)])
    again = any_of(pair, p_target * _support(p_source, found_missed), len(source))
    again = np.where(considered, again, np.nan)
    columns = {
        "source_confidence": turns.confidence[source],
        "source_unread": turns.unread[source],
        "source_recognition": turns.recognition[source],
        "source_trouble": turns.trouble[source],
        "source_completed": turns.completed[source],
        "source_interrupted": turns.barge_in[source],
        "text_similarity": _best_ratio(turns.best_texts, source, target),
        "sound_similarity": _best_ratio(turns.best_sounds, source, target),
        "words_shared": shared(turns.word_profiles, source, target),
        "wording_shared": wording,
        "meaning_similarity": meanings.similarity(source, target) if meanings else np.full(len(source), np.nan),
        "item_again": again,
        "value_again": np.where(considered, value_again(items, source, target), np.nan),
        "reading_offered": reading_offered(turns.readings, source, target),
        "values_shared": overlap,
        "value_contradicts": contradicts,
        "value_heard": np.where(readings.top[target] == NONE, np.nan, max_of(found_new, new_offsets, 0.0)),
        "gap": (turns.at[target] - turns.at[source]) / 1e6,
        "distance": distance,
        "prompt_repeated": _prompt_repeated(turns, source, target),
        "target_unread": turns.unread[target],
        "target_last": turns.ends_session[target],
        "length_ratio": length_ratio(turns.length[source], turns.length[target]),
    }
    signals = np.column_stack([columns[name].astype(np.float64) for name in PAIR_SIGNAL_NAMES])
    beyond = beyond_chance(wording, turns.gram_sizes[source] * turns.gram_sizes[target])
    counted = np.where(np.isnan(again), beyond, np.maximum(wording, beyond))
    by_words = counted * np.sqrt(reading_new(readings, items, source, target))
    said_again = np.where(np.isnan(again), by_words, (by_words + again) / 2)
    return signals, np.clip(turns.heuristic_friction()[source] * said_again, 0.0, 1.0)


def _best_ratio(heard: Heard, source: Ints, target: Ints) -> Floats:
    """Best character ratio of any two of their strings; NaN where either has none."""
    sizes = np.diff(heard.offsets)
    left, right, offsets = products(sizes[source], sizes[target])
    counts = np.diff(offsets)
    left += np.repeat(heard.offsets[source], counts)
    right += np.repeat(heard.offsets[target], counts)
    ratios = _distinct(_ratio, heard.strings, heard.strings, heard.codes[left], heard.codes[right])
    return max_of(ratios, offsets, np.nan)


def _support(p_source: Floats, found: Floats) -> Floats:
    """How surely the source said each item: 1 - (1 - sqrt(p_source)) * (1 - found above chance).

    That is by an n-best probability, which is worth more than it says where another reading won, or by the value heard
    in one of the recognised texts.
    """
    return np.asarray(1 - (1 - np.sqrt(p_source)) * (1 - above_chance(found)))


def above_chance(found: Floats) -> Floats:
    """How well values are found, of what `found_in` says: 0 of those found as well as any."""
    return np.maximum(0.0, (found - _CHANCE_FOUND) / (1 - _CHANCE_FOUND))


def _found(turns: TurnColumns, item: Ints, turn: Ints) -> Floats:
    """How well each item's value is found in the turn's best-fitting text; 0 of an intent."""
    items = turns.items
    keys, group = np.unique(turn * items.n + item, return_inverse=True)
    of_turn, of_item = np.divmod(keys, items.n)
    n_texts = np.where(items.strings[of_item] != "", np.diff(turns.text_offsets)[of_turn], 0)
    left, right, offsets = products(np.ones(len(keys), dtype=np.int64), n_texts)
    owner = left + np.repeat(np.arange(len(keys)), np.diff(offsets))
    text = turns.text_codes[right + turns.text_offsets[of_turn[owner]]]
    found = _distinct(found_in, items.strings, turns.texts, of_item[owner], text)
    return np.asarray(max_of(found, offsets, 0.0)[group])


def _prompt_repeated(turns: TurnColumns, source: Ints, target: Ints) -> Floats:
    same_context = turns.context[source] == turns.context[target]
    same_prompt = turns.prompt[source] == turns.prompt[target]
    is_asked = (turns.prompt[source] != NONE) | turns.has_context[source]
    return np.where(is_asked, same_context.astype(np.float64) + same_prompt, np.nan)


def _distinct(
    scorer: Callable[[Strings, Strings], Floats], left: Strings, right: Strings, left_code: Ints, right_code: Ints
) -> Floats:
    """Score of each pair of codes; each distinct pair is scored once."""
    keys, group = np.unique(left_code * max(1, len(right)) + right_code, return_inverse=True)
    scores = scorer(left[keys // max(1, len(right))], right[keys % max(1, len(right))])
    return np.asarray(scores[group])


def _ratio(left: Strings, right: Strings) -> Floats:
    return np.asarray(process.cpdist(left, right, scorer=fuzz.ratio, dtype=np.float64) / 100)


def found_in(values: Strings, texts: Strings) -> Floats:
    """How well each value is found in its text, or matches it as a whole where the text is the shorter of the two."""
    is_within = _lengths(values) <= _lengths(texts)
    found = np.empty(len(values))
    for scorer, chosen in ((fuzz.partial_ratio, is_within), (fuzz.ratio, ~is_within)):
        found[chosen] = process.cpdist(values[chosen], texts[chosen], scorer=scorer, dtype=np.float64) / 100
    return found


def _lengths(strings: Strings) -> Ints:
    return np.fromiter(map(len, strings), np.int64, len(strings))
