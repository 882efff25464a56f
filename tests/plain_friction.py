"""The plain twin of friction: one turn at a time, with its session and its pairs in plain lists."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise

from plain_pairs import Row, acted_on, considered, friction, heard, is_trouble, is_unread
from selflearn.detect import FOLLOW_UP_SIGNALS, FrictionModel
from selflearn.detect.additive import AdditiveModel
from selflearn.detect.friction import Seeding


@dataclass(frozen=True)
class Pair:
    """A pair of the turn in question: where in the session its target is, its signals and `p_rephrase`."""

    target: int
    signals: dict[str, float]
    p: float


def path(session: list[Row], at: int) -> str:
    goal, following = acted_on(session[at]), session[at + 1 : at + 2]
    after = following[0]["context"] if following else None
    return json.dumps([json.loads(goal)["intent"] if goal else None, session[at]["context"], after], ensure_ascii=False)


def what_followed(session: list[Row], at: int, pairs: list[Pair], path_trouble: float) -> dict[str, float]:
    """Signals by name, NaN where missing."""
    turn, later = session[at], session[at + 1 :]
    with_next = next((pair.signals for pair in pairs if pair.target == at + 1), None)

    def of_next(name: str) -> float:
        return with_next[name] if with_next else math.nan

    def largest(name: str) -> float:
        known = [pair.signals[name] for pair in pairs if not math.isnan(pair.signals[name])]
        return max(known, default=math.nan)

    chosen = acted_on(later[0]) if later else None
    is_alternative = chosen is not None and chosen != turn["goal"] and chosen in considered(turn)
    return {
        "turns_left": float(len(later)),
        "asked_again": of_next("prompt_repeated"),
        "next_unread": of_next("target_unread"),
        "later_doubt": sum(map(friction, later)) / len(later) if later else math.nan,
        "gap": of_next("gap"),
        "text_next": of_next("text_similarity"),
        "text_later": largest("text_similarity"),
        "wording_next": of_next("wording_shared"),
        "wording_later": largest("wording_shared"),
        "length_next": of_next("length_ratio"),
        "heard_next": of_next("value_heard"),
        "heard_later": largest("value_heard"),
        "contradicted": of_next("value_contradicts"),
        "values_kept": of_next("values_shared"),
        "alternative_next": float(is_alternative) if later else math.nan,
        "path_trouble": path_trouble,
        "interrupted": math.nan if turn["barge_in"] is None else float(turn["barge_in"]),
        "failed": float(turn["failed"]),
        "completed": math.nan if turn["completed"] is None else float(turn["completed"]),
        "feedback": math.nan if turn["feedback"] is None else float(turn["feedback"]),
    }


def doubt(turn: Row, seeding: Seeding) -> float:
    """Probability that the turn failed, before anything is known of what followed."""
    if is_unread(turn):
        return min(0.95, max(0.01, len(heard(turn)[0]) * seeding.doubt_per_character))
    if turn["nlu_score"] is not None:
        rivals = sum(p for goal, p in considered(turn).items() if goal != turn["goal"])
        known = turn["nlu_score"] / max(1.0, turn["nlu_score"] + rivals)
    else:
        known = 0.9 if turn["asr_score"] is None else turn["asr_score"]
    claimed = float(min(0.99, max(0.002, 1 - known)))
    if not seeding.claimed:
        return claimed
    odds = log_odds(claimed)
    lines = [(log_odds(c), log_odds(w) - log_odds(c)) for c, w in zip(seeding.claimed, seeding.worth, strict=True)]
    if odds <= lines[0][0]:
        shift = lines[0][1]
    elif odds >= lines[-1][0]:
        shift = lines[-1][1]
    else:
        (x, y), (after, rises_to) = next(pair for pair in pairwise(lines) if pair[0][0] <= odds < pair[1][0])
        shift = y + (rises_to - y) * (odds - x) / (after - x)
    return min(0.99, max(0.002, 1 / (1 + math.exp(-odds - shift))))


def log_odds(p: float) -> float:
    p = min(0.999, max(0.001, p))
    return math.log(p / (1 - p))


def outcome(model: FrictionModel, session: list[Row], at: int, pairs: list[Pair]) -> dict[str, float]:
    """Columns of `tables.TURN_OUTCOMES` by name."""
    turn, unsaid = session[at], model.seeding.unsaid
    again = max((pair.p for pair in pairs), default=0.0)
    d = doubt(turn, model.seeding)
    silent = d * unsaid / (1 - d + d * unsaid)
    seed = again + (1 - again) * silent
    if (turn["feedback"] or 0) > 0:
        seed = min(seed, 0.1)
    if is_trouble(turn) or turn["completed"] is False:
        seed = max(seed, 0.9)
    seed = min(0.999, max(0.001, seed))
    signals = what_followed(session, at, pairs, model.path_trouble.get(path(session, at), math.nan))
    followed = weighed(model.weights, signals)
    p_friction = 1 / (1 + math.exp(-(math.log(seed / (1 - seed)) + followed) / 2))
    p_failed = p_friction * again / (again + (1 - again) * silent)
    scores = {
        "p_friction": p_friction,
        "p_failed": p_failed,
        "p_gave_up": p_friction - p_failed,
        "p_friction_follow_up": 1 / (1 + math.exp(-followed)),
        "outcome_log_odds": weighed(model.evidence, signals),
    }
    r = (0.7 if len(heard(turn)) > 1 else 1.0) if turn["asr_score"] is None else turn["asr_score"]
    r, v = min(0.99, max(0.01, r)), model.left_unread.get(turn["utterance_id"], 0.0)
    contradicted = signals["contradicted"] == 1
    u = max((1 - again) * contradicted, 0.5 * (turn["barge_in"] is True))
    weights = {
        "p_recognition": 1 - r,
        "p_understanding": r * d * (1 - v),
        "p_unsupported": r * d * v,
        "p_user": r * (1 - d) * u,
    }
    return scores | {name: weight / sum(weights.values()) for name, weight in weights.items()}


def weighed(model: AdditiveModel, signals: dict[str, float]) -> float:
    edges = {signal.name: signal.edges for signal in FOLLOW_UP_SIGNALS}
    total = model.offset
    for name, weights in zip(model.signals, model.weights, strict=True):
        value = signals[name]
        total += weights[0 if math.isnan(value) else 1 + sum(value >= edge for edge in edges[name])]
    return total
