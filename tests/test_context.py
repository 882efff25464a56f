"""Words in context: what other contexts lend, and how much, fitted to a log whose truth is known."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selflearn.graph.candidates import Readings
from selflearn.graph.context import DEFAULT_STRENGTH, back_off, day_numbers, fit_strength, once_each
from selflearn.ragged import offsets_of

N_GOALS = 4
DAY = date(2025, 1, 1)
SAID_ON = pa.struct([("turn_date", pa.date32()), ("weight", pa.float64()), ("users", pa.list_(pa.int64()))])


def contexts(strength: float, n_words: int, n_contexts: int, n_turns: int, seed: int) -> tuple[Readings, np.ndarray]:
    """Turns acted on as goals 1 to 4, whose shares in each context are drawn around those of the words."""
    rng = np.random.default_rng(seed)
    of_words = rng.dirichlet(np.full(N_GOALS, 0.7), n_words)
    counts = [
        rng.multinomial(n_turns, rng.dirichlet(strength * share + 1e-9))
        for share in of_words
        for _ in range(n_contexts)
    ]
    n = np.concatenate(counts).astype(float)
    goals = np.tile(np.arange(1, N_GOALS + 1), len(counts))
    readings = Readings(offsets_of([N_GOALS] * len(counts)), goals, n, n, np.zeros(len(n)))
    return readings, np.repeat(np.arange(n_words), n_contexts)


@pytest.mark.parametrize("strength", [0.3, 2.0, 12.0])
def test_strength_of_other_contexts_is_found(strength: float) -> None:
    found = fit_strength(*contexts(strength, 400, 6, 12, seed=3), "en", {})
    assert strength / 2 < found < strength * 2


def test_strength_is_one_turn_where_nothing_tells_it() -> None:
    for n_words, n_contexts in ((0, 1), (5, 1)):
        readings, words = contexts(1.0, n_words, n_contexts, 3, seed=1) if n_words else (nothing(), np.zeros(0, int))
        assert fit_strength(readings, words, "en", {}) == pytest.approx(DEFAULT_STRENGTH, abs=0.001)


@given(st.lists(st.sets(st.integers(0, 4), min_size=1), min_size=1, max_size=6), st.integers(1, 3))
def test_a_person_counts_once_however_often_they_said_it(people: list[set[int]], n_utterances: int) -> None:
    """Of several utterances, said by these people on days in a row, each of which weighs more; the last comes first."""
    days = [DAY + timedelta(k) for k in range(len(people))]
    weights = [0.8 ** (len(people) - k) for k in range(len(people))]
    on = [
        {"turn_date": day, "weight": weight, "users": sorted(of)}
        for day, weight, of in zip(days, weights, people, strict=True)
    ][::-1]
    said_on = pa.array([on] * n_utterances, pa.list_(SAID_ON))
    n = np.tile([weight * len(of) for weight, of in zip(weights, people, strict=True)], n_utterances)
    goals = np.ones(len(n), dtype=np.int64)
    readings = Readings(offsets_of([len(people)] * n_utterances), goals, n, n, 2 * n)
    found = once_each(readings, day_numbers(pa.array(days * n_utterances)), said_on)
    of_person: dict[int, list[float]] = defaultdict(list)
    for weight, of in zip(weights, people, strict=True):
        for person in of:
            of_person[person].append(weight)
    share = {person: max(of) / sum(of) for person, of in of_person.items()}
    expected = [weight * sum(share[p] for p in of) for weight, of in zip(weights, people, strict=True)] * n_utterances
    assert found.n_outcomes == pytest.approx(expected)
    assert found.outcome_sum == pytest.approx([2 * n for n in expected])
    # All that a person gives in all is what the last day gives on which they said it.
    assert found.n_outcomes.sum() == pytest.approx(n_utterances * sum(max(of) for of in of_person.values()))
    assert found.p_sum is readings.p_sum


def test_only_words_of_several_contexts_are_lent_anything() -> None:
    readings, _ = contexts(1.0, 3, 1, 8, seed=2)
    words = np.array([0, 0, 1])
    lent = back_off(readings, words, np.full(3, 8.0), ["en", "en", "en"], {}, {"en": 2.0}, most=3)
    assert lent.n_turns.tolist() == [2.0, 2.0, 0.0]
    assert set(lent.utterance) == {0, 1}
    # Nothing is lent twice, and each context is lent what the other says: never its own.
    assert lent.turns[lent.utterance == 0].sum() <= 2.0
    of_second = dict(zip(readings.goal[4:8].tolist(), readings.p_sum[4:8].tolist(), strict=True))
    for goal, turns in zip(lent.goal[lent.utterance == 0], lent.turns[lent.utterance == 0], strict=True):
        assert turns == pytest.approx(2.0 * (of_second[goal] + 1e-4) / (8 + 1))


def nothing() -> Readings:
    none = np.zeros(0)
    return Readings(np.zeros(1, dtype=np.int64), none.astype(np.int64), none, none, none)
