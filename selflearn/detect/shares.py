"""What usually became of turns that are alike: a few thousand shares by key, learnt from the log and carried along."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selflearn.detect.columns import TurnColumns
from selflearn.detect.items import goal_items
from selflearn.ragged import Floats, Ints


@dataclass(frozen=True)
class Keys:
    """What each turn is alike in: `codes` are places in `names`."""

    names: Sequence[str]
    codes: Ints


def path_keys(turns: TurnColumns) -> Keys:
    """Where the conversation went: the intent acted on, the context, and the context of the session's next turn."""
    intents: dict[str | None, int] = {}
    of_goal = [intents.setdefault(goal_items(goal)[-1][1], len(intents)) for goal in turns.readings.goals]
    of_goal.append(intents.setdefault(None, len(intents)))
    contexts = [*turns.contexts, None]
    following = np.where(turns.ends_session, len(turns.contexts), np.roll(turns.context, -1))
    intent = np.array(of_goal, dtype=np.int64)[turns.readings.acted_on]
    distinct, codes = np.unique(
        (intent * len(contexts) + turns.context) * len(contexts) + following, return_inverse=True
    )
    rest, after = np.divmod(distinct, len(contexts))
    named, before = np.divmod(rest, len(contexts))
    of_intent = list(intents)
    names = [
        json.dumps([of_intent[i], contexts[j], contexts[k]], ensure_ascii=False)
        for i, j, k in zip(named.tolist(), before.tolist(), after.tolist(), strict=True)
    ]
    return Keys(names, codes.ravel())


def utterance_keys(turns: TurnColumns) -> Keys:
    """The words in their context."""
    return Keys(turns.utterances, turns.utterance)


def share_of(keys: Keys, shares: Mapping[str, float]) -> Floats:
    """The share of each turn's key, NaN where it is not known."""
    return np.array([shares.get(name, np.nan) for name in keys.names], dtype=np.float64)[keys.codes]
