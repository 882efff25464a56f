"""The plain twin of the pair comparison: one pair at a time, in the words of the signals' own meanings."""

from __future__ import annotations

import json
import math
import unicodedata
from collections import Counter
from itertools import groupby
from typing import Any
from unicodedata import normalize

import pyarrow as pa
from anyascii import anyascii
from rapidfuzz import fuzz

from selflearn.encoding import Encoder
from selflearn.sound import CLASSES, SOFTENING
from selflearn.wording import EDGE, GRAM_SIZES, UNSPACED, WITHIN_WORDS

Row = dict[str, Any]

COLUMNS = {
    "session_id": pa.string(),
    "turn_index": pa.int32(),
    "utterance_id": pa.string(),
    "at": pa.int64(),
    "context": pa.string(),
    "prompt": pa.string(),
    "normalised_text": pa.string(),
    "texts": pa.list_(pa.string()),
    "asr_score": pa.float64(),
    "nlu_score": pa.float64(),
    "goal": pa.string(),
    "goals": pa.list_(pa.string()),
    "goal_scores": pa.list_(pa.float64()),
    "fallback": pa.bool_(),
    "failed": pa.bool_(),
    "completed": pa.bool_(),
    "feedback": pa.int32(),
    "barge_in": pa.bool_(),
}


def as_table(rows: list[Row]) -> pa.Table:
    """Turns as the comparison gets them."""
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in COLUMNS.items()})


def values(goal: str | None) -> set[tuple[str, str]]:
    return {(slot["name"], slot["value"]) for slot in json.loads(goal)["slots"]} if goal else set()


def heard(turn: Row) -> list[str]:
    """The n-best texts, best first."""
    found = [folded(text) for text in turn["texts"] or () if text and not text.isspace()][:10]
    return found or [folded(turn["normalised_text"])]


def folded(text: str) -> str:
    """NFKC and case folded."""
    return normalize("NFKC", normalize("NFKC", text).casefold())


def considered(turn: Row) -> dict[str, float]:
    """The goals that the NLU considered with their probabilities."""
    goals, scores = turn["goals"], turn["goal_scores"]
    if not goals:
        goals = [turn["goal"]] if turn["goal"] else []
        scores = [1.0 if turn["nlu_score"] is None else turn["nlu_score"]] * len(goals)
    known = [max(0.0, score or 0.0) for score in scores]
    return {goal: score / max(1.0, sum(known)) for goal, score in zip(goals, known, strict=True)}


def value_probabilities(turn: Row) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for goal, probability in considered(turn).items():
        for value in values(goal):
            found[value] += probability  # type: ignore[assignment]
    return found


def is_unread(turn: Row) -> bool:
    return turn["goal"] is None if turn["fallback"] is None else turn["fallback"]


def is_trouble(turn: Row) -> bool:
    return turn["failed"] or turn["feedback"] == -1


def doubt(turn: Row) -> float:
    read = 0.1 if is_unread(turn) else 1.0 if turn["nlu_score"] is None else turn["nlu_score"]
    return float(1 - read * (1.0 if turn["asr_score"] is None else turn["asr_score"]))


def friction(turn: Row) -> float:
    return max(doubt(turn), 0.9) if is_trouble(turn) or turn["completed"] is False else doubt(turn)


def grams(turn: Row) -> Counter[str]:
    """Character 2- and 3-grams of all that was heard of a turn; an edge is a character."""
    edged = [f"{EDGE}{text}{EDGE}" for text in heard(turn)]
    return Counter(text[at : at + size] for text in edged for size in GRAM_SIZES for at in range(len(text) - size + 1))


def words(text: str) -> list[str]:
    """Letters in a row, or one symbol or character of a script without spaces; with their marks."""
    found: list[str] = []
    is_open = False
    for at, character in enumerate(text):
        kind, before = unicodedata.category(character), found[-1] if found and is_open else ""
        if character in WITHIN_WORDS:
            if is_open := before != "" and not stands_alone(before[0]) and starts_letter(text[at + 1 :]):
                found[-1] += character
        elif kind[0] == "M" or kind == "Cf":
            found[-1:] = [before + character] if is_open else found[-1:]
        elif stands_alone(character):
            found.append(character)
            is_open = True
        elif kind[0] not in "LN":
            is_open = False
        elif before and not stands_alone(before[0]):
            found[-1] += character
        else:
            found.append(character)
            is_open = True
    return found


def starts_letter(text: str) -> bool:
    return text != "" and unicodedata.category(text[0])[0] in "LN" and not stands_alone(text[0])


def stands_alone(character: str) -> bool:
    kind = unicodedata.category(character)[0]
    return kind == "S" or (kind in "LN" and unicodedata.name(character, "").startswith(UNSPACED))


def all_words(turn: Row) -> Counter[str]:
    return Counter(word for text in heard(turn) for word in words(text))


def sound_key(text: str) -> str:
    """Classes of a text's consonants; the same one in a row once."""
    latin = [letter for character in text for letter in anyascii(character).lower()]
    softened = [
        "s" if letter == "c" and after in SOFTENING else letter
        for letter, after in zip(latin, [*latin[1:], " "], strict=False)
    ]
    runs = [(name, len(list(run))) for name, run in groupby(filter(None, map(_class_of, softened)))]
    return "".join(name * (n if name.isdigit() else 1) for name, n in runs if name != "A")


def _class_of(letter: str) -> str:
    if letter in "0123456789":
        return letter
    return next((name for name, members in CLASSES.items() if letter in members), "")


def sound_similarity(source: Row, target: Row) -> float:
    said, said_then = ([key for key in map(sound_key, heard(turn)[:5]) if key] for turn in (source, target))
    return max((fuzz.ratio(a, b) / 100 for a in said for b in said_then), default=math.nan)


def reading_offered(source: Row, target: Row) -> float:
    listed = considered(source)
    if target["goal"] is None or not listed:
        return math.nan
    return 0.0 if target["goal"] == acted_on(source) else min(1.0, listed.get(target["goal"], 0.0))


def shared(said: Counter[str], said_then: Counter[str]) -> float:
    scale = math.sqrt(said.total() * said_then.total())
    return sum(math.sqrt(n * said_then[part]) for part, n in said.items()) / max(1.0, scale)


def beyond_chance(said: Counter[str], said_then: Counter[str]) -> float:
    """What the two share, were they as long as usual; .002 is what unrelated texts share by size."""
    sizes = [sum(math.sqrt(n / parts.total()) for n in parts.values()) for parts in (said, said_then)]
    apart = (1 - shared(said, said_then)) / math.exp(-0.002 * math.prod(sizes)) * math.exp(-0.002 * 50)
    return min(1.0, max(0.0, 1 - apart))


def items(goal: str | None) -> set[tuple[str, str]]:
    """Slot values and, under no name, the intent."""
    return {*values(goal), ("", json.loads(goal)["intent"])} if goal else set()


def without_slots(found: set[tuple[str, str]]) -> set[tuple[bool, str]]:
    return {(name == "", value) for name, value in found}


def item_probabilities(turn: Row) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for goal, probability in considered(turn).items():
        for item in items(goal):
            found[item] += probability  # type: ignore[assignment]
    return found


def found_in(value: str, turn: Row) -> float:
    """How well a value is found in the best of the words heard."""
    return max(
        (fuzz.partial_ratio(value, text) if len(value) <= len(text) else fuzz.ratio(value, text)) / 100
        for text in heard(turn)
    )


def acted_on(turn: Row) -> str | None:
    return None if turn["fallback"] else turn["goal"]


def item_again(source: Row, target: Row) -> float:
    on_top, listed, none = without_slots(items(acted_on(source))), item_probabilities(source), 1.0
    for (name, value), p in item_probabilities(target).items():
        if (name == "", value) not in on_top and p >= 0.01:
            found = max(0.0, (found_in(value.casefold(), source) - 0.6) / 0.4) if name else 0.0
            support = 1 - (1 - math.sqrt(min(1.0, listed[name, value]))) * (1 - found)
            none *= 1 - min(1 - 1e-9, min(1.0, p) * support)
    return 1 - none


def reading_new(source: Row, target: Row) -> float:
    on_top = without_slots(items(acted_on(source)))
    known = (p for goal, p in considered(target).items() if acted_on(source) and without_slots(items(goal)) <= on_top)
    return 1 - min(1.0, sum(known))


def value_again(source: Row, target: Row) -> float:
    on_top, there = without_slots(values(acted_on(source))), value_probabilities(target)
    missed = {key: p for key, p in value_probabilities(source).items() if (False, key[1]) not in on_top}
    return max((min(p, 1.0, there[value]) for value, p in missed.items()), default=0.0)


def length(turn: Row) -> int:
    return len(heard(turn)[0])


def meaning_similarity(source: Row, target: Row, encoder: Encoder) -> float:
    """Cosine of what was heard first, NaN where the encoder knows nothing of either."""
    left, right = (encoder.encode([heard(turn)[0]])[0].tolist() for turn in (source, target))
    if not any(left) or not any(right):
        return math.nan
    return sum(a * b for a, b in zip(left, right, strict=True)) / math.hypot(*left) / math.hypot(*right)


def compare(
    source: Row, target: Row, distance: int, is_last: bool, encoder: Encoder | None = None
) -> tuple[dict[str, float], float]:
    """Signals by name, NaN where missing, and the seed."""
    first_texts = heard(source)[:5], heard(target)[:5]
    said, said_then = values(source["goal"]), values(target["goal"])
    any_reading = bool(considered(source) or considered(target))
    new = said_then - said
    both_fill = {name for name, _ in said} & {name for name, _ in new}
    no_prompt = source["prompt"] is None and not source["context"]
    repeated = float(source["context"] == target["context"]) + float(source["prompt"] == target["prompt"])
    both_read = source["goal"] is not None and target["goal"] is not None
    wording = shared(grams(source), grams(target))
    signals = {
        "source_confidence": _known(source["nlu_score"]),
        "source_unread": float(is_unread(source)),
        "source_recognition": _known(source["asr_score"]),
        "source_trouble": float(is_trouble(source)),
        "source_completed": _known(source["completed"]),
        "source_interrupted": _known(source["barge_in"]),
        "text_similarity": max(fuzz.ratio(a, b) / 100 for a in first_texts[0] for b in first_texts[1]),
        "sound_similarity": sound_similarity(source, target),
        "words_shared": shared(all_words(source), all_words(target)),
        "wording_shared": wording,
        "meaning_similarity": meaning_similarity(source, target, encoder) if encoder else math.nan,
        "item_again": item_again(source, target) if any_reading else math.nan,
        "value_again": value_again(source, target) if any_reading else math.nan,
        "reading_offered": reading_offered(source, target),
        "values_shared": len(said & said_then) / len(said | said_then) if said | said_then else math.nan,
        "value_contradicts": float(bool(both_fill)) if both_read else math.nan,
        "value_heard": max((found_in(value, source) for _, value in new), default=0.0) if target["goal"] else math.nan,
        "gap": (target["at"] - source["at"]) / 1e6,
        "distance": float(distance),
        "prompt_repeated": math.nan if no_prompt else repeated,
        "target_unread": float(is_unread(target)),
        "target_last": float(is_last),
        "length_ratio": math.log((length(target) + 3) / (length(source) + 3)),
    }
    beyond = beyond_chance(grams(source), grams(target))
    counted = max(wording, beyond) if any_reading else beyond
    by_words = counted * math.sqrt(reading_new(source, target))
    said_again = (by_words + signals["item_again"]) / 2 if any_reading else by_words
    return signals, min(1.0, max(0.0, friction(source) * said_again))


def _known(value: float | bool | None) -> float:
    return math.nan if value is None else float(value)
