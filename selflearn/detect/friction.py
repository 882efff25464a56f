"""Friction: the probability that a turn failed its user, and whether it was said again or given up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources

import numpy as np

from selflearn.detect.additive import AdditiveModel
from selflearn.detect.causes import causes
from selflearn.detect.columns import TROUBLE_FRICTION, TurnColumns
from selflearn.detect.comparison import Comparison
from selflearn.detect.follow_up import FOLLOW_UP_SIGNALS, USUAL_SIGNALS, follow_up, largest
from selflearn.detect.latent_class import logit, sigmoid
from selflearn.detect.shares import path_keys, share_of, utterance_keys
from selflearn.detect.signals import levels
from selflearn.ragged import Floats, sum_of

_LEAST_DOUBT, _MOST_DOUBT = 0.002, 0.99
_LEAST_UNREAD_DOUBT, _MOST_UNREAD_DOUBT = 0.01, 0.95
_USUAL_DOUBT = 0.1
_EXPERT_WEIGHT = 0.5


@dataclass(frozen=True)
class Outcomes:
    """What became of each turn.

    Attributes:
        p_failed: probability that it failed and was said again or corrected.
        p_gave_up: probability that it failed and was not: the user left, went on without, or said no more.
        p_friction_follow_up: probability that it failed by what happened after it alone; no score of the turn is in it.
        outcome_log_odds: log-likelihood ratio with which what happened after the turn speaks against its reading,
            beyond what its own doubt and its path tell already.
        causes: distribution over `causes.CAUSES`, were the turn a failure, shape (turns, causes).
    """

    p_failed: Floats
    p_gave_up: Floats
    p_friction_follow_up: Floats
    outcome_log_odds: Floats
    causes: Floats

    @property
    def p_friction(self) -> Floats:
        return np.asarray(np.minimum(1.0, self.p_failed + self.p_gave_up))


@dataclass(frozen=True)
class Seeding:
    """What is believed of a turn before any weight is learnt: it failed and was said again, or failed and was not.

    Attributes:
        unsaid: share of failures that nobody says again.
        doubt_per_character: of a turn without a reading: noise is short, a request is not.
        claimed, worth: what the NLU leaves open, rising, and how much of it failed; none where it is taken at its word.
    """

    unsaid: float
    doubt_per_character: float
    claimed: tuple[float, ...] = ()
    worth: tuple[float, ...] = ()

    def doubt(self, turns: TurnColumns) -> Floats:
        """Probability that each turn failed, before anything is known of what followed."""
        by_length = turns.length * self.doubt_per_character
        unread = np.clip(by_length, _LEAST_UNREAD_DOUBT, _MOST_UNREAD_DOUBT)
        return np.where(turns.unread, unread, self._worth(claimed_doubt(turns)))

    def _worth(self, claimed: Floats) -> Floats:
        """What claimed doubts are worth, by their log-odds, straight from one known doubt to the next."""
        if not self.claimed:
            return claimed
        odds, known = logit(claimed), logit(np.array(self.claimed))
        shift = np.interp(odds, known, logit(np.array(self.worth)) - known)
        return np.clip(sigmoid(odds + shift), _LEAST_DOUBT, _MOST_DOUBT)

    def unsaid_failure(self, doubt: Floats) -> Floats:
        """The doubt that is left where nothing was said again, by Bayes."""
        return np.asarray(doubt * self.unsaid / (1 - doubt + doubt * self.unsaid))

    def seeds(self, turns: TurnColumns, said_again: Floats) -> Floats:
        """Probability that each turn failed, by doubt and by what was said again; what was reported goes first."""
        seeds = said_again + (1 - said_again) * self.unsaid_failure(self.doubt(turns))
        seeds = np.where(turns.feedback > 0, np.minimum(seeds, 1 - TROUBLE_FRICTION), seeds)
        return np.where(turns.trouble | (turns.completed == 0), np.maximum(seeds, TROUBLE_FRICTION), seeds)


@dataclass(frozen=True)
class FrictionModel:
    """Seeds and weights of what followed; their log-odds count half each.

    Attributes:
        weights: of `FOLLOW_UP_SIGNALS`, log-odds of failure given what followed.
        evidence: of `EVENT_SIGNALS`, log-likelihood ratio of failure, given the turn's own doubt and path.
        path_trouble: mean seed over the mean of all turns, by `shares.path_keys`.
        left_unread: share of turns without a reading, by `shares.utterance_keys`.
        n: turns it was learnt from.
    """

    seeding: Seeding
    weights: AdditiveModel
    evidence: AdditiveModel
    path_trouble: Mapping[str, float]
    left_unread: Mapping[str, float]
    n: float

    def outcomes(self, compared: Comparison, p_rephrase: Floats) -> Outcomes:
        """What became of the turns; `p_rephrase` has one probability for each compared pair."""
        turns, again = compared.turns, said_again(compared, p_rephrase)
        doubt = self.seeding.doubt(turns)
        signals = follow_up(compared, share_of(path_keys(turns), self.path_trouble))
        cut = levels(signals, FOLLOW_UP_SIGNALS)
        followed = self.weights.log_odds(cut)
        seeded = logit(self.seeding.seeds(turns, again))
        p_friction = sigmoid(_EXPERT_WEIGHT * seeded + (1 - _EXPERT_WEIGHT) * followed)
        p_failed = p_friction * again / (again + (1 - again) * self.seeding.unsaid_failure(doubt))
        left_unread = np.nan_to_num(share_of(utterance_keys(turns), self.left_unread))
        return Outcomes(
            p_failed=p_failed,
            p_gave_up=p_friction - p_failed,
            p_friction_follow_up=sigmoid(followed),
            outcome_log_odds=self.evidence.log_odds(cut[:, len(USUAL_SIGNALS) :]),
            causes=causes(compared, doubt, again, left_unread),
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, content: str) -> FrictionModel:
        """Read what `to_json` wrote."""
        fields = json.loads(content)
        for name in ("weights", "evidence"):
            model = fields[name]
            rows = tuple(tuple(row) for row in model["weights"])
            fields[name] = AdditiveModel(tuple(model["signals"]), rows, model["offset"])
        seeding = fields["seeding"]
        fields["seeding"] = Seeding(**seeding | {name: tuple(seeding[name]) for name in ("claimed", "worth")})
        return cls(**fields)


@cache
def shipped_friction() -> FrictionModel:
    """The model that comes with the package, learnt on simulated logs, for logs that are too small for one."""
    return FrictionModel.from_json(resources.files("selflearn.detect").joinpath("shipped_friction.json").read_text())


def said_again(compared: Comparison, p_rephrase: Floats) -> Floats:
    """Probability that a later turn says it again: that of the likeliest pair."""
    return np.nan_to_num(largest(compared, p_rephrase))


def claimed_doubt(turns: TurnColumns) -> Floats:
    """What the NLU leaves open: 1 - its score, the less where alternatives come close to it.

    Scores that with those of the alternatives sum to more than one are scaled down. Without a score what the recogniser
    leaves open counts, and without both the usual.
    """
    readings = turns.readings
    others = readings.codes != np.repeat(readings.top, np.diff(readings.offsets))
    rivals = sum_of(readings.probabilities * others, readings.offsets)
    read = turns.confidence / np.maximum(1.0, turns.confidence + rivals)
    known = np.where(np.isnan(read), turns.recognition, read)
    return np.clip(np.where(np.isnan(known), _USUAL_DOUBT, 1 - known), _LEAST_DOUBT, _MOST_DOUBT)
