"""The refit: what an NLU reads that is trained anew on what the other utterances mean.

The pool knows from what people did what many utterances mean that the deployed NLU misreads; what is trained on that
reads the others by it. Texts are dealt to folds and each fold is read by what learnt from the others (cross-fitting),
so that no sentence confirms itself, be it in another context or one of the launch set. What one person alone says is
dealt by that person, so that nobody's sentences confirm one another either. What was learnt then tells, with
what people did, better what utterances mean, and so on, in turns (EM): sentences of a kind that the NLU misreads fail
more often, and though each failure tells little, what they mean is found together in a few rounds. The refit reads
intents in the deployed NLU's place: of that one's reading of the same words what it says of values is left, and little
more.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.graph.candidates import LEAST, OTHER, offsets_in
from selflearn.graph.weights import MIN_ANCHORS, SOURCES, PoolWeights
from selflearn.nlu import Example, IntentReader
from selflearn.ragged import Floats, Ints, max_of, sum_of

MAX_GOALS = 5_000_000
"""Of so many goals the intents are held on the driver, two integers each; where there are more nothing is refitted."""
_FOLDS = 3
_ROUNDS = 4
_SETTLED = 0.005
"""Rounds end where the next would learn from what the last one did but for this share."""
_HEARD = PoolWeights(nlu=1.0, variant=0.0, refit=1.0)
"""What tells readers what utterances mean: what people did, and the readers before them. What the deployed NLU says of
intents is taken back, and neighbours are not heard: it misreads like words alike, and both would repeat it."""
_LIKELY = 0.1
"""An utterance is an example of every intent that it means with this probability, weighted by it."""
_UNKNOWN = -1
_DIGITS = 3
"""Sums differ in their last digits with the order of rows, and what is learnt from them more so."""


@dataclass(frozen=True)
class GoalIntents:
    """Goals in the order of their ids, and for each the place of its intent among `names`."""

    goals: Ints
    intent: Ints
    names: tuple[str, ...]

    def of(self, goal: Ints) -> Ints:
        """Place of each goal's intent, `_UNKNOWN` of a goal that is none of them."""
        if not len(self.goals):
            return np.full(len(goal), _UNKNOWN)
        at = np.minimum(np.searchsorted(self.goals, goal), len(self.goals) - 1)
        return np.where(self.goals[at] == goal, self.intent[at], _UNKNOWN)


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
        p = self._probabilities(said)
        intent = self.intents.of(goal)
        is_known = intent != _UNKNOWN
        found = np.zeros(len(goal))
        found[is_known] = p[utterance[is_known], intent[is_known]]
        named = np.zeros(p.shape, dtype=bool)
        named[utterance[is_known], intent[is_known]] = True
        is_other = goal == OTHER
        found[is_other] = 1 - (p * named).sum(axis=1)[utterance[is_other]]
        kind = np.where(is_other, len(self.intents.names), intent)
        _, same = np.unique(np.column_stack([utterance, kind]), axis=0, return_inverse=True)
        read = np.bincount(same, weights=np.exp(nlu))[same] if len(goal) else nlu
        refitted, deployed = (np.log(np.clip(p_intent, LEAST, 1.0)) for p_intent in (found, read))
        return np.asarray(np.round(refitted - deployed, _DIGITS))

    def _probabilities(self, said: Said) -> Floats:
        """Shape (sentences, names of intents)."""
        place = {name: at for at, name in enumerate(self.intents.names)}
        found = np.zeros((len(said.texts), len(place)))
        for own, reader in enumerate(self.readers):
            rows = np.flatnonzero(said.folds == own)
            some = said.rows(rows)
            p = reader.probabilities(some.texts, some.contexts, some.vectors)
            for at, name in enumerate(reader.intents):
                if name in place:
                    found[rows, place[name]] = p[:, at]
        return found


def fit_refit(
    candidates: pd.DataFrame, intents: GoalIntents, launch: Sequence[Example], vectors: Vectors | None = None
) -> Refit | None:
    """Learn in turns what utterances mean, by what people did and by the readers before, and readers from that (EM).

    The first readers learn the launch set alone, which has no mistakes of the log to repeat; where there is none, what
    the deployed NLU says of intents goes first. With `vectors` sentences are read by them, too.

    `candidates` has `utterance_id, text, context, fold, goal` and the columns `SOURCES`, sorted by utterance. None of
    fewer than `MIN_ANCHORS` utterances, or where a fold leaves nothing to learn from.
    """
    if candidates["utterance_id"].nunique() < MIN_ANCHORS:
        return None
    texts = [frozenset(candidates.loc[candidates["fold"] == own, "text"]) for own in range(_FOLDS)]
    refit = _cross_fitted(launch, texts, intents, vectors)
    learnt: list[Example] = []
    for number in range(_ROUNDS):
        heard = candidates if refit is None else with_refit(candidates, refit, vectors)
        before, learnt = learnt, _examples(heard, intents)
        if number and _change(before, learnt) < _SETTLED:
            break
        # The launch set alone has other words than what goes on from it.
        start = refit if number else None
        refit = _cross_fitted([*launch, *learnt], texts, intents, vectors, start)
        if refit is None:
            break
    return refit


def _change(before: Sequence[Example], after: Sequence[Example]) -> float:
    """Share of the weight that lies elsewhere now."""
    moved: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for sign, examples in ((-1, before), (1, after)):
        for one in examples:
            moved[one.text, one.context, one.intent] += sign * one.weight
    whole = sum(one.weight for one in after)
    return sum(map(abs, moved.values())) / (2 * whole) if whole else 0.0


def _cross_fitted(
    examples: Sequence[Example],
    texts: Sequence[frozenset[str]],
    intents: GoalIntents,
    vectors: Vectors | None,
    before: Refit | None = None,
) -> Refit | None:
    """A reader for each fold, of all examples but those of its `texts`.

    Readers go on from those `before`, which learnt of the same sentences.
    """
    known = vectors_of([one.text for one in examples], vectors)
    rows = [np.flatnonzero([one.text not in own for one in examples]) for own in texts]
    if not all(map(len, rows)):
        return None

    def reader(own: int) -> IntentReader:
        some = [examples[row] for row in rows[own].tolist()]
        start = None if before is None else before.readers[own]
        return IntentReader(some, None if known is None else known[rows[own]], start)

    with ThreadPoolExecutor(min(_FOLDS, os.cpu_count() or 1)) as threads:
        readers = tuple(threads.map(reader, range(_FOLDS)))
    return Refit(readers, intents, 0 if known is None else known.shape[1])


def with_refit(candidates: pd.DataFrame, refit: Refit, vectors: Vectors | None = None) -> pd.DataFrame:
    """Rows of candidates, as for `fit_refit`, with what the refit says of them."""
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
    return np.array([crc32(name.encode()) % _FOLDS for name in names], dtype=np.int64)


def _examples(candidates: pd.DataFrame, intents: GoalIntents) -> list[Example]:
    place = pd.factorize(candidates["utterance_id"])[0].astype(np.int64)
    score = candidates[list(SOURCES)].to_numpy(dtype=float) @ np.asarray(_HEARD.as_tuple())
    at = offsets_in(place, int(place.max(initial=-1)) + 1)
    mass = np.exp(score - max_of(score, at, 0.0)[place])
    intent = intents.of(candidates["goal"].to_numpy(dtype=np.int64))
    about = {"place": place, "intent": intent, "p": mass / sum_of(mass, at)[place]}
    rows = candidates[["text", "context"]].assign(**about)
    rows = rows[rows["intent"] != _UNKNOWN]
    summed = rows.groupby(["place", "text", "context", "intent"], as_index=False)["p"].sum()
    return [
        Example(row.text, row.context, intents.names[row.intent], weight=round(row.p, _DIGITS))
        for row in summed[summed["p"] >= _LIKELY].itertuples(index=False)
    ]
