"""What happened after each turn: signals that no score of the turn itself goes into.

Of the turn itself only what was heard and what the assistant acted on is used, and only to compare it with what came
later. Nothing knows a language: values, readings, prompts and characters are compared and counted.
"""

from __future__ import annotations

import numpy as np

from selflearn.detect.columns import TurnColumns
from selflearn.detect.comparison import Comparison
from selflearn.detect.items import NONE
from selflearn.detect.signals import PAIR_SIGNAL_NAMES, YES, Signal
from selflearn.ragged import Floats, Ints, max_of

_RATIO = (0.3, 0.5, 0.65, 0.8, 0.999)
_SHARED = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
_HEARD = (0.01, 0.6, 0.75, 0.9, 0.999)

FOLLOW_UP_SIGNALS: tuple[Signal, ...] = (
    Signal("turns_left", "outcome", (0.5, 1.5, 2.5, 5.5), "turns that the session still had"),
    Signal("asked_again", "outcome", (0.5, 1.5), "the assistant asked the same again"),
    Signal("next_unread", "outcome", YES, "the next turn got no reading, or the fallback"),
    Signal("later_doubt", "outcome", (0.2, 0.35, 0.5, 0.65, 0.8), "mean doubt in the later turns of the session"),
    Signal("gap", "outcome", (5, 8, 12, 20, 40), "seconds to the next turn"),
    Signal("text_next", "outcome", _RATIO, "the next turn sounds the same"),
    Signal("text_later", "outcome", _RATIO, "a later turn sounds the same"),
    Signal("wording_next", "outcome", _SHARED, "characters common to this turn's n-best and the next one's"),
    Signal("wording_later", "outcome", _SHARED, "characters common to this turn's n-best and a later one's"),
    Signal("length_next", "outcome", (-1, -0.4, -0.1, 0.1, 0.4, 1), "log of the next turn's length over this one's"),
    Signal("heard_next", "outcome", _HEARD, "new values of the next turn found in this turn's words"),
    Signal("heard_later", "outcome", _HEARD, "new values of a later turn found in this turn's words"),
    Signal("contradicted", "outcome", YES, "the next turn has another value for the same slot"),
    Signal("values_kept", "outcome", (0.01, 0.5, 0.99), "overlap of the next reading's values with this one's"),
    Signal("alternative_next", "outcome", YES, "the next turn was read as an alternative of this one"),
    Signal("path_trouble", "outcome", (0.33, 0.67, 1, 1.5, 2.5), "seed after this intent, prompt and next prompt"),
    Signal("interrupted", "outcome", YES, "the user cut into the answer"),
    Signal("failed", "outcome", YES, "error or cancellation"),
    Signal("completed", "outcome", YES, "the assistant reports that it did what it read"),
    Signal("feedback", "outcome", (-0.5, 0.5), "thumbs down, nothing, thumbs up"),
)
_OF_NEXT = {
    "asked_again": "prompt_repeated",
    "next_unread": "target_unread",
    "gap": "gap",
    "text_next": "text_similarity",
    "wording_next": "wording_shared",
    "length_next": "length_ratio",
    "heard_next": "value_heard",
    "contradicted": "value_contradicts",
    "values_kept": "values_shared",
}
_LARGEST = {"text_later": "text_similarity", "wording_later": "wording_shared", "heard_later": "value_heard"}
"""Signals of the pair with the next turn, and the largest over all pairs, by name."""


def follow_up(compared: Comparison, path_trouble: Floats) -> Floats:
    """Signals of each turn, shape (turns, signals), in the order of `FOLLOW_UP_SIGNALS`, NaN where missing.

    `path_trouble` is the usual seed on each turn's path (`shares.path_keys`) over the mean of all turns.
    """
    turns = compared.turns
    left = _session_end(turns) - np.arange(compared.n_turns)
    columns = {
        **{name: of_next(compared, of_pair) for name, of_pair in _OF_NEXT.items()},
        **{name: largest(compared, _of_pairs(compared, of_pair)) for name, of_pair in _LARGEST.items()},
        "turns_left": left,
        "later_doubt": _later_doubt(turns, left),
        "alternative_next": _alternative_next(turns),
        "path_trouble": path_trouble,
        "interrupted": turns.barge_in,
        "failed": turns.failed,
        "completed": turns.completed,
        "feedback": turns.feedback,
    }
    return np.column_stack([columns[signal.name].astype(np.float64) for signal in FOLLOW_UP_SIGNALS])


def of_next(compared: Comparison, name: str) -> Floats:
    """A signal of the pair that each turn makes with the next one, NaN where they make none."""
    found, is_next = np.full(compared.n_turns, np.nan), compared.distance == 1
    found[compared.source[is_next]] = _of_pairs(compared, name)[is_next]
    return found


def largest(compared: Comparison, values: Floats) -> Floats:
    """Largest known value over each turn's pairs, NaN where there is none."""
    offsets = np.searchsorted(compared.source, np.arange(compared.n_turns + 1))
    found = max_of(np.where(np.isnan(values), -np.inf, values), offsets, -np.inf)
    return np.where(np.isinf(found), np.nan, found)


def _of_pairs(compared: Comparison, name: str) -> Floats:
    return np.asarray(compared.signals[:, PAIR_SIGNAL_NAMES.index(name)])


def _session_end(turns: TurnColumns) -> Ints:
    """The last turn of each turn's session."""
    ends = np.flatnonzero(turns.ends_session)
    return np.asarray(ends[np.searchsorted(ends, np.arange(len(turns.at)))])


def _later_doubt(turns: TurnColumns, left: Ints) -> Floats:
    doubt = np.concatenate([[0.0], np.cumsum(turns.heuristic_friction())])
    after = np.arange(1, len(doubt))
    return np.where(left > 0, (doubt[after + left] - doubt[after]) / np.maximum(left, 1), np.nan)


def _alternative_next(turns: TurnColumns) -> Floats:
    """Whether the next turn was acted on by a goal that this one's NLU considered and did not choose."""
    readings = turns.readings
    following = np.where(turns.ends_session, NONE, np.roll(readings.acted_on, -1))
    following = np.where(following == readings.top, NONE, following)
    considered = readings.codes == np.repeat(following, np.diff(readings.offsets))
    found = max_of(considered.astype(np.float64), readings.offsets, 0.0)
    return np.where(turns.ends_session, np.nan, found)
