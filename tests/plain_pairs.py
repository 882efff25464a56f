"""The plain twin of the pair comparison: one pair at a time, in the words of the signals' own meanings."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pyarrow as pa
from rapidfuzz import fuzz

Row = dict[str, Any]

COLUMNS = {
    "session_id": pa.string(),
    "turn_index": pa.int32(),
    "at": pa.int64(),
    "context": pa.string(),
    "prompt": pa.string(),
    "normalised_text": pa.string(),
    "texts": pa.list_(pa.string()),
    "text_scores": pa.list_(pa.float64()),
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


def heard(turn: Row) -> list[tuple[str, float]]:
    """The n-best texts with their probabilities."""
    listed = zip(turn["texts"] or (), turn["text_scores"] or (), strict=True)
    found = [(text.casefold(), score) for text, score in listed if text and not text.isspace()][:10]
    if not found:
        return [(turn["normalised_text"].casefold(), 1.0)]
    if any(score is None for _, score in found):
        return [(text, 1 / len(found)) for text, _ in found]
    best = max(score for _, score in found)
    total = sum(math.exp(score - best) for _, score in found)
    return [(text, math.exp(score - best) / total) for text, score in found]


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
    return turn["fallback"] or turn["goal"] is None


def is_trouble(turn: Row) -> bool:
    return turn["failed"] or turn["feedback"] == -1


def doubt(turn: Row) -> float:
    read = 0.1 if is_unread(turn) else 1.0 if turn["nlu_score"] is None else turn["nlu_score"]
    return float(1 - read * (1.0 if turn["asr_score"] is None else turn["asr_score"]))


def friction(turn: Row) -> float:
    return max(doubt(turn), 0.9) if is_trouble(turn) or turn["completed"] is False else doubt(turn)


def compare(source: Row, target: Row, distance: int) -> tuple[dict[str, float], float]:
    """Signals by name, NaN where missing, and the seed."""
    ratios = [(fuzz.ratio(a, b) / 100, p * q) for a, p in heard(source) for b, q in heard(target)]
    best = max(ratio for ratio, _ in ratios)
    said, said_then = values(source["goal"]), values(target["goal"])
    again = math.nan
    if considered(source) or considered(target):
        there = value_probabilities(target)
        missed = {value: p for value, p in value_probabilities(source).items() if value not in said}
        again = max((min(p, there[value]) for value, p in missed.items()), default=0.0)
    held = dict(said)
    new = [value for name, value in said_then if held.get(name) != value]
    sounds = [
        (fuzz.partial_ratio(value, text) if len(value) <= len(text) else fuzz.ratio(value, text)) / 100
        for value in new
        for text, _ in heard(source)
    ]
    no_prompt = source["prompt"] is None and not source["context"]
    repeated = float(source["context"] == target["context"]) + float(source["prompt"] == target["prompt"])
    both_read = source["goal"] is not None and target["goal"] is not None
    confirmed = target["goal"] != source["goal"] and target["goal"] in considered(source)
    similarity = best if math.isnan(again) else (best + math.sqrt(again)) / 2
    signals = {
        "source_confidence": _known(source["nlu_score"]),
        "source_unread": float(is_unread(source)),
        "source_recognition": _known(source["asr_score"]),
        "source_trouble": float(is_trouble(source)),
        "source_completed": _known(source["completed"]),
        "source_interrupted": _known(source["barge_in"]),
        "text_similarity": best,
        "heard_similarity": sum(ratio * p for ratio, p in ratios),
        "value_again": again,
        "values_shared": len(said & said_then) / len(said | said_then) if said | said_then else math.nan,
        "value_contradicts": float(any(held.get(n, v) != v for n, v in said_then)) if both_read else math.nan,
        "value_heard": max(sounds, default=0.0) if target["goal"] else math.nan,
        "alternative_confirmed": float(confirmed) if target["goal"] else math.nan,
        "gap": (target["at"] - source["at"]) / 1e6,
        "distance": float(distance),
        "prompt_repeated": math.nan if no_prompt else repeated,
        "target_unread": float(is_unread(target)),
    }
    return signals, min(1.0, friction(source) * similarity)


def friction_of_turn(turn: Row, after: list[tuple[float, dict[str, float]]]) -> tuple[list[float], float]:
    """Friction signals of a turn, NaN where missing, and the seed; `after` holds its pairs, nearest first."""
    again = max((p for p, _ in after), default=0.0)
    following = [signals["prompt_repeated"] for _, signals in after if signals["distance"] == 1]
    signals = [
        _known(turn["nlu_score"]), float(is_unread(turn)), _known(turn["asr_score"]), float(turn["failed"]),
        _known(turn["completed"]), _known(turn["feedback"]), again, _known(turn["barge_in"]),
        *(following or [math.nan]), float(bool(after)),
    ]  # fmt: skip
    seed = doubt(turn) * (again + (1 - again) / 4)
    went_wrong = is_unread(turn) or is_trouble(turn) or turn["completed"] is False
    return signals, max(seed, 0.9) if went_wrong else seed


def _known(value: float | bool | None) -> float:
    return math.nan if value is None else float(value)
