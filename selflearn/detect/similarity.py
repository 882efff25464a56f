"""Signals of many pairs of turns at once: arrays in, arrays out, each distinct pair of strings compared once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from rapidfuzz import fuzz, process

from selflearn.detect.columns import NONE, TurnColumns, goal_values
from selflearn.detect.signals import PAIR_SIGNAL_NAMES
from selflearn.ragged import Floats, Ints, max_of, offsets_of, places, products, sum_of

Strings = npt.NDArray[np.object_]


def compare(turns: TurnColumns, source: Ints, target: Ints, distance: Ints) -> tuple[Floats, Floats]:
    """Signals of each pair, shape (pairs, signals), in the order of `PAIR_SIGNALS`, NaN where missing; and its seed.

    The seed in [0, 1], friction times similarity, anchors the latent class: it says roughly which pairs a person
    would call a rephrase after a failure, before any weight is learnt.
    """
    best, expected = _text_similarities(turns, source, target)
    again = _value_again(turns, source, target)
    overlap, contradicts, heard = _compare_readings(turns, source, target)
    columns = {
        "source_confidence": turns.confidence[source],
        "source_unread": turns.unread[source],
        "source_recognition": turns.recognition[source],
        "source_trouble": turns.trouble[source],
        "source_completed": turns.completed[source],
        "source_interrupted": turns.barge_in[source],
        "text_similarity": best,
        "heard_similarity": expected,
        "value_again": again,
        "values_shared": overlap,
        "value_contradicts": contradicts,
        "value_heard": heard,
        "alternative_confirmed": _alternative_confirmed(turns, source, target),
        "gap": (turns.at[target] - turns.at[source]) / 1e6,
        "distance": distance,
        "prompt_repeated": _prompt_repeated(turns, source, target),
        "target_unread": turns.unread[target],
    }
    signals = np.column_stack([columns[name].astype(np.float64) for name in PAIR_SIGNAL_NAMES])
    similarity = np.where(np.isnan(again), best, (best + np.sqrt(again)) / 2)
    return signals, np.minimum(1.0, turns.heuristic_friction()[source] * similarity)


def _text_similarities(turns: TurnColumns, source: Ints, target: Ints) -> tuple[Floats, Floats]:
    """Best and expected character ratio over n-best x n-best."""
    sizes = np.diff(turns.text_offsets)
    left, right, offsets = products(sizes[source], sizes[target])
    counts = np.diff(offsets)
    left += np.repeat(turns.text_offsets[source], counts)
    right += np.repeat(turns.text_offsets[target], counts)
    ratios = _distinct(_ratio, turns.texts, turns.texts, turns.text_codes[left], turns.text_codes[right])
    weighted = ratios * turns.text_weights[left] * turns.text_weights[right]
    return max_of(ratios, offsets, 0.0), sum_of(weighted, offsets)


def _value_again(turns: TurnColumns, source: Ints, target: Ints) -> Floats:
    """Largest probability, in both n-bests, of a value that the source's top reading lacks."""
    values = turns.values
    place, offsets = places(values.offsets, source)
    owner = np.repeat(np.arange(len(turns.goal)), np.diff(values.offsets))
    held = owner * values.n_distinct + values.codes
    wanted = np.repeat(target, np.diff(offsets)) * values.n_distinct + values.codes[place]
    at = np.minimum(np.searchsorted(held, wanted), len(held) - 1)
    found = np.flatnonzero(~values.on_top[place] & (held[at] == wanted))
    both = np.zeros(len(place))
    both[found] = np.minimum(values.probabilities[place[found]], values.probabilities[at[found]])
    considered = np.zeros(len(turns.goal), dtype=bool)
    considered[turns.alternative_keys // max(1, len(turns.goals))] = True
    return np.where(considered[source] | considered[target], max_of(both, offsets, 0.0), np.nan)


def _compare_readings(turns: TurnColumns, source: Ints, target: Ints) -> tuple[Floats, Floats, Floats]:
    """Of the two top readings: overlap of their values, whether they contradict, and the target's new values' sound.

    The last is how well the best of the new values is found in the source's words.
    """
    readings = [*turns.goals, None]
    reading = np.where(turns.goal == NONE, len(turns.goals), turns.goal)
    pairs, group = np.unique(reading[source] * len(readings) + reading[target], return_inverse=True)
    compared = [_compare_goals(readings[pair // len(readings)], readings[pair % len(readings)]) for pair in pairs]
    overlap = np.array([found[0] for found in compared], dtype=np.float64)
    contradicts = np.array([found[1] for found in compared], dtype=np.float64)
    new = [found[2] for found in compared]
    codes = {value: code for code, value in enumerate(dict.fromkeys(value for values in new for value in values))}
    flat = np.array([codes[value] for values in new for value in values], dtype=np.int64)
    value_offsets = offsets_of([len(values) for values in new])
    left, right, offsets = products(np.diff(value_offsets)[group], np.diff(turns.text_offsets)[source])
    counts = np.diff(offsets)
    value = flat[left + np.repeat(value_offsets[group], counts)]
    text = turns.text_codes[right + np.repeat(turns.text_offsets[source], counts)]
    sound = _distinct(_found_in, _strings(codes), turns.texts, value, text)
    heard = np.where(turns.goal[target] == NONE, np.nan, max_of(sound, offsets, 0.0))
    return overlap[group], contradicts[group], heard


@lru_cache(maxsize=100_000)
def _compare_goals(source: str | None, target: str | None) -> tuple[float, float, tuple[str, ...]]:
    """Overlap of the values, whether one slot has two values, and the target's values that the source has not."""
    said, said_then = goal_values(source) if source else (), goal_values(target) if target else ()
    union = len({*said, *said_then})
    overlap = len({*said} & {*said_then}) / union if union else np.nan
    held = dict(said)
    differ = any(name in held and held[name] != value for name, value in said_then)
    new = tuple(value for name, value in said_then if held.get(name) != value)
    return overlap, np.nan if source is None or target is None else float(differ), new


def _alternative_confirmed(turns: TurnColumns, source: Ints, target: Ints) -> Floats:
    confirmed = np.isin(source * len(turns.goals) + turns.goal[target], turns.alternative_keys)
    differs = turns.goal[source] != turns.goal[target]
    return np.where(turns.goal[target] == NONE, np.nan, confirmed & differs)


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


def _found_in(values: Strings, texts: Strings) -> Floats:
    """How well each value is found in its text, or matches it as a whole where the text is the shorter of the two."""
    is_within = np.array([len(value) <= len(text) for value, text in zip(values, texts, strict=True)], dtype=bool)
    found = np.empty(len(values))
    for scorer, chosen in ((fuzz.partial_ratio, is_within), (fuzz.ratio, ~is_within)):
        found[chosen] = process.cpdist(values[chosen], texts[chosen], scorer=scorer, dtype=np.float64) / 100
    return found


def _strings(strings: Iterable[str]) -> Strings:
    listed = list(strings)
    found = np.empty(len(listed), dtype=object)
    found[:] = listed
    return found
