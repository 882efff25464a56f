"""The likely cause of a failure, as a distribution: the chain that a request runs through, link by link."""

from __future__ import annotations

import numpy as np

from selflearn.detect.columns import TurnColumns
from selflearn.detect.comparison import Comparison
from selflearn.detect.follow_up import of_next
from selflearn.ragged import Floats

CAUSES = ("recognition", "understanding", "unsupported", "user")
_USUALLY_HEARD = 0.7
"""Share of turns that a recogniser without scores gets right."""
_LEAST = 0.01
_CUT_IN = 0.5
"""How surely a user who cuts into an answer that was sure meant something else."""


def causes(compared: Comparison, doubt: Floats, said_again: Floats, left_unread: Floats) -> Floats:
    """Distribution over `CAUSES` of each turn, were it a failure, shape (turns, causes).

    A request is heard right with probability r, read right with 1 - d, and left unread from whoever says it with v:

        recognition 1 - r, understanding r d (1 - v), unsupported r d v, user r (1 - d) u

    each over their sum. u: the next turn has another value for the same slot and does not say again what failed, or
    the user cut in. A typed turn is heard right.

    Args:
        doubt: d, before anything is known of what followed.
        said_again: probability that a later turn says it again.
        left_unread: v, share of these words' turns that got no reading.
    """
    heard = _heard(compared.turns)
    changed = np.nan_to_num(of_next(compared, "value_contradicts")) * (1 - said_again)
    meant_otherwise = np.maximum(changed, _CUT_IN * np.nan_to_num(compared.turns.barge_in))
    weights = np.column_stack(
        [
            1 - heard,
            heard * doubt * (1 - left_unread),
            heard * doubt * left_unread,
            heard * (1 - doubt) * meant_otherwise,
        ]
    )
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _heard(turns: TurnColumns) -> Floats:
    """Probability that the words were recognised right."""
    unscored = np.where(np.diff(turns.text_offsets) > 1, _USUALLY_HEARD, 1.0)
    return np.clip(np.where(np.isnan(turns.recognition), unscored, turns.recognition), _LEAST, 1 - _LEAST)
