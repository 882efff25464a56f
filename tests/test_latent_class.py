"""The latent-class model: what it learns from seeds, and what it leaves alone."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import expit

from selflearn.detect.latent_class import (
    MAX_STEPS,
    MIN_OBSERVATIONS,
    LevelModel,
    Patterns,
    choose_steps,
    fit,
    path,
    shipped_model,
)
from selflearn.detect.signals import PAIR_SIGNALS, Signal

SIGNALS = (
    Signal("alike", "similarity", (0.3, 0.6), "rises with a match"),
    Signal("unlike", "similarity", (0.5,), "falls with a match"),
    Signal("noise", "context", (0.5,), "the same in both classes"),
    Signal("rarely_known", "source", (0.5,), "rises with a match, mostly missing"),
)
# Shares of levels 0 (missing), 1, 2, ... in each class.
MATCH = ((0.0, 0.1, 0.2, 0.7), (0.0, 0.8, 0.2), (0.0, 0.5, 0.5), (0.8, 0.02, 0.18))
UNMATCH = ((0.0, 0.6, 0.3, 0.1), (0.0, 0.3, 0.7), (0.0, 0.5, 0.5), (0.8, 0.16, 0.04))
FLAT = tuple((0.0, *[1 / (s.n_levels - 1)] * (s.n_levels - 1)) for s in SIGNALS)
NAMES, EDGES = tuple(s.name for s in SIGNALS), tuple(s.edges for s in SIGNALS)
ANCHOR = LevelModel("anchor", NAMES, EDGES, FLAT, FLAT, (1.0,) * 4, -1.0, 0.3, 0.75, 0.0, 1)


def two_classes(n: int, seed: int = 1) -> Patterns:
    """Rows of a known class whose seeds say roughly, and not always rightly, which class it is."""
    rng = np.random.default_rng(seed)
    is_match = rng.random(n) < 0.2
    columns = [
        np.where(is_match, rng.choice(len(m), n, p=m), rng.choice(len(u), n, p=u))
        for m, u in zip(MATCH, UNMATCH, strict=True)
    ]
    seeds = np.clip(np.where(is_match, 0.5, 0.15) + rng.normal(0, 0.15, n), 0.1, 0.9).round(1)
    return Patterns(np.stack(columns, axis=1).astype(np.int8), np.ones(n), seeds)


def merged(patterns: Patterns) -> Patterns:
    """Rows of equal levels and seeds added up."""
    rows = np.column_stack([patterns.levels, patterns.seeds])
    distinct, place = np.unique(rows, axis=0, return_inverse=True)
    counts = np.bincount(place.ravel(), weights=patterns.counts)
    return Patterns(distinct[:, :-1].astype(np.int8), counts, distinct[:, -1])


def probabilities(model: LevelModel, patterns: Patterns) -> np.ndarray:
    return expit(model.log_odds(patterns.levels, patterns.seeds))


def after(patterns: Patterns, steps: int) -> LevelModel:
    """The model after some steps from the seeds."""
    return path("pair", patterns, SIGNALS, steps, ANCHOR)[-1]


def close(one: LevelModel, other: LevelModel) -> bool:
    same_shares = all(
        np.allclose(a, b) for a, b in zip(one.match + one.unmatch, other.match + other.unmatch, strict=True)
    )
    return same_shares and np.allclose([one.offset, one.slope, one.n], [other.offset, other.slope, other.n])


random_patterns = st.builds(
    lambda rows: Patterns(
        np.array([levels for levels, _, _ in rows], dtype=np.int8),
        np.array([float(count) for _, count, _ in rows]),
        np.array([seed for _, _, seed in rows]),
    ),
    st.lists(
        st.tuples(
            st.tuples(*(st.integers(0, s.n_levels - 1) for s in SIGNALS)),
            st.integers(100, 10_000),
            st.floats(0.05, 0.95) | st.sampled_from([0.0, 1.0]),
        ),
        min_size=2,
        max_size=12,
    ),
).filter(lambda patterns: 5 < patterns.counts @ patterns.seeds < patterns.n - 5)


@pytest.mark.parametrize("steps", [1, 3])
def test_weights_recover_the_direction_of_every_signal(steps: int) -> None:
    patterns = two_classes(20_000)
    alike, unlike, noise, rarely_known = after(patterns, steps).weights()
    assert alike[1] < alike[2] < alike[3]
    assert alike[1] < 0 < alike[3]
    assert unlike[2] < 0 < unlike[1]
    assert max(map(abs, noise)) < 0.1
    assert rarely_known[1] < 0 < rarely_known[2]


def test_log_odds_tell_the_classes_better_than_the_seeds_they_were_learnt_from() -> None:
    patterns = two_classes(20_000)
    model = after(patterns, 1)
    true_log_odds = sum(
        np.log((np.array(m) + 1e-12) / (np.array(u) + 1e-12))[patterns.levels[:, k]]
        for k, (m, u) in enumerate(zip(MATCH, UNMATCH, strict=True))
    )
    learnt = np.corrcoef(model.log_odds(patterns.levels, patterns.seeds), true_log_odds)[0, 1]
    assert learnt > np.corrcoef(patterns.seeds, true_log_odds)[0, 1] + 0.1


# A logistic fit to these runs away where its steps are not bounded.
SEPARABLE = Patterns(
    np.array([[0, 0, 0, 1], [0, 0, 0, 2], [0, 0, 1, 0]], dtype=np.int8),
    np.array([104.0, 100.0, 1466.0]),
    np.array([0.0, 0.25, 1.0]),
)
RARE = Patterns(
    np.array([[1, 2, 1, 0], [3, 1, 1, 0]], dtype=np.int8), np.array([29_980.0, 20.0]), np.array([1e-5, 0.5])
)


@settings(max_examples=40)
@example(SEPARABLE, 1)
@example(RARE, 1)
@given(random_patterns, st.integers(1, 4))
def test_mean_posterior_equals_mean_seed_whatever_the_patterns(patterns: Patterns, steps: int) -> None:
    model = after(patterns, steps)
    assert np.isfinite([model.offset, model.slope]).all()
    assert np.isfinite([weight for row in model.weights() for weight in row]).all()
    mean = patterns.counts @ probabilities(model, patterns) / patterns.n
    assert mean == pytest.approx(patterns.counts @ patterns.seeds / patterns.n, abs=1e-6)
    assert (model.n, model.steps) == (patterns.n, steps)


def test_patterns_that_tell_the_seeds_apart_leave_room_for_doubt() -> None:
    model = after(SEPARABLE, 1)
    assert 0 < model.slope < 20
    unseen = model.log_odds(np.array([[0, 0, 1, 1], [0, 0, 1, 2]], dtype=np.int8), np.array([0.5, 0.5]))
    assert np.abs(unseen).max() < 20


@settings(max_examples=40)
@given(random_patterns, st.integers(1, 3))
def test_equal_patterns_may_be_split_or_merged(patterns: Patterns, steps: int) -> None:
    once = after(merged(patterns), steps)
    halves = Patterns(
        np.concatenate([patterns.levels, patterns.levels[::-1]]),
        np.concatenate([patterns.counts / 4, patterns.counts[::-1] * 3 / 4]),
        np.concatenate([patterns.seeds, patterns.seeds[::-1]]),
    )
    assert close(after(halves, steps), once)


def test_a_missing_level_weighs_nothing() -> None:
    model = after(two_classes(5_000), 1)
    assert all(row[0] == 0 for row in model.weights())
    nothing_known = model.log_odds(np.zeros((1, len(SIGNALS)), dtype=np.int8), np.array([0.5]))
    assert nothing_known.tolist() == [model.offset]
    # A signal that is never known teaches nothing: its levels keep the anchor's weight.
    patterns = two_classes(5_000)
    patterns.levels[:, 3] = 0
    unknown = after(patterns, 1).weights()[3]
    assert unknown == pytest.approx(ANCHOR.weights()[3])


def test_log_odds_are_the_weights_times_the_slope_and_the_seed() -> None:
    model = after(two_classes(5_000), 2)
    weights = model.weights()
    seed = 0.3
    by_hand = model.offset + model.slope * (weights[0][3] + weights[1][1] + weights[2][0] + weights[3][2])
    by_hand += model.seed_weight * np.log(seed / (1 - seed))
    levels = np.array([[3, 1, 0, 2]], dtype=np.int8)
    assert model.log_odds(levels, np.array([seed])) == pytest.approx([by_hand])
    assert np.isfinite(model.log_odds(np.repeat(levels, 2, axis=0), np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize(
    ("count", "seed"),
    [
        pytest.param(MIN_OBSERVATIONS / 8 - 1, 0.5, id="too few rows"),
        pytest.param(10_000, 6e-5, id="hardly a match"),
        pytest.param(10_000, 1 - 6e-5, id="hardly anything else"),
        pytest.param(0, 0.5, id="nothing"),
    ],
)
def test_too_little_data_gives_the_anchor_back_and_says_so(
    count: float, seed: float, caplog: pytest.LogCaptureFixture
) -> None:
    few = Patterns(two_classes(8).levels, np.full(8, float(count)), np.full(8, seed))
    with caplog.at_level(logging.WARNING):
        assert fit("pair", few, SIGNALS, (), ANCHOR) is ANCHOR
    assert "too few to fit" in caplog.text


def test_little_data_stays_near_the_anchor_and_much_data_leaves_it() -> None:
    upside_down = replace(ANCHOR, match=(*FLAT[:3], (0.0, 0.9, 0.1)), unmatch=(*FLAT[:3], (0.0, 0.1, 0.9)))
    few, many = (fit("pair", two_classes(n), SIGNALS, (), upside_down).weights()[3] for n in (250, 50_000))
    assert few[1] > 0 > few[2]
    assert many[1] < 0 < many[2]


def test_steps_settle_instead_of_walking_away() -> None:
    patterns = two_classes(20_000)
    models = path("pair", patterns, SIGNALS, 12, ANCHOR)
    found = [model.log_odds(patterns.levels, patterns.seeds) for model in models]
    moves = [np.abs(later - earlier).max() for earlier, later in pairwise(found)]
    assert moves[-1] < 0.01 < moves[0]
    assert np.corrcoef(found[0], found[-1])[0, 1] > 0.98


def test_copies_of_a_signal_weigh_as_one() -> None:
    patterns = two_classes(20_000)
    once = path("pair", patterns, SIGNALS, 1, None)[0]
    tripled = Patterns(patterns.levels[:, [0, 0, 0, 1, 2, 3]], patterns.counts, patterns.seeds)
    thrice = path("pair", tripled, [SIGNALS[0]] * 3 + list(SIGNALS[1:]), 1, None)[0]
    assert sum(thrice.reliance[:3]) == pytest.approx(once.reliance[0], rel=0.05)
    assert np.sum(thrice.weights()[:3], axis=0) == pytest.approx(once.weights()[0], rel=0.05)
    assert all(0 < share <= 1 for model in (once, thrice) for share in model.reliance)


def test_steps_are_those_that_foretell_the_withheld_signal_best() -> None:
    patterns = two_classes(20_000)
    assert choose_steps(patterns, SIGNALS, (), ANCHOR) == 1
    chosen = choose_steps(patterns, SIGNALS, ("alike",), ANCHOR)
    assert 1 <= chosen <= MAX_STEPS
    assert fit("pair", patterns, SIGNALS, ("alike",), ANCHOR) == after(patterns, chosen)
    # Seeds that say nothing of the classes are bettered by one step at most: what follows repeats itself.
    told = [foretold(patterns, steps) for steps in range(1, MAX_STEPS + 1)]
    assert told[chosen - 1] == pytest.approx(max(told))


def foretold(patterns: Patterns, steps: int) -> float:
    """The twin: share of the class's entropy that the withheld first signal resolves, pattern by pattern."""
    others = Patterns(patterns.levels[:, 1:], patterns.counts, patterns.seeds)
    anchor = replace(
        ANCHOR,
        signals=NAMES[1:],
        edges=EDGES[1:],
        match=FLAT[1:],
        unmatch=FLAT[1:],
        reliance=ANCHOR.reliance[1:],
    )
    p = probabilities(path("pair", others, SIGNALS[1:], steps, anchor)[-1], others)
    joint = np.zeros((2, SIGNALS[0].n_levels))
    for level, posterior in zip(patterns.levels[:, 0], p, strict=True):
        joint[:, level] += posterior, 1 - posterior
    joint = joint[:, 1:] / joint.sum()
    entropy = [-sum(x * np.log(x) for x in row if x) for row in (joint.ravel(), joint.sum(0), joint.sum(1))]
    return float((entropy[1] + entropy[2] - entropy[0]) / entropy[2])


def test_a_model_survives_as_json_and_nothing_else_does() -> None:
    model = after(two_classes(1_000), 2)
    assert LevelModel.from_json(model.to_json(), SIGNALS) == model
    content = json.loads(model.to_json())
    too_few_levels = {"match": [row[:-1] for row in content["match"]]}
    broken = [json.dumps(content | odd) for odd in ({"colour": 1}, too_few_levels)]
    for text in ("{", "[]", "null", '"text"', "{}", '{"match": 3}', *broken):
        with pytest.raises((ValueError, TypeError)):
            LevelModel.from_json(text, SIGNALS)


def test_the_shipped_model_fits_the_declared_signals() -> None:
    model = shipped_model("pair")
    assert model.name == "pair"
    assert [len(row) for row in model.weights()] == [signal.n_levels for signal in PAIR_SIGNALS]
    for shares in (*model.match, *model.unmatch):
        assert shares[0] == 0
        assert sum(shares) == pytest.approx(1, abs=1e-3)
