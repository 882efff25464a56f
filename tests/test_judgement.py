"""Judgement: guards, arms and state of one candidate for a rewrite."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selflearn.rewrites.arms import Arm, p_better
from selflearn.rewrites.judgement import CONFIDENCE, judge, numbers
from selflearn.settings import Rewrites as Settings

SETTINGS = Settings(protected_intents=("cancel",))
Row = dict[str, Any]

GOOD: Row = {
    "text": "wake me at 7",
    "target_text": "set an alarm for 7",
    "tells_apart": False,
    "share": 0.3,
    "n": 20.0,
    "worked": 2.0,
    "friction": 0.9,
    "most": 2.0,
    "target_n": 30.0,
    "target_worked": 27.0,
    "target_most": 2.0,
    "n_users": 6,
    "n_days": 4,
    "max_user_share": 0.2,
    "n_treated": 0.0,
    "n_treated_worked": 0.0,
    "n_treated_most": 0.0,
    "prior_worked": 1.0,
    "prior_failed": 1.0,
}


def judgement(**changes: Any) -> tuple[bool, str]:
    found = judge(pa.Table.from_pylist([GOOD | changes]), SETTINGS)
    return bool(found.is_allowed[0]), found.state[0]


def test_a_good_candidate_is_tried() -> None:
    assert judgement() == (True, "trying")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"n_users": 2}, id="too few people"),
        pytest.param({"n_days": 1}, id="on one day alone"),
        pytest.param({"max_user_share": 0.51}, id="one person gave most"),
        pytest.param({"worked": 17.0}, id="the wording works as well"),
        pytest.param({"n": 2.0, "worked": 0.0, "target_n": 2.0, "target_worked": 2.0}, id="too little is known"),
        pytest.param({"target_n": 8.0, "target_worked": 8.0, "target_most": 8.0}, id="it worked for one person"),
        pytest.param({"n": 8.0, "worked": 2.0, "most": 6.0}, id="it failed for one person"),
        pytest.param({"target_text": "set an alarm for 8"}, id="another number"),
        pytest.param({"target_text": "set an alarm"}, id="a number is lost"),
        pytest.param({"tells_apart": True}, id="other words that decide"),
    ],
)
def test_what_keeps_a_candidate_out(changes: Row) -> None:
    assert not judgement(**changes)[0]


def test_a_number_that_most_people_corrected_may_change() -> None:
    assert judgement(target_text="set an alarm for 17", share=0.5) == (True, "trying")


def test_words_that_decide_may_change_where_most_people_corrected_them() -> None:
    assert judgement(tells_apart=True, share=0.5) == (True, "trying")
    assert not judgement(tells_apart=True, target_text="set an alarm for 17")[0]


def test_numbers_are_read_in_the_digits_of_any_script() -> None:
    assert numbers("от 7 до 15") == numbers("٧ تا ۱۵") == numbers("१५ और ७") == [7, 15]
    assert numbers("no number") == []


@given(
    st.floats(0, 30), st.floats(0, 1), st.floats(0, 30), st.floats(0, 1), st.floats(0, 30), st.floats(0, 30), st.data()
)
def test_no_one_person_decides(
    n: float, worked: float, target_n: float, target_worked: float, most: float, target_most: float, data: st.DataObject
) -> None:
    """Whoever is left out, with whatever they brought about, a pair that is allowed is better all the same."""
    rows = {
        "n": n,
        "worked": n * worked,
        "most": min(most, n),
        "target_n": target_n,
        "target_worked": target_n * target_worked,
        "target_most": min(target_most, target_n),
    }
    if not judgement(**rows)[0]:
        return
    share = st.floats(0, 1)
    gone = rows["most"] * data.draw(share)
    gone_worked = min(gone, rows["worked"]) * data.draw(share)
    target_gone = rows["target_most"] * data.draw(share)
    target_gone_worked = min(target_gone, rows["target_worked"]) * data.draw(share)
    gone_worked = max(gone_worked, gone - (rows["n"] - rows["worked"]))
    target_gone_worked = max(target_gone_worked, target_gone - (rows["target_n"] - rows["target_worked"]))
    flat = Arm(np.ones(1), np.ones(1))
    source = flat.after(np.array([rows["n"] - gone]), np.array([rows["worked"] - gone_worked]))
    target = flat.after(
        np.array([rows["target_n"] - target_gone]), np.array([rows["target_worked"] - target_gone_worked])
    )
    assert p_better(target, source)[0] >= CONFIDENCE - 1e-6


def test_treated_turns_decide_whether_to_keep_or_retire() -> None:
    assert judgement(n_treated=10.0, n_treated_worked=9.0)[1] == "kept"
    assert judgement(n_treated=4.0, n_treated_worked=4.0)[1] == "trying"
    assert judgement(n_treated=8.0, n_treated_worked=4.0, friction=0.7)[1] == "trying"
    assert judgement(n_treated=8.0, n_treated_worked=1.0, friction=0.5)[1] == "retired"


def test_no_one_person_keeps_or_retires_a_rewrite() -> None:
    assert judgement(n_treated=10.0, n_treated_worked=9.0, n_treated_most=9.0)[1] == "trying"
    assert judgement(n_treated=8.0, n_treated_worked=1.0, n_treated_most=7.0, friction=0.5)[1] == "trying"


def test_a_rewrite_that_is_kept_stays_allowed_where_the_wordings_own_records_have_faded() -> None:
    faded = {"n": 1.0, "worked": 0.1, "target_n": 1.0, "target_worked": 0.9, "most": 0.2, "target_most": 0.2}
    assert judgement(**faded) == (False, "trying")
    assert judgement(**faded, n_treated=10.0, n_treated_worked=9.5) == (True, "kept")


def test_a_prior_stands_in_for_trials() -> None:
    """Where nearly every wording works, one that failed twice may yet be as good as one that worked twice."""
    few = {"n": 3.0, "worked": 0.0, "most": 1.0, "target_n": 3.0, "target_worked": 3.0, "target_most": 1.0}
    assert judgement(**few, prior_worked=0.5, prior_failed=0.5)[0]
    assert not judgement(**few, prior_worked=9.0, prior_failed=1.0)[0]


def beta_count(a1: int, b1: int, a2: int, b2: int) -> float:
    """P(X > Y) of two Betas with whole counts, in closed form (Evan Miller's sum over the first's successes)."""

    def log_beta(a: float, b: float) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    terms = (log_beta(a2 + k, b1 + b2) - math.log(b1 + k) - log_beta(1 + k, b1) - log_beta(a2, b2) for k in range(a1))
    return sum(math.exp(term) for term in terms)


@given(*[st.integers(1, 40)] * 4)
def test_p_better_equals_the_closed_form(a1: int, b1: int, a2: int, b2: int) -> None:
    one, other = (Arm(np.array([float(a)]), np.array([float(b)])) for a, b in ((a1, b1), (a2, b2)))
    found = p_better(one, other)[0]
    assert found == pytest.approx(beta_count(a1, b1, a2, b2), abs=1e-6)
    assert found + p_better(other, one)[0] == pytest.approx(1.0, abs=1e-6)
