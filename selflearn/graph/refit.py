"""The refit: what an NLU reads that is trained anew on what the other utterances mean.

The pool knows from what people did what many utterances mean that the deployed NLU misreads; what is trained on that
reads the others by it; how it learns is told in `rounds`. Texts are dealt to folds and each is read by what learnt from
the others (cross-fitting), so that no sentence confirms itself, be it in another context or one of the launch set. What
one person alone says is dealt by that person, so that nobody's sentences confirm one another either. The refit reads
intents in the deployed NLU's place: of that one's reading of the same words what it says of values is left, and little
more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.graph.candidates import LEAST, OTHER
from selflearn.nlu import IntentReader
from selflearn.ragged import Floats, Ints

MAX_GOALS = 5_000_000
"""Of so many goals the intents are held on the driver, two integers each; where there are more nothing is refitted."""
N_FOLDS = 3
UNKNOWN = -1
DIGITS = 3
"""Sums differ in their last digits with the order of rows, and what is learnt from them more so."""


@dataclass(frozen=True)
class GoalIntents:
    """Goals in the order of their ids, and for each the place of its intent among `names`."""

    goals: Ints
    intent: Ints
    names: tuple[str, ...]

    def of(self, goal: Ints) -> Ints:
        """Place of each goal's intent, `UNKNOWN` of a goal that is none of them."""
        if not len(self.goals):
            return np.full(len(goal), UNKNOWN)
        at = np.minimum(np.searchsorted(self.goals, goal), len(self.goals) - 1)
        return np.where(self.goals[at] == goal, self.intent[at], UNKNOWN)

    def placed(self, reader: IntentReader, p: Floats) -> Floats:
        """What a reader gives sentences, a column for each of `names`."""
        place = {name: at for at, name in enumerate(self.names)}
        known = [(at, place[name]) for at, name in enumerate(reader.intents) if name in place]
        found = np.zeros((len(p), len(self.names)))
        found[:, [there for _, there in known]] = p[:, [at for at, _ in known]]
        return found

    def evidence(self, p: Floats, utterance: Ints, goal: Ints, nlu: Floats) -> Floats:
        """As `Refit.evidence`, of sentences whose intents have those probabilities."""
        intent = self.of(goal)
        is_known = intent != UNKNOWN
        found = np.zeros(len(goal))
        found[is_known] = p[utterance[is_known], intent[is_known]]
        named = np.zeros(p.shape, dtype=bool)
        named[utterance[is_known], intent[is_known]] = True
        is_other = goal == OTHER
        found[is_other] = 1 - (p * named).sum(axis=1)[utterance[is_other]]
        kind = np.where(is_other, len(self.names), intent)
        _, same = np.unique(np.column_stack([utterance, kind]), axis=0, return_inverse=True)
        read = np.bincount(same, weights=np.exp(nlu))[same] if len(goal) else nlu
        refitted, deployed = (np.log(np.clip(p_intent, LEAST, 1.0)) for p_intent in (found, read))
        return np.asarray(np.round(refitted - deployed, DIGITS))


def goal_intents(masses: DataFrame) -> GoalIntents | None:
    """The intents of all goals of `goal_masses`; None of more than `MAX_GOALS`."""
    found = masses.select("goal_id", F.get_json_object("goal", "$.intent").alias("intent")).distinct()
    rows = found.limit(MAX_GOALS + 1).toPandas().sort_values("goal_id")
    if len(rows) > MAX_GOALS:
        return None
    names, intent = np.unique(rows["intent"].to_numpy(dtype=object), return_inverse=True)
    return GoalIntents(rows["goal_id"].to_numpy(dtype=np.int64), intent.astype(np.int64), tuple(names.tolist()))


@dataclass(frozen=True)
class Said:
    """Sentences: normalised texts, contexts, folds, and the texts' vectors, shape (sentences, dimension), if any.

    A vector is zero where it is not known.
    """

    texts: Sequence[str]
    contexts: Sequence[str]
    folds: Ints
    vectors: Floats | None = None

    def rows(self, chosen: Ints) -> Said:
        """Some of the sentences."""
        texts, contexts = ([column[row] for row in chosen.tolist()] for column in (self.texts, self.contexts))
        return Said(texts, contexts, self.folds[chosen], None if self.vectors is None else self.vectors[chosen])


Vectors = Mapping[str, Floats]
"""Of texts that an encoder knows, all of one length."""


def vectors_of(texts: Sequence[str], vectors: Vectors | None) -> Floats | None:
    """Shape (texts, dimension); None where there are no vectors at all."""
    if not vectors:
        return None
    unknown = np.zeros_like(next(iter(vectors.values())))
    return np.array([vectors.get(text, unknown) for text in texts], dtype=np.float64).reshape(len(texts), len(unknown))


@dataclass(frozen=True)
class Refit:
    """A reader for each fold, and what the intents of goals are; a reader's fold is the one that it has not seen.

    `dimension` is that of the vectors that they learnt with, 0 without any.
    """

    readers: tuple[IntentReader, ...]
    intents: GoalIntents
    dimension: int = 0

    def evidence(self, said: Said, utterance: Ints, goal: Ints, nlu: Floats) -> Floats:
        """Log of how much more probable each candidate's intent is than the NLU had it.

        Of `OTHER` it is that of all that no candidate has.

        Args:
            said: the utterances.
            utterance, goal: of the candidates, `utterance` counting what was said.
            nlu: the NLU's log probability of each candidate.
        """
        p = np.zeros((len(said.texts), len(self.intents.names)))
        for own, reader in enumerate(self.readers):
            rows = np.flatnonzero(said.folds == own)
            some = said.rows(rows)
            p[rows] = self.intents.placed(reader, reader.probabilities(some.texts, some.contexts, some.vectors))
        return self.intents.evidence(p, utterance, goal, nlu)


def with_refit(candidates: pd.DataFrame, refit: Refit, vectors: Vectors | None = None) -> pd.DataFrame:
    """Rows of candidates, as for `rounds.fit_refit`, with what the refit says of them."""
    if candidates.empty:
        return candidates
    utterance, _ = pd.factorize(candidates["utterance_id"])
    about = candidates.drop_duplicates("utterance_id")
    texts, contexts = about["text"].tolist(), about["context"].tolist()
    said = Said(texts, contexts, about["fold"].to_numpy(dtype=np.int64), vectors_of(texts, vectors))
    goal, nlu = candidates["goal"].to_numpy(dtype=np.int64), candidates["nlu_evidence"].to_numpy(dtype=np.float64)
    return candidates.assign(refit_evidence=refit.evidence(said, utterance.astype(np.int64), goal, nlu))


def folds(texts: Sequence[str], speakers: Sequence[int | None]) -> Ints:
    """The fold that each text is of: that of the one person who says it, or its own where there are several."""
    names = (text if speaker is None else str(speaker) for text, speaker in zip(texts, speakers, strict=True))
    return np.array([crc32(name.encode()) % N_FOLDS for name in names], dtype=np.int64)
