"""How the refit's readers learn: in turns with what utterances mean (EM; Dempster, Laird & Rubin 1977).

What people did tells what utterances mean; readers learn it, and what they read in an utterance that they have not seen
tells, with what people did, better what it means, and so on. Sentences of a kind that the NLU misreads fail more often,
and though each failure tells little, what they mean is found together in a few rounds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from selflearn.graph.candidates import offsets_in
from selflearn.graph.refit import DIGITS, N_FOLDS, UNKNOWN, GoalIntents, Refit, Vectors, vectors_of
from selflearn.graph.weights import MIN_ANCHORS, SOURCES, PoolWeights
from selflearn.nlu import Example, IntentReader, LatentSentences
from selflearn.ragged import Floats, Ints, max_of, sum_of

_MOST_ROUNDS = 8
_SETTLED = 0.005
"""Rounds end where the next would learn what the last one did but for this share."""
_HEARD = PoolWeights(nlu=1.0, variant=0.0, refit=1.0)
"""What tells readers what utterances mean: what people did, and the readers before them. What the deployed NLU says of
intents is taken back, and neighbours are not heard: it misreads like words alike, and both would repeat it."""
_LIKELY = 0.1
"""An utterance is an example of every intent that it means with this probability, weighted by it."""


@dataclass(frozen=True)
class _Taught:
    """Examples: the places of their sentences, the intents that these mean, and how probably."""

    sentence: Ints
    intent: npt.NDArray[np.object_]
    weight: Floats

    def beside(self, others: _Taught) -> _Taught:
        """These and the others."""
        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return _Taught(*(np.concatenate(pair) for pair in pairs))

    def without(self, is_left_out: npt.NDArray[np.bool_]) -> _Taught:
        """Those whose sentences are not left out."""
        kept = ~is_left_out[self.sentence]
        return _Taught(*(column[kept] for column in vars(self).values()))


def fit_refit(
    candidates: pd.DataFrame, intents: GoalIntents, launch: Sequence[Example], vectors: Vectors | None = None
) -> Refit | None:
    """Readers, and what utterances mean, in turns until little changes.

    The first readers learn the launch set alone, which has no mistakes of the log to repeat; where there is none, what
    the deployed NLU says of intents goes first. With `vectors` sentences are read by them, too.

    `candidates` has `utterance_id, text, context, fold, goal` and the columns `SOURCES`, sorted by utterance. None of
    fewer than `MIN_ANCHORS` utterances, or where a fold leaves nothing to learn from.
    """
    said = candidates.drop_duplicates("utterance_id")
    if len(said) < MIN_ANCHORS:
        return None
    texts = [*said["text"], *(one.text for one in launch)]
    known = vectors_of(texts, vectors)
    sentences = LatentSentences(texts, [*said["context"], *(one.context for one in launch)], known)
    fold = said["fold"].to_numpy(dtype=np.int64)
    unseen = [pd.Series(texts).isin(said.loc[fold == own, "text"]).to_numpy() for own in range(N_FOLDS)]
    of_launch = _Taught(
        np.arange(len(said), len(texts)),
        np.array([one.intent for one in launch], dtype=object),
        np.array([one.weight for one in launch], dtype=np.float64),
    )
    readers = _cross_fitted(sentences, unseen, of_launch)
    learnt: _Taught | None = None
    for _ in range(_MOST_ROUNDS):
        p = None if readers is None else _read(readers, sentences.points[: len(said)], fold, intents)
        before, learnt = learnt, _meant(candidates, intents, p)
        if before is not None and _change(before, learnt) < _SETTLED:
            break
        readers = _cross_fitted(sentences, unseen, of_launch.beside(learnt), readers)
        if readers is None:
            return None
    return None if readers is None else Refit(readers, intents, 0 if known is None else known.shape[1])


def _cross_fitted(
    sentences: LatentSentences,
    unseen: Sequence[npt.NDArray[np.bool_]],
    taught: _Taught,
    before: Sequence[IntentReader] | None = None,
) -> tuple[IntentReader, ...] | None:
    """A reader for each fold, which goes on from the one before; None where a fold leaves nothing to learn from."""
    of_others = [taught.without(is_own) for is_own in unseen]
    if not all(len(some.sentence) for some in of_others):
        return None

    def reader(own: int) -> IntentReader:
        some, start = of_others[own], None if before is None else before[own]
        return IntentReader(sentences, some.sentence, some.intent.tolist(), some.weight.tolist(), start)

    with ThreadPoolExecutor(min(N_FOLDS, os.cpu_count() or 1)) as threads:
        return tuple(threads.map(reader, range(N_FOLDS)))


def _read(readers: Sequence[IntentReader], points: npt.NDArray[np.float32], fold: Ints, intents: GoalIntents) -> Floats:
    """Probabilities of the intents of each utterance, by the reader that has not seen it."""
    p = np.zeros((len(points), len(intents.names)))
    for own, reader in enumerate(readers):
        p[fold == own] = intents.placed(reader, reader.probabilities_at(points[fold == own]))
    return p


def _meant(candidates: pd.DataFrame, intents: GoalIntents, p: Floats | None) -> _Taught:
    """What utterances mean by what people did, and by what was read in them with probability `p`."""
    place = pd.factorize(candidates["utterance_id"])[0].astype(np.int64)
    goal, nlu = candidates["goal"].to_numpy(dtype=np.int64), candidates["nlu_evidence"].to_numpy(dtype=np.float64)
    heard = candidates if p is None else candidates.assign(refit_evidence=intents.evidence(p, place, goal, nlu))
    score = heard[list(SOURCES)].to_numpy(dtype=float) @ np.asarray(_HEARD.as_tuple())
    at = offsets_in(place, int(place.max(initial=-1)) + 1)
    mass = np.exp(score - max_of(score, at, 0.0)[place])
    about = pd.DataFrame({"place": place, "intent": intents.of(goal), "p": mass / sum_of(mass, at)[place]})
    summed = about[about["intent"] != UNKNOWN].groupby(["place", "intent"], as_index=False)["p"].sum()
    likely = summed[summed["p"] >= _LIKELY]
    names = np.array(intents.names, dtype=object)
    return _Taught(likely["place"].to_numpy(), names[likely["intent"]], likely["p"].to_numpy().round(DIGITS))


def _change(before: _Taught, after: _Taught) -> float:
    """Share of the weight that lies elsewhere now."""
    was, now = (pd.Series(one.weight, index=[one.sentence, one.intent]) for one in (before, after))
    return float(now.sub(was, fill_value=0.0).abs().sum() / (2 * now.sum())) if len(now) else 0.0
