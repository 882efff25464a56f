"""Candidate goals of many utterances at once, as flat arrays: what each source says for each, and the posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selflearn.graph.weights import SOURCES, PoolWeights
from selflearn.lakehouse.tables import OTHER_GOAL
from selflearn.ragged import Floats, Ints, max_of, sum_of

LINKS = ("after", "before", "variant")
"""How an utterance is linked to another: that was said after it, to say it again; before it; or is a variant of it."""
LEAST = 1e-4
"""No goal has less probability or share than this: what is rarer cannot be told from never."""
OTHER_PRIOR = 0.02
COINCIDENCE = 0.05
"""Least chance that two unrelated turns of a session share a goal: people come back to what they asked."""
SILENCE = 1e-9
"""What others add for a goal is nothing below this: sums from which a part is taken again are no more exact."""
_NLU, _OUTCOME, _PAIR, _VARIANT, _PRIOR = range(len(SOURCES))
_AFTER, _BEFORE, _BY_VARIANT = range(len(LINKS))

Strings = npt.NDArray[np.object_]
Prior = Mapping[tuple[str, str], float]
"""Share of a goal among the readings of a locale, by locale and goal; `LEAST` where it is missing."""


@dataclass(frozen=True)
class Readings:
    """Goals that the NLU considered, lists by utterance (`offsets`); a goal may stand there several times.

    Attributes:
        p_sum: probability of the goal, summed over turns.
        n_outcomes: turns in which the assistant acted on it.
        outcome_sum: log-odds with which those failed, added up.
    """

    offsets: Ints
    goal: pa.Array
    p_sum: Floats
    n_outcomes: Floats
    outcome_sum: Floats


@dataclass(frozen=True)
class Heard:
    """What linked utterances say for goals, lists by utterance (`offsets`), each goal once.

    Attributes:
        gain: what the messages add for the goal, over one that none of the linked utterances means; shape (goals,
            `LINKS`).
        n_users_behind: people who said the utterance or a linked one that means the goal, NaN where none does.
    """

    offsets: Ints
    goal: pa.Array
    gain: Floats
    n_users_behind: Floats


@dataclass(frozen=True)
class Candidates:
    """Candidate goals, sorted by utterance.

    Attributes:
        n_utterances: rows that `utterance` counts.
        evidence: shape (candidates, sources), in the order of `SOURCES`.
        before_evidence: the pair evidence from what the utterances said again alone. The other pairs are there because
            the utterance failed, which its outcomes tell too.
        n_users_behind: see `Heard`.
    """

    n_utterances: int
    utterance: Ints
    goal: Strings
    p_nlu: Floats
    evidence: Floats
    before_evidence: Floats
    n_users_behind: Floats

    @property
    def offsets(self) -> Ints:
        """Where each utterance's candidates begin, and the last one's end."""
        return np.searchsorted(self.utterance, np.arange(self.n_utterances + 1)).astype(np.int64)

    def posterior(self, weights: PoolWeights) -> tuple[Floats, Ints]:
        """Probability of each candidate among its utterance's, and its rank: 1 is the most probable, ties by goal."""
        score = self.evidence @ np.asarray(weights.as_tuple())
        mass = np.exp(score - max_of(score, self.offsets, 0.0)[self.utterance])
        probability = mass / sum_of(mass, self.offsets)[self.utterance]
        return probability, _rank(self.utterance, -score, _coded(self.goal)[1], self.offsets) + 1


def own_candidates(readings: Readings, n_turns: Floats, locale: Sequence[str], prior: Prior, most: int) -> Candidates:
    """The `most - 1` most probable goals of each utterance's own readings, and `OTHER_GOAL` for all others."""
    goals, code = _coded(readings.goal.to_numpy(zero_copy_only=False))
    utterance = np.repeat(np.arange(len(n_turns)), np.diff(readings.offsets))
    key = utterance * max(1, len(goals)) + code
    columns = np.column_stack([readings.p_sum, readings.n_outcomes, readings.outcome_sum])
    # In an order of their own, so that sums do not depend on the order in which days are read.
    order = np.lexsort((columns[:, 2], columns[:, 0], key))
    key, start = np.unique(key[order], return_index=True)
    p_sum, n_outcomes, outcome_sum = (
        np.add.reduceat(columns[order], start) if len(start) else columns.reshape(-1, 3)
    ).T
    utterance, code = np.divmod(key, max(1, len(goals)))
    p_nlu = np.minimum(p_sum / n_turns[utterance], 1.0)
    damped = np.where(n_outcomes > 0, -outcome_sum / np.sqrt(np.maximum(n_outcomes, 1.0)), 0.0)
    kept = _rank(utterance, -p_nlu, code, np.searchsorted(utterance, np.arange(len(n_turns) + 1))) < most - 1
    utterance, code, p_nlu, damped = utterance[kept], code[kept], p_nlu[kept], damped[kept]
    unknown = np.maximum(1 - np.bincount(utterance, weights=p_nlu, minlength=len(n_turns)), LEAST)
    goal = np.concatenate([goals[code], np.full(len(n_turns), OTHER_GOAL, dtype=object)])
    utterance = np.concatenate([utterance, np.arange(len(n_turns))])
    p_nlu = np.concatenate([p_nlu, unknown])
    evidence = np.zeros((len(goal), len(SOURCES)))
    evidence[:, _NLU] = np.log(np.maximum(p_nlu, LEAST))
    evidence[: len(damped), _OUTCOME] = damped
    evidence[:, _PRIOR] = _log_prior(prior, locale, utterance, goal)
    order = np.lexsort((_coded(goal)[1], utterance))
    nothing, nobody = np.zeros(len(goal)), np.full(len(goal), np.nan)
    return Candidates(len(n_turns), utterance[order], goal[order], p_nlu[order], evidence[order], nothing, nobody)


def with_messages(
    own: Candidates, heard: Heard, n_links: Floats, locale: Sequence[str], prior: Prior, most: int
) -> Candidates:
    """The candidates, and the `most` goals that linked utterances speak for most, with what these say.

    `n_links` has shape (utterances, `LINKS`): links that are expected to hold. n of them count as sqrt(n): they are not
    independent.
    """
    utterance = np.repeat(np.arange(own.n_utterances), np.diff(heard.offsets))
    goals, code = _coded(np.concatenate([own.goal, heard.goal.to_numpy(zero_copy_only=False)]))
    of_own, of_heard = code[: len(own.goal)], code[len(own.goal) :]
    pairs = [_AFTER, _BEFORE]
    pair, before, variant = (
        heard.gain[:, which].sum(axis=1) / np.sqrt(np.maximum(n_links[:, which].sum(axis=1), 1.0))[utterance]
        for which in (pairs, [_BEFORE], [_BY_VARIANT])
    )
    kept = _rank(utterance, -(pair + variant), of_heard, heard.offsets) < most
    utterance, of_heard = utterance[kept], of_heard[kept]
    own_key, heard_key = own.utterance * len(goals) + of_own, utterance * len(goals) + of_heard
    key = np.union1d(own_key, heard_key)
    place, heard_place = np.searchsorted(key, own_key), np.searchsorted(key, heard_key)
    of_utterance, of_goal = np.divmod(key, max(1, len(goals)))
    p_nlu, evidence, before_evidence = np.zeros(len(key)), np.zeros((len(key), len(SOURCES))), np.zeros(len(key))
    log_prior = _log_prior(prior, locale, of_utterance, goals[of_goal])
    # What the NLU left open may be any goal that others name, as far as chance goes.
    is_other = own.goal == OTHER_GOAL
    unknown = np.bincount(own.utterance[is_other], weights=own.p_nlu[is_other], minlength=own.n_utterances)
    evidence[:, _NLU] = np.log(np.maximum(unknown[of_utterance] * chance(log_prior), LEAST))
    p_nlu[place], evidence[place] = own.p_nlu, own.evidence
    evidence[heard_place, _PAIR], evidence[heard_place, _VARIANT] = pair[kept], variant[kept]
    before_evidence[heard_place] = before[kept]
    evidence[:, _PRIOR] = log_prior
    n_users_behind = np.full(len(key), np.nan)
    n_users_behind[heard_place] = heard.n_users_behind[kept]
    goal = goals[of_goal]
    return Candidates(own.n_utterances, of_utterance, goal, p_nlu, evidence, before_evidence, n_users_behind)


def without(heard: Heard, n_links: Floats, sent: Heard, n_sent: Floats) -> tuple[Heard, Floats]:
    """What each utterance heard, and its links, but for what one of its senders said, who stands in the same row."""
    names = np.concatenate([of.goal.to_numpy(zero_copy_only=False) for of in (heard, sent)])
    goals, code = _coded(names)
    rows = np.arange(len(n_links))
    row = np.concatenate([np.repeat(rows, np.diff(of.offsets)) for of in (heard, sent)])
    key = row * max(1, len(goals)) + code
    of_heard, of_sent = key[: len(heard.goal)], key[len(heard.goal) :]
    order = np.argsort(of_heard)
    gain = heard.gain.copy()
    is_heard = np.isin(of_sent, of_heard)
    gain[order[np.searchsorted(of_heard[order], of_sent[is_heard])]] -= sent.gain[is_heard]
    is_left = gain.sum(axis=1) > SILENCE
    kept = Heard(
        np.searchsorted(row[: len(heard.goal)][is_left], np.arange(len(n_links) + 1)).astype(np.int64),
        heard.goal.filter(pa.array(is_left)),
        np.maximum(gain[is_left], 0.0),
        heard.n_users_behind[is_left],
    )
    return kept, np.maximum(n_links - n_sent, 0.0)


def chance(log_prior: Floats) -> Floats:
    """Probability that an unrelated utterance means a goal."""
    return np.maximum(np.exp(log_prior), COINCIDENCE)


def _log_prior(prior: Prior, locale: Sequence[str], utterance: Ints, goal: Strings) -> Floats:
    goals, code = _coded(goal)
    locales, of_utterance = _coded(np.array(locale, dtype=object))
    key, place = np.unique(of_utterance[utterance] * max(1, len(goals)) + code, return_inverse=True)
    pairs = zip(*np.divmod(key, max(1, len(goals))), strict=True)
    known = [
        OTHER_PRIOR if goals[of_goal] == OTHER_GOAL else max(prior.get((locales[of_locale], goals[of_goal]), 0), LEAST)
        for of_locale, of_goal in pairs
    ]
    return np.asarray(np.log(np.array(known, dtype=np.float64))[place])


def _coded(strings: Strings) -> tuple[Strings, Ints]:
    """Distinct strings, sorted, and each one's place among them."""
    coded = pa.array(strings, pa.string()).dictionary_encode()
    distinct = coded.dictionary.to_numpy(zero_copy_only=False)
    order = np.argsort(distinct)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return distinct[order], place[coded.indices.to_numpy(zero_copy_only=False)]


def _rank(utterance: Ints, first: Floats, then: Ints, offsets: Ints) -> Ints:
    """Place of each element in its utterance's list, from 0, sorted by two keys; the lists lie at `offsets`."""
    order = np.lexsort((then, first, utterance))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - offsets[utterance]
    return rank
