"""Tags as a posterior over candidate taggings of each utterance, refitted in rounds.

What a goal's values make of the words is one tagging; a tagger, given the intent, proposes another. Candidates are
weighed by a log-linear pool of what the goals say, the tagger's own probability, and what stands in the same places of
the same carrier (the words around the values) in other utterances, or else how often the intent has these slots. The
tagger then learns from taggings that are sure enough, and all are weighed again. Utterances lie in two folds, each
weighed by what was learnt from the other: no sentence confirms itself.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selflearn.nlu import Example, Tags
from selflearn.nlu.tagger import Tagger
from selflearn.ragged import Floats

Slots = tuple[str, ...]
"""The slots of a tagging, in order."""

ROUNDS = 2
SURE = 0.8
"""A tagging is learnt from, from this posterior on."""
_LEAST = 1e-4
_UNBELIEVED = 0.05
"""Belief in a tagging that no goal speaks for."""
_GENERAL = 1.0
"""Utterances that the intent's share of slots counts as, beside those with the same carrier."""


@dataclass(frozen=True)
class Untagged:
    """An utterance, its intent, and the taggings that its goals make of its words, with their shares of belief."""

    text: str
    context: str
    intent: str
    beliefs: Mapping[Tags, float]


@dataclass(frozen=True)
class Weighed:
    """Candidate taggings of an utterance and their posterior, which sums to one at most."""

    taggings: tuple[Tags, ...]
    posterior: Floats

    @property
    def best(self) -> tuple[Tags, float]:
        at = int(np.argmax(self.posterior))
        return self.taggings[at], float(self.posterior[at])

    def of(self, tags: Tags) -> float:
        """Posterior of a tagging that is a candidate."""
        return float(self.posterior[self.taggings.index(tags)])


@dataclass(frozen=True)
class Learnt:
    """What one fold tells of the other's taggings.

    Attributes:
        of_intent: expected number of utterances with each intent and slots.
        of_carrier: the same of each intent and carrier.
    """

    tagger: Tagger
    of_intent: Mapping[str, Mapping[Slots, float]]
    of_carrier: Mapping[tuple[str, str], Mapping[Slots, float]]

    def weigh(self, one: Untagged) -> Weighed:
        """Posterior of the utterance's taggings: its goals', the tagger's own, and none at all."""
        p_tagger = self.tagger.probabilities(one.text, one.context, one.intent, (*one.beliefs, ()))
        scores = np.array([self._score(one, tags, p) for tags, p in p_tagger.items()])
        mass = np.exp(scores - scores.max())
        return Weighed(tuple(p_tagger), mass / mass.sum())

    def _score(self, one: Untagged, tags: Tags, p_tagger: float) -> float:
        slots = _slots(tags)
        general = _share(self.of_intent.get(one.intent, {}), slots, _LEAST)
        there = _share(self.of_carrier.get((one.intent, _carrier(one.text, tags)), {}), slots, general)
        parts = (one.beliefs.get(tags, _UNBELIEVED), there, p_tagger)
        return sum(math.log(max(part, _LEAST)) for part in parts)


TagModel = tuple[Learnt, Learnt]
"""By fold: what is known of its utterances, learnt from the other one."""


def fit_tags(folds: tuple[Sequence[Untagged], Sequence[Untagged]], rounds: int = ROUNDS) -> TagModel:
    """Learn from two folds of utterances; an utterance that is weighed later belongs to one of them too."""
    model = _learnt(folds, [[_believed(one) for one in fold] for fold in folds])
    for _ in range(rounds - 1):
        model = _learnt(folds, [[model[at].weigh(one) for one in fold] for at, fold in enumerate(folds)])
    return model


def _believed(one: Untagged) -> Weighed:
    """What the goals alone say."""
    if not one.beliefs:
        return Weighed(((),), np.array([_UNBELIEVED]))
    return Weighed(tuple(one.beliefs), np.array(list(one.beliefs.values())))


def _learnt(folds: Sequence[Sequence[Untagged]], weighed: Sequence[Sequence[Weighed]]) -> TagModel:
    first, second = (_of_fold(fold, found) for fold, found in zip(folds, weighed, strict=True))
    return second, first


def _of_fold(fold: Sequence[Untagged], weighed: Sequence[Weighed]) -> Learnt:
    of_intent: dict[str, Counter[Slots]] = defaultdict(Counter)
    of_carrier: dict[tuple[str, str], Counter[Slots]] = defaultdict(Counter)
    sure: list[Example] = []
    for one, found in zip(fold, weighed, strict=True):
        for tags, p in zip(found.taggings, found.posterior.tolist(), strict=True):
            of_intent[one.intent][_slots(tags)] += p
            of_carrier[one.intent, _carrier(one.text, tags)][_slots(tags)] += p
        tags, p = found.best
        if p >= SURE:
            sure.append(Example(one.text, one.context, one.intent, tagged=tags))
    return Learnt(Tagger(sure), dict(of_intent), dict(of_carrier))


def _share(counts: Mapping[Slots, float], slots: Slots, general: float) -> float:
    """Share of the slots among the counts, close to the general one where these are few."""
    return (counts.get(slots, 0.0) + _GENERAL * general) / (sum(counts.values()) + _GENERAL)


def _slots(tags: Tags) -> Slots:
    return tuple(one.slot for one in tags)


def _carrier(text: str, tags: Tags) -> str:
    """The words around the values, each value as one mark."""
    parts, at = [], 0
    for one in tags:
        parts += [text[at : one.start], "\x1f"]
        at = one.end
    return "".join([*parts, text[at:]]).casefold()
