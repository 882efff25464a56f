"""Words in context: what other contexts lend, and how much, fitted to a log whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from selflearn.graph.candidates import Readings
from selflearn.graph.context import DEFAULT_STRENGTH, back_off, fit_strength
from selflearn.ragged import offsets_of

N_GOALS = 4


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
