"""Friction: did it work, did it fail and was said again, or was it given up; and what was the likely cause."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plain_friction import Pair, doubt, outcome
from plain_pairs import COLUMNS, Row, as_table, compare
from selflearn.detect import FOLLOW_UP_SIGNALS, FrictionModel
from selflearn.detect.causes import CAUSES
from selflearn.detect.comparison import Comparison, compare_sessions
from selflearn.detect.follow_up import EVENT_SIGNALS
from selflearn.detect.friction import Outcomes, Seeding, claimed_doubt, shipped_friction
from selflearn.detect.learning import _seeding
from selflearn.settings import Detect

SETTINGS = Detect(max_turns=2, max_gap_minutes=5)
SURE, UNSURE = 0.99, 0.4


def goal(intent: str, **slots: str) -> str:
    return json.dumps({"intent": intent, "slots": [{"name": name, "value": value} for name, value in slots.items()]})


def said(text: str, readings: Mapping[str, float] | None = None, **fields: Any) -> Row:
    """A turn with its readings, best first; it is well recognised unless told otherwise."""
    top = next(iter(readings or ()), None)
    known = {
        "utterance_id": text,
        "context": "",
        "normalised_text": text,
        "texts": [text],
        "asr_score": SURE,
        "goal": top,
        "goals": list(readings or ()),
        "goal_scores": list((readings or {}).values()),
        "nlu_score": readings[top] if readings and top else None,
        "fallback": None,
        "failed": False,
    }
    return dict.fromkeys(COLUMNS) | known | fields


def session(*turns: Row) -> list[Row]:
    return [turn | {"session_id": "s", "turn_index": k, "at": 8_000_000 * k} for k, turn in enumerate(turns)]


def compared(rows: list[Row]) -> Comparison:
    return compare_sessions(as_table(rows), SETTINGS)


def judged(*turns: Row, p_rephrase: float = 0.0, model: FrictionModel | None = None) -> Outcomes:
    """What became of the turns of one session, each said again by the next one with the given probability."""
    pairs = compared(session(*turns))
    return (model or shipped_friction()).outcomes(pairs, np.where(pairs.distance == 1, p_rephrase, 0.0))


def cause(*turns: Row, **known: Any) -> dict[str, float]:
    """The causes of the first turn."""
    return dict(zip(CAUSES, judged(*turns, **known).causes[0], strict=True))


PARIS, BERLIN = goal("weather", city="paris"), goal("weather", city="berlin")
UNDERSTOOD = said("weather in paris", {PARIS: SURE})
MISREAD = said("weather in paris", {BERLIN: UNSURE, PARIS: 0.35})
AGAIN = said("the weather in paris please", {PARIS: SURE})
THANKS = said("thanks", {goal("bye"): SURE})


def test_what_fails_and_is_said_again_failed_and_what_nobody_says_again_was_given_up() -> None:
    again, left = judged(MISREAD, AGAIN, p_rephrase=0.9), judged(MISREAD)
    assert again.p_failed[0] > 0.6 > 10 * again.p_gave_up[0]
    assert left.p_failed[0] == 0 < left.p_gave_up[0]
    worked = judged(UNDERSTOOD, THANKS)
    assert worked.p_friction[0] < 0.1 < again.p_friction[0]


@pytest.mark.parametrize("report", [{"failed": True}, {"completed": False}, {"feedback": -1}])
def test_what_the_assistant_or_the_user_reports_goes_before_the_score(report: Row) -> None:
    def p_friction(**fields: Any) -> float:
        return float(judged(UNDERSTOOD | fields, THANKS).p_friction[0])

    assert p_friction(**report) > p_friction() + 0.3
    assert p_friction(feedback=1, nlu_score=UNSURE) < p_friction(nlu_score=UNSURE)


def test_a_score_counts_by_its_margin_over_the_alternatives() -> None:
    def claimed(*alternatives: float) -> float:
        readings = {goal(f"other {k}"): score for k, score in enumerate(alternatives)}
        return float(claimed_doubt(compared(session(said("play", {goal("play"): 0.8} | readings))).turns)[0])

    assert claimed() == claimed(0.2) == pytest.approx(0.2)
    assert claimed(0.2) < claimed(0.7) < claimed(0.7, 0.7)


def test_noise_is_no_failure_and_a_long_turn_without_a_reading_is_one() -> None:
    noise, request = (judged(said(text, {})) for text in ("uh", "what will the weather be in paris tomorrow"))
    assert noise.p_friction[0] < request.p_friction[0]
    seeding = Seeding(0.3, 0.05)
    assert seeding.doubt(compared(session(said("x" * 4, {}))).turns)[0] == pytest.approx(0.2)


def test_the_log_tells_how_many_failures_nobody_says_again() -> None:
    found = seeding_of(said_again={5: 0.15})
    # A quarter of the doubts is not said again; so the .3 of turns without a reading that are stand for .4 failures.
    assert found.unsaid == pytest.approx(0.25, abs=1e-3)
    assert found.doubt_per_character * 10 == pytest.approx(0.4, abs=1e-3)
    # Nothing speaks against the claims.
    assert found.claimed == ()
    assert seeding_of(n=0.0).unsaid == pytest.approx(0.25)


def test_visible_failures_tell_what_claims_are_worth() -> None:
    # Of those .9 of which failed .54 were said again: a failure is in .6 of the cases.
    found = seeding_of(said_again={4: 0.06, 5: 0.06, 7: 0.36}, said_again_in_trouble=0.54)
    assert found.unsaid == pytest.approx(0.4, abs=1e-3)
    assert found.claimed == pytest.approx((0.01, 0.035, 0.075, 0.15, 0.2, 0.425, 0.6, 0.875), abs=1e-3)
    worth = dict(enumerate(found.worth, start=1))
    assert [worth[level] for level in (4, 5, 7)] == pytest.approx([0.1, 0.1, 0.6], abs=1e-3)
    assert all(below <= above for below, above in pairwise(found.worth))


def seeding_of(n: float = 1e6, said_again: dict[int, float] | None = None, said_again_in_trouble: float = 0) -> Seeding:
    """Learnt from `n` turns at each level of doubt that is given, and as many in trouble, if any; means by level."""
    claimed, again = {4: 0.15, 5: 0.2, 7: 0.6}, said_again or {}
    counted = {
        **{f"doubt {k}": (n * (k in again), n * claimed.get(k, 0) * (k in again)) for k in range(1, 9)},
        **{f"said again {k}": (n * (k in again), n * again.get(k, 0)) for k in range(1, 9)},
        "said again in trouble": (n * (said_again_in_trouble > 0), n * said_again_in_trouble),
        "said again unread": (n / 10, 0.03 * n),
        "length": (2 * n, 40 * n),
        "length unread": (n / 10, n),
    }
    return _seeding(pd.DataFrame.from_dict(counted, orient="index", columns=["n", "seed_sum"], dtype=float))


def test_the_cause_is_the_link_of_the_chain_that_broke() -> None:
    assert cause(MISREAD | {"asr_score": 0.2})["recognition"] > 0.7
    assert cause(MISREAD)["understanding"] > 0.9
    unread = said("sing me a song", {}, asr_score=SURE)
    nobody = FrictionModel(**vars(shipped_friction()) | {"left_unread": {"sing me a song": 0.95}})
    assert cause(unread, model=nobody)["unsupported"] > 0.8 > 0.2 > cause(unread)["unsupported"]
    otherwise = said("no, berlin", {BERLIN: SURE})
    assert cause(UNDERSTOOD, otherwise)["user"] > 0.8
    assert cause(UNDERSTOOD, otherwise, p_rephrase=0.99)["user"] < 0.5
    assert cause(UNDERSTOOD | {"barge_in": True})["user"] > cause(UNDERSTOOD)["user"] == 0


def test_typed_turns_are_never_misheard() -> None:
    assert cause(MISREAD | {"asr_score": None})["recognition"] < 0.05
    assert cause(MISREAD | {"asr_score": None, "texts": ["weather in paris", "whether in perish"]})["recognition"] > 0.2


maybe, unit = st.none() | st.booleans(), st.none() | st.floats(0, 1)
goals = st.builds(
    lambda intent, city: goal(intent, **({"city": city} if city else {})),
    st.sampled_from(["weather", "traffic"]),
    st.sampled_from([None, "paris", "東京"]),
)
turns = st.builds(
    lambda text, readings, fields: said(text, readings, **fields),
    st.sampled_from(["weather in paris", "whether in perish", "東京の天気", "p"]),
    st.dictionaries(goals, st.none() | st.floats(0, 1), max_size=3),
    st.fixed_dictionaries(
        {
            "context": st.sampled_from(["", "city?"]),
            "asr_score": unit,
            "nlu_score": unit,
            "fallback": st.none() | st.booleans(),
            "failed": st.booleans(),
            "completed": maybe,
            "feedback": st.sampled_from([None, -1, 0, 1]),
            "barge_in": maybe,
        }
    ),
)
sessions = st.lists(turns, min_size=1, max_size=5).map(lambda turns: session(*turns))


@settings(max_examples=60)
@given(sessions, st.floats(0, 1), st.integers(0, 9))
def test_many_turns_at_once_equal_one_turn_at_a_time(rows: list[Row], p: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shipped = vars(shipped_friction())
    path_trouble = {'["weather", "city?", ""]': 2.0, '[null, "", null]': 0.5, '["traffic", "", "city?"]': 0.1}
    model = FrictionModel(**shipped | {"path_trouble": path_trouble, "left_unread": {"p": float(rng.random())}})
    pairs = compared(rows)
    p_rephrase = p * rng.random(len(pairs.source))
    found = model.outcomes(pairs, p_rephrase)
    columns = {
        name: getattr(found, name)
        for name in ("p_friction", "p_failed", "p_gave_up", "p_friction_follow_up", "outcome_log_odds")
    }
    columns |= {f"p_{name}": found.causes[:, k] for k, name in enumerate(CAUSES)}
    for at in range(len(rows)):
        after = [
            Pair(int(j), compare(rows[at], rows[j], j - at, is_last=j == len(rows) - 1)[0], float(again))
            for i, j, again in zip(pairs.source, pairs.target, p_rephrase, strict=True)
            if i == at
        ]
        for name, value in outcome(model, rows, at, after).items():
            assert columns[name][at] == pytest.approx(value, abs=1e-9), name
    assert (found.p_failed >= 0).all()
    assert (found.p_gave_up >= 0).all()
    assert (found.p_friction <= 1).all()
    assert found.causes.sum(axis=1) == pytest.approx(1)


@given(sessions, st.lists(unit, min_size=5, max_size=5))
def test_no_score_of_the_turn_itself_is_in_what_speaks_against_its_reading(
    rows: list[Row], scores: list[float | None]
) -> None:
    def log_odds(rows: list[Row]) -> float:
        pairs = compared(rows)
        return float(shipped_friction().outcomes(pairs, np.zeros(len(pairs.source))).outcome_log_odds[0])

    nlu, asr, *others = scores
    own = {"nlu_score": nlu, "asr_score": asr, "goal_scores": others[: len(rows[0]["goals"])]}
    assert log_odds([rows[0] | own, *rows[1:]]) == log_odds(rows)


@given(sessions)
def test_doubt_is_what_score_or_recogniser_leave_open(rows: list[Row]) -> None:
    at_its_word, corrected = Seeding(0.3, 0.02), Seeding(0.3, 0.02, (0.01, 0.3, 0.9), (0.05, 0.1, 0.99))
    for seeding in (at_its_word, corrected):
        assert seeding.doubt(compared(rows).turns) == pytest.approx([doubt(row, seeding) for row in rows])


def test_the_shipped_model_fits_the_declared_signals_and_says_what_people_would() -> None:
    model = shipped_friction()
    assert model.weights.signals == tuple(signal.name for signal in FOLLOW_UP_SIGNALS)
    assert [len(row) for row in model.weights.weights] == [signal.n_levels for signal in FOLLOW_UP_SIGNALS]
    assert not model.path_trouble
    assert not model.left_unread
    weights = dict(zip(model.weights.signals, model.weights.weights, strict=True))
    for name in ("heard_later", "wording_later", "alternative_next", "later_doubt"):
        assert weights[name][-1] > weights[name][1], name
    assert weights["completed"][2] < weights["completed"][1]
    assert 0.05 < model.seeding.unsaid < 0.8
    assert model.evidence.signals == tuple(signal.name for signal in EVENT_SIGNALS)


def test_a_model_survives_as_json_and_nothing_else_does() -> None:
    model = FrictionModel(**vars(shipped_friction()) | {"path_trouble": {'["天気", "", null]': 1.5}})
    assert FrictionModel.from_json(model.to_json()) == model
    for text in ("{", "[]", "null", "{}", '{"weights": {"weights": 1}}'):
        with pytest.raises((ValueError, TypeError, KeyError)):
            FrictionModel.from_json(text)
