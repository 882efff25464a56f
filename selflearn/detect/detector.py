"""A day's detector: the model of pairs and the model of turns, and what they make of compared sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from selflearn.detect.causes import CAUSES
from selflearn.detect.comparison import Comparison
from selflearn.detect.friction import FrictionModel, Outcomes
from selflearn.detect.latent_class import sigmoid
from selflearn.detect.merging import merged_readings
from selflearn.detect.signals import level_patterns
from selflearn.ragged import Floats

_LEAST_FRICTION = 1e-6


class PairModel(Protocol):
    """A model of pairs, fitted with gold or without any."""

    @property
    def name(self) -> str:
        """`pair`."""

    def pair_log_odds(self, compared: Comparison) -> Floats:
        """Log-odds that each pair is a rephrase after a failure, shape (pairs,)."""

    def to_json(self) -> str:
        """All of it."""

    def record(self) -> str:
        """What a table keeps of it."""


@dataclass(frozen=True)
class Scores:
    """Probabilities of pairs and turns.

    Attributes:
        p_rephrase: of each pair, that its target says again what its source failed to get.
        p_same_goal: of each pair; a rephrase is `p_same_goal * p_friction` of the source.
        outcomes: what became of each turn.
    """

    p_rephrase: Floats
    p_same_goal: Floats
    outcomes: Outcomes


@dataclass(frozen=True)
class Detector:
    """Models of pairs and of turns."""

    pair: PairModel
    friction: FrictionModel

    def score(self, compared: Comparison) -> Scores:
        p_rephrase = sigmoid(self.pair.pair_log_odds(compared))
        outcomes = self.friction.outcomes(compared, p_rephrase)
        of_source = np.maximum(outcomes.p_friction[compared.source], _LEAST_FRICTION)
        return Scores(p_rephrase, np.minimum(1.0, p_rephrase / of_source), outcomes)


def scored_turns(turns: pa.Table, compared: Comparison, scores: Scores) -> pa.Table:
    """The turns with their scores, and in the list column `pairs` each one's pairs with later turns.

    Columns of `detection.SCORED`.
    """
    outcomes = scores.outcomes
    p_friction = outcomes.p_friction
    target = turns.select(["turn_id", "turn_index", "utterance_id"]).take(pa.array(compared.target))
    merged, p_merged = merged_readings(compared.turns, compared.source, compared.target, scores.p_rephrase)
    of_pairs = {
        "target_turn_id": target["turn_id"],
        "target_turn_index": target["turn_index"],
        "target_utterance": target["utterance_id"],
        "pattern": level_patterns(compared.levels),
        "p_friction_target": pa.array(p_friction[compared.target]),
        "p_same_goal": pa.array(scores.p_same_goal),
        "p_rephrase": pa.array(scores.p_rephrase),
        "merged_goal": pa.array(merged, pa.string()),
        "p_merged": pa.array(p_merged, mask=np.array([goal is None for goal in merged], dtype=bool)),
    }
    arrays = [
        column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in of_pairs.values()
    ]
    offsets = np.searchsorted(compared.source, np.arange(compared.n_turns + 1)).astype(np.int32)
    pairs = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, list(of_pairs)))
    kept = ("turn_date", "session_id", "locale", "user_id", "turn_id", "turn_index", "utterance_id")
    of_turns = {
        "p_friction": p_friction,
        "p_failed": outcomes.p_failed,
        "p_gave_up": outcomes.p_gave_up,
        "p_friction_follow_up": outcomes.p_friction_follow_up,
        "outcome_log_odds": outcomes.outcome_log_odds,
        **{f"p_{cause}": outcomes.causes[:, k] for k, cause in enumerate(CAUSES)},
    }
    scored = turns.select(kept)
    for name, values in of_turns.items():
        scored = scored.append_column(name, pa.array(values))
    return scored.append_column("pairs", pairs)
