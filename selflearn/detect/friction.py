"""Friction: the probability that a turn failed its user, from the turn itself and from what came next."""

from __future__ import annotations

import numpy as np

from selflearn.detect.columns import TROUBLE_FRICTION
from selflearn.detect.comparison import Comparison
from selflearn.detect.signals import PAIR_SIGNAL_NAMES, YES, Signal
from selflearn.ragged import Floats

FRICTION_SIGNALS: tuple[Signal, ...] = (
    Signal("confidence", "own", (0.3, 0.5, 0.7, 0.9, 0.99), "probability of the top reading"),
    Signal("unread", "own", YES, "no reading, or the fallback"),
    Signal("recognition", "own", (0.05, 0.22, 0.5, 0.74, 0.9), "the recogniser's confidence"),
    Signal("trouble", "outcome", YES, "error or cancellation"),
    Signal("completed", "outcome", YES, "the assistant reports that it did what it read"),
    Signal("feedback", "outcome", (-0.5, 0.5), "thumbs down, nothing, thumbs up"),
    Signal("said_again", "outcome", (0.1, 0.25, 0.5, 0.75), "probability that a later turn says it again"),
    Signal("interrupted", "outcome", YES, "the user cut into the answer"),
    Signal("asked_again", "outcome", (0.5, 1.5), "the assistant asked the same again"),
    Signal("went_on", "outcome", YES, "the session went on within the gap"),
)
OUTCOMES = tuple(k for k, signal in enumerate(FRICTION_SIGNALS) if signal.group == "outcome")
_PROMPT_REPEATED = PAIR_SIGNAL_NAMES.index("prompt_repeated")
_ACCEPTED_DOUBT = 0.25
"""Share of the doubt that is left where the user went on and said nothing again."""


def friction_signals(compared: Comparison, p_rephrase: Floats) -> tuple[Floats, Floats]:
    """Signals of each turn, shape (turns, signals), in the order of `FRICTION_SIGNALS`; and its seed.

    `p_rephrase` has one probability for each compared pair. The seed is the doubt in recognition and reading, weighed
    by whether it was said again; at least .9 after visible trouble.
    """
    turns = compared.turns
    said_again, went_on = np.zeros(compared.n_turns), np.zeros(compared.n_turns)
    np.maximum.at(said_again, compared.source, p_rephrase)
    went_on[compared.source] = 1
    asked_again = np.full(compared.n_turns, np.nan)
    is_next = compared.distance == 1
    asked_again[compared.source[is_next]] = compared.signals[is_next, _PROMPT_REPEATED]
    columns = {
        "confidence": turns.confidence,
        "unread": turns.unread,
        "recognition": turns.recognition,
        "trouble": turns.failed,
        "completed": turns.completed,
        "feedback": turns.feedback,
        "said_again": said_again,
        "interrupted": turns.barge_in,
        "asked_again": asked_again,
        "went_on": went_on,
    }
    signals = np.column_stack([columns[signal.name].astype(np.float64) for signal in FRICTION_SIGNALS])
    seeds = turns.doubt * (said_again + (1 - said_again) * _ACCEPTED_DOUBT)
    went_wrong = turns.unread | turns.trouble | (turns.completed < 1)
    return signals, np.where(went_wrong, np.maximum(seeds, TROUBLE_FRICTION), seeds)
