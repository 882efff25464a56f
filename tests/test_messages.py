"""Messages: an answer takes back what the asker said."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selflearn.graph.candidates import (
    LINKS,
    Candidates,
    Messages,
    Readings,
    heard,
    own_candidates,
    with_messages,
    without_each,
)
from selflearn.ragged import offsets_of


@given(st.randoms(use_true_random=False))
def test_an_answer_takes_back_what_the_asker_said(rng: Random) -> None:
    """Without each message in turn, the evidence is what all the other messages give."""
    own = random_candidates(rng, rng.randint(1, 4))
    messages = random_messages(rng, own.n_utterances)
    together, locale = heard(messages), ["en"] * own.n_utterances
    found = with_messages(own, together, messages.n_links, locale, {}, most=99)
    answers = without_each(found, own, together, messages)
    for k, utterance in enumerate(messages.utterance):
        others = but_for(messages, k)
        alone = with_messages(own, heard(others), others.n_links, locale, {}, most=99)
        of_answer, of_alone = answers.utterance == k, alone.utterance == utterance
        assert answers.goal[of_answer].tolist() == alone.goal[of_alone].tolist()
        assert answers.evidence[of_answer] == pytest.approx(alone.evidence[of_alone], abs=1e-9)


def random_candidates(rng: Random, n: int) -> Candidates:
    readings = [rng.sample(range(1, 5), rng.randint(0, 3)) for _ in range(n)]
    goals = np.array([goal for row in readings for goal in row], dtype=np.int64)
    p, times = np.array([rng.random() / 3 for _ in goals]), np.zeros(len(goals))
    listed = Readings(offsets_of([len(row) for row in readings]), goals, p, times, times)
    return own_candidates(listed, np.ones(n), ["en"] * n, {}, most=5)


def random_messages(rng: Random, n: int) -> Messages:
    utterance = np.array(sorted(rng.randrange(n) for _ in range(rng.randint(0, 6))), dtype=np.int64)
    said = [sorted(rng.sample(range(1, 7), rng.randint(0, 4))) for _ in utterance]
    message = np.repeat(np.arange(len(said)), [len(row) for row in said]).astype(np.int64)
    goal = np.array([goal for row in said for goal in row], dtype=np.int64)
    links = np.array([[rng.uniform(0.1, 3) for _ in LINKS] for _ in said]).reshape(-1, len(LINKS))
    p = np.array([[rng.uniform(0.1, 0.9) for _ in LINKS] for _ in said]).reshape(-1, len(LINKS))
    return Messages(n, utterance, links, p, links / 2, message, goal, np.array([rng.uniform(0.1, 9) for _ in goal]))


def but_for(messages: Messages, k: int) -> Messages:
    is_other, is_said = np.arange(len(messages.utterance)) != k, messages.message != k
    message = messages.message[is_said]
    return replace(
        messages,
        utterance=messages.utterance[is_other],
        n=messages.n[is_other],
        p=messages.p[is_other],
        n_rest=messages.n_rest[is_other],
        message=message - (message > k),
        goal=messages.goal[is_said],
        ratio=messages.ratio[is_said],
    )
