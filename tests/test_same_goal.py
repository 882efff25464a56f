"""The probability that two utterances mean the same goal: what it looks at, and that it holds on goals not seen."""

from __future__ import annotations

import json
from collections import defaultdict
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selflearn.variants.calibration import (
    MIN_KNOWN_PAIRS,
    SameGoalModel,
    fit_same_goal,
    is_left_out,
    shipped_model,
)
from selflearn.variants.certainty import SURE, not_too_sure, sure_from
from selflearn.variants.comparison import (
    SIGNALS,
    Lexicon,
    empty_lexicon,
    own_signals,
    shared_words,
    text_signals,
    words_apart,
    words_of,
)
from selflearn.variants.known_pairs import COSINE_BINS, known_pairs

CITIES = [f"{first}{last}" for first in ("bo", "ka", "li", "mun", "ter") for last in ("ra", "vik", "dos", "ham", "lu")]
WORDINGS = ("weather in {}", "what is the weather in {}", "will it rain in {}", "forecast for {} please")
OTHERS = {
    "table": ("book a table in {}", "a table for two in {}"),
    "train": ("trains to {}", "when is the next train to {}"),
    "hotel": ("find me a hotel in {}", "where can i sleep in {}"),
    "news": ("what happened in {}", "news from {}"),
    "route": ("drive me to {}", "the fastest way to {}"),
}


def goal(intent: str, city: str) -> str:
    return json.dumps({"intent": intent, "slots": [{"name": "city", "value": city}]})


def said(locale: str) -> list[tuple[str, str, str]]:
    """Utterances of a made-up log: locale, text and goal."""
    frames = {"weather": WORDINGS, **OTHERS}.items()
    return [(locale, w.format(c), goal(intent, c)) for c in CITIES for intent, wordings in frames for w in wordings]


def pairs_of(utterances: list[tuple[str, str, str]], n: int, seed: int = 1) -> pa.Table:
    """Pairs of one goal, of one city and of one intent, in turn: cosines tell little of which is which."""
    rng, rows = Random(seed), []
    frames = [json.loads(known) for *_, known in utterances]
    keys = [
        [known for *_, known in utterances],
        [frame["slots"][0]["value"] for frame in frames],
        [frame["intent"] for frame in frames],
    ]
    groups: list[dict[str, list[int]]] = [defaultdict(list) for _ in keys]
    for place, key in ((place, key) for place in range(len(utterances)) for key in range(len(keys))):
        groups[key][keys[key][place]].append(place)
    for k in range(n):
        kind, left = k % 3, rng.randrange(len(utterances))
        right = rng.choice(groups[kind][keys[kind][left]])
        same_words = set(utterances[left][1].split()) & set(utterances[right][1].split())
        cosine = 0.5 + 0.06 * min(6, len(same_words)) + 0.1 * rng.random()
        rows.append((utterances[left], utterances[right], cosine))
    columns = {"cosine": [cosine for *_, cosine in rows]}
    for side, place in (("left", 0), ("right", 1)):
        for name, at in (("locale", 0), ("text", 1), ("goal", 2)):
            columns[f"{side}_{name}"] = [row[place][at] for row in rows]
        columns[f"{side}_context"] = [""] * len(rows)
    return pa.table(columns)


def density(pairs: pa.Table) -> dict[tuple[str, int], int]:
    cells = zip(pairs["left_locale"].to_pylist(), pairs["cosine"].to_pylist(), strict=True)
    found: dict[tuple[str, int], int] = {}
    for locale, cosine in cells:
        cell = (locale, int(cosine * COSINE_BINS))
        found[cell] = found.get(cell, 0) + 1
    return found


def p_of(model: SameGoalModel, lexicon, pairs: pa.Table) -> np.ndarray:
    left, right = (pairs[f"{side}_text"].combine_chunks() for side in ("left", "right"))
    of_words, apart = words_apart(left, right, lexicon)
    signals = own_signals(pairs) | text_signals(left, right) | of_words
    return model.probability(signals, apart, pairs["left_locale"].to_pylist())


@pytest.fixture(scope="module")
def fitted():
    pairs = pairs_of(said("en"), 3_000)
    known, lexicon = known_pairs(pairs, density(pairs), False)
    return fit_same_goal(known), lexicon, known


TEXTS = st.lists(st.text("ab' 東é", max_size=8), min_size=1, max_size=6)


@given(TEXTS, st.data())
def test_words_shared_and_apart_are_those_of_sets(texts: list[str], data: st.DataObject) -> None:
    ends = st.lists(st.sampled_from(texts), min_size=3, max_size=3)
    left, right = data.draw(ends), data.draw(ends)
    counts = np.zeros(1 << 18, dtype=np.float32)
    signals, apart = words_apart(pa.array(left), pa.array(right), Lexicon(2, counts, counts))
    for row, (one, other) in enumerate(zip(left, right, strict=True)):
        sets = [set(words.buckets.tolist()) for words in (words_of([one]), words_of([other]))]
        found = apart.buckets[apart.offsets[row] : apart.offsets[row + 1]].tolist()
        assert sorted(found) == sorted(sets[0] ^ sets[1])
        both, either = len(sets[0] & sets[1]), len(sets[0] | sets[1])
        assert signals["words"][row] == pytest.approx(both / either if either else 1.0)
    common = shared_words(words_of(left), words_of(right))
    assert [set(part) for part in np.split(common.buckets, common.offsets[1:-1])] == [
        set(words_of([a]).buckets) & set(words_of([b]).buckets) for a, b in zip(left, right, strict=True)
    ]


def test_a_word_is_part_of_values_as_often_as_it_was_and_a_new_one_as_rare_ones_are() -> None:
    n_with, n_as_value = np.zeros((2, 1 << 18), dtype=np.float32)
    n_with[:4], n_as_value[:4] = [100, 100, 1, 1], [0, 100, 1, 1]
    lexicon, words = Lexicon(200, n_with, n_as_value), np.array([0, 1, 2, 5])
    never, always, once, new = lexicon.p_value(words, 0, 0)
    assert (never < 0.05, always > 0.95) == (True, True)
    assert once > new == pytest.approx(0.75)
    assert lexicon.p_value(words, 1, 1)[2] == new
    assert lexicon.weight(words)[3] > lexicon.weight(words)[0] > 0


def test_a_value_that_only_one_has_speaks_against_one_goal(fitted) -> None:
    model, lexicon, _ = fitted
    rows = [
        ("weather in kavik", "what is the weather in kavik"),
        ("weather in kavik", "what is the weather in munham"),
        ("weather in kavik", "book a table in kavik"),
    ]
    pairs = pa.table(
        {
            "cosine": [0.8] * 3,
            **{f"{side}_text": [row[at] for row in rows] for at, side in enumerate(("left", "right"))},
            **{f"{side}_context": [""] * 3 for side in ("left", "right")},
            "left_locale": ["en"] * 3,
        }
    )
    same, other_value, other_intent = p_of(model, lexicon, pairs)
    assert same > 0.8
    assert max(other_value, other_intent) < 0.3


def test_it_is_calibrated_on_goals_it_has_not_seen(fitted) -> None:
    model, _, known = fitted
    found = model.metrics["locales"][""]
    assert found["n"] == len(known.is_same)
    assert found["calibration_error"] < 0.05
    assert sum(weight for weight, *_ in found["bins"]) == pytest.approx(known.weight.sum())


@pytest.mark.parametrize(
    ("right_goals", "wrong_goals", "is_sure"),
    [
        pytest.param(60, 0, True, id="many goals, all right"),
        pytest.param(60, 12, False, id="many goals, a fifth of them wrong"),
        pytest.param(2, 0, False, id="two goals prove little"),
    ],
)
def test_pairs_are_sure_as_far_as_goals_and_not_pairs_have_shown(
    right_goals: int, wrong_goals: int, is_sure: bool
) -> None:
    goal = np.repeat(np.arange(right_goals + wrong_goals), 10)
    found = sure_from(np.full(len(goal), 0.97), goal < right_goals, goal, np.ones(len(goal)))
    assert (found == 0.97) == is_sure
    assert is_sure or found == 1.0


def test_what_is_not_sure_stays_below() -> None:
    p = np.array([0.3, 0.9, 0.94, 0.96])
    held = not_too_sure(p, 0.95)
    assert held.tolist() == [0.3, held[1], held[1], 0.96]
    assert 0.899 < held[1] < SURE


def test_no_signal_makes_the_same_goal_less_likely(fitted) -> None:
    model, _, _ = fitted
    assert set(model.score.gains) == set(SIGNALS)
    for gains in model.score.gains.values():
        assert all(np.diff(gains) >= 0)


def test_of_a_trained_encoder_it_trusts_the_goals_that_were_left_out() -> None:
    everything = pairs_of(said("en"), 3_000)
    ends = list(zip(everything["left_goal"].to_pylist(), everything["right_goal"].to_pylist(), strict=True))
    known, _ = known_pairs(everything, density(everything), True)
    n_unseen = np.array([is_left_out(left) + is_left_out(right) for left, right in ends])
    assert len(known.is_same) == (n_unseen > 0).sum()
    # All pairs count alike here, but that one with two such goals is met twice as often.
    assert known.weight == pytest.approx(known.weight.max() * n_unseen[n_unseen > 0] / 2)
    kept = [end for end, n in zip(ends, n_unseen, strict=True) if n]
    tested = [end[0 if is_left else 1] for end, is_left in zip(kept, known.is_left_tested, strict=True)]
    assert all(map(is_left_out, tested))
    assert len(set(zip(tested, known.tested_goal.tolist(), strict=True))) == len(set(tested))
    assert fit_same_goal(known).metrics["locales"][""]["n"] == len(tested)


def test_a_locale_with_few_utterances_has_the_curve_of_all() -> None:
    many = pairs_of(said("en"), 3_000)
    few = pairs_of(said("xx")[:3], 3)
    pairs = pa.concat_tables([many, few])
    known, _ = known_pairs(pairs, density(pairs), False)
    model = fit_same_goal(known)
    scores = np.linspace(-3, 3, 13)
    assert model.locale_curves["xx"].log_odds(scores) == pytest.approx(model.curve.log_odds(scores), abs=0.15)
    assert model.metrics["locales"]["xx"]["n"] == 3


def test_of_equal_utterances_no_more_is_told_than_how_many_have_one_goal() -> None:
    goals = [goal("weather", CITIES[k % 20]) for k in range(600)]
    other = [goals[k] if k % 3 else goal("train", CITIES[k % 20]) for k in range(600)]
    same = {name: [value] * 600 for name, value in (("locale", "en"), ("context", ""), ("text", "one"))}
    of_sides = {f"{side}_{name}": values for side in ("left", "right") for name, values in same.items()}
    pairs = pa.table({"cosine": [1.0] * 600, **of_sides, "left_goal": goals, "right_goal": other})
    known, lexicon = known_pairs(pairs, density(pairs), False)
    model = fit_same_goal(known)
    assert model.is_fitted
    assert p_of(model, lexicon, pairs) == pytest.approx(np.full(600, 2 / 3), abs=0.05)
    assert model.sure_from == 1.0


def test_a_locale_whose_pairs_are_otherwise_has_a_curve_of_its_own() -> None:
    usual, odd = pairs_of(said("en"), 2_000), pairs_of(said("xx"), 2_000, seed=2)
    # In one locale most pairs of one goal have two after all.
    draw, right = Random(3), odd["right_goal"].to_pylist()
    others = [known if draw.random() < 0.3 else goal("other", f"{k}") for k, known in enumerate(right)]
    odd = odd.set_column(odd.schema.get_field_index("right_goal"), "right_goal", [others])
    pairs = pa.concat_tables([usual, odd])
    known, lexicon = known_pairs(pairs, density(pairs), False)
    model = fit_same_goal(known)
    of_one_goal = pa.array([k % 3 == 0 for k in range(2_000)])
    doubtful, sure = (p_of(model, lexicon, rows.filter(of_one_goal)).mean() for rows in (odd, usual))
    assert doubtful < sure - 0.2


def test_too_few_known_pairs_leave_the_shipped_model() -> None:
    pairs = pairs_of(said("en"), MIN_KNOWN_PAIRS)
    model = fit_same_goal(known_pairs(pairs, density(pairs), False)[0])
    assert not model.is_fitted
    assert model.score.knots == shipped_model().score.knots
    assert model.counts["n_same_goal"] < MIN_KNOWN_PAIRS
    p = p_of(model, empty_lexicon(), pairs)
    assert ((p > 0) & (p < 1)).all()


def test_a_saved_model_gives_the_same_probabilities(fitted) -> None:
    model, lexicon, _ = fitted
    pairs = pairs_of(said("en"), 50, seed=5)
    again = SameGoalModel.from_json(model.to_json())
    assert p_of(again, lexicon, pairs) == pytest.approx(p_of(model, lexicon, pairs), abs=2e-3)
    assert again.metrics == model.metrics
