"""Candidate goals of many utterances at once, as flat arrays: what each source says for each, and the posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from selflearn.graph.weights import SOURCES, PoolWeights
from selflearn.ragged import Floats, Ints, max_of, places, sum_of

LINKS = ("after", "before", "variant")
"""How an utterance is linked to another: that was said after it, to say it again; before it; or is a variant of it."""
LEAST = 1e-4
"""No goal has less probability or share than this: what is rarer cannot be told from never."""
OTHER_PRIOR = 0.02
COINCIDENCE = 0.05
"""Least chance that two unrelated turns of a session share a goal: people come back to what they asked."""
MOST_BY_VARIANTS = 3.0
"""What variants add stays below this, however many there are: one NLU read them all, and misreads like words alike."""
SILENCE = 1e-9
"""What others add for a goal is nothing below this: sums from which a part is taken again are no more exact."""
_NLU, _OUTCOME, _PAIR, _VARIANT, _PRIOR, _ = range(len(SOURCES))
_AFTER, _BEFORE, _BY_VARIANT = range(len(LINKS))

Flags = npt.NDArray[np.bool_]
OTHER = 0
"""The goal that stands for every one that is no candidate. Goals go by the 64-bit hashes of their names here."""
Prior = Mapping[tuple[str, int], float]
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
    goal: Ints
    p_sum: Floats
    n_outcomes: Floats
    outcome_sum: Floats


@dataclass(frozen=True)
class Lent:
    """Turns that utterances are lent by the same words in other contexts.

    Attributes:
        utterance, goal: of each number of turns; each pair once.
        turns: in which the words mean the goal.
        n_turns: all that each utterance is lent, of whatever goal.
    """

    utterance: Ints
    goal: Ints
    turns: Floats
    n_turns: Floats


@dataclass(frozen=True)
class Messages:
    """What utterances are told by those they are linked to.

    Attributes:
        n_utterances: rows that `utterance` counts.
        utterance: who hears each message; sorted.
        n, p: links of each kind and the probability that they hold, shape (messages, `LINKS`).
        n_rest: links of each kind without any one person's.
        message: which one each goal stands in; sorted.
        goal: each once in a message.
        ratio: how much likelier than by chance its sender means the goal.
    """

    n_utterances: int
    utterance: Ints
    n: Floats
    p: Floats
    n_rest: Floats
    message: Ints
    goal: Ints
    ratio: Floats

    @property
    def n_links(self) -> Floats:
        """Links of each utterance that are expected to hold, shape (utterances, `LINKS`)."""
        offsets = offsets_in(self.utterance, self.n_utterances)
        return np.column_stack([sum_of(column, offsets) for column in (self.n * self.p).T])

    @property
    def gain(self) -> Floats:
        """What each goal gains over one that the sender does not mean, shape (goals, `LINKS`)."""
        odds = self.p / (1 - self.p)
        return self.n[self.message] * np.log1p(odds[self.message] * self.ratio[:, None])


@dataclass(frozen=True)
class Heard:
    """What all messages to an utterance say together, sorted by utterance and goal.

    Attributes:
        gain: shape (goals, `LINKS`).
    """

    utterance: Ints
    goal: Ints
    gain: Floats


@dataclass(frozen=True)
class Candidates:
    """Candidate goals, sorted by utterance.

    Attributes:
        n_utterances: rows that `utterance` counts.
        evidence: shape (candidates, sources), in the order of `SOURCES`.
        before_evidence: the pair evidence from what the utterances said again alone. The other pairs are there because
            the utterance failed, which its outcomes tell too.
        n_users_behind: people who said the utterance or a linked one that means the goal, NaN where none does.
    """

    n_utterances: int
    utterance: Ints
    goal: Ints
    p_nlu: Floats
    evidence: Floats
    before_evidence: Floats
    n_users_behind: Floats

    @property
    def offsets(self) -> Ints:
        """Where each utterance's candidates begin, and the last one's end."""
        return offsets_in(self.utterance, self.n_utterances)

    def posterior(self, weights: PoolWeights) -> tuple[Floats, Ints]:
        """Probability of each candidate among its utterance's, and its rank: 1 is the most probable, ties by goal."""
        score = self.evidence @ np.asarray(weights.as_tuple())
        mass = np.exp(score - max_of(score, self.offsets, 0.0)[self.utterance])
        probability = mass / sum_of(mass, self.offsets)[self.utterance]
        return probability, rank_of(self.utterance, -score, self.goal, self.offsets) + 1


def own_candidates(
    readings: Readings, n_turns: Floats, locale: Sequence[str], prior: Prior, most: int, lent: Lent | None = None
) -> Candidates:
    """The `most - 1` likeliest goals of each utterance's own readings and of what it is lent, and one for all others.

    What the NLU says of a goal is its mean over the turns, those that are lent among them; `p_nlu` is without these.
    """
    nothing = np.zeros(0, dtype=np.int64)
    lent = lent or Lent(nothing, nothing, nothing.astype(np.float64), np.zeros(len(n_turns)))
    goals, code = np.unique(np.concatenate([readings.goal, lent.goal]), return_inverse=True)
    reader = np.repeat(np.arange(len(n_turns)), np.diff(readings.offsets))
    key = np.concatenate([reader, lent.utterance]) * max(1, len(goals)) + code
    columns = np.zeros((len(key), 4))
    columns[: len(reader), :3] = np.column_stack([readings.p_sum, readings.n_outcomes, readings.outcome_sum])
    columns[len(reader) :, 3] = lent.turns
    # In an order of their own, so that sums do not depend on the order in which days are read.
    order = np.lexsort((columns[:, 2], columns[:, 0], key))
    key, start = np.unique(key[order], return_index=True)
    p_sum, n_outcomes, outcome_sum, turns = (np.add.reduceat(columns[order], start) if len(start) else columns).T
    utterance, code = np.divmod(key, max(1, len(goals)))
    p_nlu = np.minimum(p_sum / n_turns[utterance], 1.0)
    p = np.minimum((p_sum + turns) / (n_turns + lent.n_turns)[utterance], 1.0)
    damped = np.where(n_outcomes > 0, -outcome_sum / np.sqrt(np.maximum(n_outcomes, 1.0)), 0.0)
    kept = rank_of(utterance, -p, code, offsets_in(utterance, len(n_turns))) < most - 1
    utterance, code, p_nlu, p, damped = (column[kept] for column in (utterance, code, p_nlu, p, damped))
    unread, unknown = (
        np.maximum(1 - np.bincount(utterance, weights=known, minlength=len(n_turns)), LEAST) for known in (p_nlu, p)
    )
    goal = np.concatenate([goals[code], np.full(len(n_turns), OTHER)])
    utterance = np.concatenate([utterance, np.arange(len(n_turns))])
    p_nlu, p = np.concatenate([p_nlu, unread]), np.concatenate([p, unknown])
    evidence = np.zeros((len(goal), len(SOURCES)))
    evidence[:, _NLU] = np.log(np.maximum(p, LEAST))
    evidence[: len(damped), _OUTCOME] = damped
    evidence[:, _PRIOR] = log_prior(prior, locale, utterance, goal)
    order = np.lexsort((goal, utterance))
    none, nobody = np.zeros(len(goal)), np.full(len(goal), np.nan)
    return Candidates(len(n_turns), utterance[order], goal[order], p_nlu[order], evidence[order], none, nobody)


def heard(messages: Messages) -> Heard:
    """Add up what is said for each goal."""
    utterance, gain = messages.utterance[messages.message], messages.gain
    # In an order of their own, so that sums do not depend on the order in which messages come.
    order = np.lexsort((gain.sum(axis=1), messages.goal, utterance))
    utterance, goal = utterance[order], messages.goal[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (utterance[1:] != utterance[:-1]) | (goal[1:] != goal[:-1])
    start = np.flatnonzero(is_first)
    total = np.add.reduceat(gain[order], start) if len(start) else gain
    return Heard(utterance[start], goal[start], total)


def with_messages(
    own: Candidates, said: Heard, n_links: Floats, locale: Sequence[str], prior: Prior, most: int
) -> Candidates:
    """The candidates and the `most` goals that linked utterances speak for most, with what these say for each.

    `n_links` has shape (utterances, `LINKS`): links that are expected to hold. n of them count as sqrt(n): they are not
    independent.
    """
    pair, before, variant = _damped(said.gain, n_links[said.utterance])
    kept = rank_of(said.utterance, -(pair + variant), said.goal, offsets_in(said.utterance, own.n_utterances)) < most
    kept |= place_of(own, said.utterance, said.goal)[1]
    own_key, heard_key, goals = _keys((own.utterance, own.goal), (said.utterance[kept], said.goal[kept]))
    key = np.union1d(own_key, heard_key)
    place, heard_place = np.searchsorted(key, own_key), np.searchsorted(key, heard_key)
    utterance, code = np.divmod(key, max(1, len(goals)))
    p_nlu, evidence, before_evidence = np.zeros(len(key)), np.zeros((len(key), len(SOURCES))), np.zeros(len(key))
    log_share = log_prior(prior, locale, utterance, goals[code])
    # What the NLU left open may be any goal that others name, as far as chance goes.
    is_other = own.goal == OTHER
    unknown = np.exp(own.evidence[is_other, _NLU])
    evidence[:, _NLU] = np.log(np.maximum(unknown[utterance] * chance(log_share), LEAST))
    p_nlu[place], evidence[place] = own.p_nlu, own.evidence
    evidence[heard_place, _PAIR], evidence[heard_place, _VARIANT] = pair[kept], variant[kept]
    before_evidence[heard_place] = before[kept]
    evidence[:, _PRIOR] = log_share
    nobody = np.full(len(key), np.nan)
    return Candidates(own.n_utterances, utterance, goals[code], p_nlu, evidence, before_evidence, nobody)


def without_each(found: Candidates, own: Candidates, said: Heard, messages: Messages) -> Candidates:
    """What each message's hearer means without that message: candidates for each message, in the place of utterances.

    Args:
        found: `with_messages` of all of them.
        own: what the hearers mean by themselves; of other goals, those stay that somebody else speaks for.
        said: all messages together.
    """
    gain = np.zeros((len(found.goal), len(LINKS)))
    at, is_candidate = place_of(found, said.utterance, said.goal)
    gain[at[is_candidate]] = said.gain[is_candidate]
    is_own = np.zeros(len(found.goal), dtype=bool)
    is_own[place_of(found, own.utterance, own.goal)[0]] = True
    of_message, offsets = places(found.offsets, messages.utterance)
    message = np.repeat(np.arange(len(messages.utterance)), np.diff(offsets))
    goal, gain = found.goal[of_message], gain[of_message]
    at, is_candidate = place_in((message, goal), (messages.message, messages.goal))
    gain[at[is_candidate]] -= messages.gain[is_candidate]
    is_left = gain.sum(axis=1) > SILENCE
    gain = np.where(is_left[:, None], np.maximum(gain, 0.0), 0.0)
    n_left = np.maximum(messages.n_links[messages.utterance] - messages.n * messages.p, 0.0)
    evidence = found.evidence[of_message]
    evidence[:, _PAIR], _, evidence[:, _VARIANT] = _damped(gain, n_left[message])
    kept = is_left | is_own[of_message]
    nothing, nobody = np.zeros(int(kept.sum())), np.full(int(kept.sum()), np.nan)
    p_nlu = found.p_nlu[of_message][kept]
    return Candidates(len(messages.utterance), message[kept], goal[kept], p_nlu, evidence[kept], nothing, nobody)


def without_one(found: Candidates, messages: Messages, n_users: Ints) -> Candidates:
    """The candidates without what any one person did, as if all people behind something had given the same to it."""
    fewer = replace(messages, n=messages.n_rest)
    said = heard(fewer)
    pair, _, _ = _damped(said.gain, fewer.n_links[said.utterance])
    at, is_candidate = place_of(found, said.utterance, said.goal)
    evidence = found.evidence.copy()
    evidence[:, _OUTCOME] *= np.sqrt(1 - 1 / np.maximum(n_users, 1))[found.utterance]
    evidence[:, _PAIR] = 0.0
    evidence[at[is_candidate], _PAIR] = pair[is_candidate]
    return replace(found, evidence=evidence)


def merge_evidence(found: Candidates, messages: Messages, is_merge: Flags) -> Floats:
    """How much of each candidate's pair evidence are merges of two readings, each a message of one goal."""
    kept = is_merge[messages.message]
    of_goal = {name: getattr(messages, name)[kept] for name in ("message", "goal", "ratio")}
    merges = replace(messages, **of_goal)
    hearer = messages.utterance[merges.message]
    at, is_candidate = place_of(found, hearer, merges.goal)
    evidence = np.zeros(len(found.goal))
    evidence[at[is_candidate]] = _damped(merges.gain, messages.n_links[hearer])[0][is_candidate]
    return evidence


def place_of(candidates: Candidates, utterance: Ints, goal: Ints) -> tuple[Ints, Flags]:
    """Where the candidates hold each of some goals of utterances, and whether they do."""
    return place_in((candidates.utterance, candidates.goal), (utterance, goal))


def chance(log_prior: Floats) -> Floats:
    """Probability that an unrelated utterance means a goal."""
    return np.maximum(np.exp(log_prior), COINCIDENCE)


def offsets_in(row: Ints, n_rows: int) -> Ints:
    """Where each row's elements begin in a sorted column of rows, and the last one's end."""
    return np.searchsorted(row, np.arange(n_rows + 1)).astype(np.int64)


def _damped(gain: Floats, n_links: Floats) -> tuple[Floats, Floats, Floats]:
    """What all pairs, those with what was said before alone, and variants add: n of them count as sqrt(n)."""
    pair, before, variant = (
        gain[:, which].sum(axis=1) / np.sqrt(np.maximum(n_links[:, which].sum(axis=1), 1.0))
        for which in ([_AFTER, _BEFORE], [_BEFORE], [_BY_VARIANT])
    )
    return pair, before, -MOST_BY_VARIANTS * np.expm1(-variant / MOST_BY_VARIANTS)


def log_prior(prior: Prior, locale: Sequence[str], utterance: Ints, goal: Ints) -> Floats:
    """Log of the share of each goal in the locale of its utterance; `locale` is that of each utterance."""
    goals, code = np.unique(goal, return_inverse=True)
    locales, of_utterance = np.unique(np.array(locale, dtype=object), return_inverse=True)
    key, place = np.unique(of_utterance[utterance] * max(1, len(goals)) + code, return_inverse=True)
    pairs = zip(*(part.tolist() for part in np.divmod(key, max(1, len(goals)))), strict=True)
    known = [
        OTHER_PRIOR if goals[of_goal] == OTHER else max(prior.get((locales[of_locale], int(goals[of_goal])), 0), LEAST)
        for of_locale, of_goal in pairs
    ]
    return np.asarray(np.log(np.array(known, dtype=np.float64))[place])


def _keys(*of: tuple[Ints, Ints]) -> tuple[Ints, ...]:
    """One number for each row and goal, in their order, for each of those given; and all distinct goals."""
    goals, code = np.unique(np.concatenate([goal for _, goal in of]), return_inverse=True)
    split = np.split(code, np.cumsum([len(goal) for _, goal in of])[:-1])
    keys = [row * max(1, len(goals)) + part for (row, _), part in zip(of, split, strict=True)]
    return (*keys, goals)


def place_in(where: tuple[Ints, Ints], what: tuple[Ints, Ints]) -> tuple[Ints, Flags]:
    """Where each row and goal stands among those sorted by both, and whether it does."""
    key, wanted, _ = _keys(where, what)
    if not len(key):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
    return at, key[at] == wanted


def rank_of(utterance: Ints, first: Floats, then: Ints, offsets: Ints) -> Ints:
    """Place of each element in its utterance's list, from 0, sorted by two keys; the lists lie at `offsets`."""
    order = np.lexsort((then, first, utterance))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - offsets[utterance]
    return rank
