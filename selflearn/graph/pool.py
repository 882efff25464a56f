"""The goal posterior: a log-linear pool of what the NLU, outcomes, rephrase pairs, variants and the refit say.

    log p(g | u) = w_nlu * log p_nlu(g | u) + w_outcome * outcome + w_pair * messages of pairs
                 + w_variant * messages of variants + w_prior * log prior(g)
                 + w_refit * log (p_refit(intent of g | u) / p_nlu(intent of g | u)) + const

over each utterance's few candidate goals, kept as a list in the utterance's row, so that a round is a join and a list
of what each was told. There are two: first each utterance says what it means by itself, then what it means in view of
what it was told. The refit comes last, trained on what these make of others.
`OTHER_GOAL` stands for every goal that is no candidate.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.graph.candidates import (
    LINKS,
    Candidates,
    Messages,
    Prior,
    heard,
    merge_evidence,
    own_candidates,
    place_of,
    with_messages,
    without_one,
)
from selflearn.graph.columns import (
    BY_PEOPLE,
    CANDIDATE,
    WITHOUT_ONE,
    by_batch,
    candidate_lists,
    fields,
    numbers,
    offsets,
    read_candidates,
    rows,
)
from selflearn.graph.context import Strengths, back_off, day_numbers, once_each, read_readings
from selflearn.graph.messages import BELIEF, belief, read_messages, replies, told
from selflearn.graph.people import count_people
from selflearn.graph.refit import folds
from selflearn.graph.weights import SOURCES, PoolWeights
from selflearn.ragged import Ints, places, sum_of
from selflearn.settings import Graph

_SAID = {
    **dict.fromkeys(("utterance_id", "locale", "context", "text"), "string"),
    **dict.fromkeys(("n_turns", "friction"), "double"),
    "fold": "int",
}
BELIEFS = _SAID | {
    "users": "array<bigint>",
    "goals": f"array<struct<{CANDIDATE}>>",
    **BELIEF,
}
POOLED = _SAID | {
    "n_users": "bigint",
    "n_pairs": "double",
    "goals": f"array<struct<{CANDIDATE}, before_evidence: double, merge_evidence: double, n_users_behind: bigint, "
    f"{WITHOUT_ONE}>>",
}


def own_beliefs(
    words: DataFrame, settings: Graph, weights: PoolWeights, prior: Prior, strengths: Strengths
) -> DataFrame:
    """What each utterance's own readings and outcomes make of it, before any message; columns of `BELIEFS`.

    `words` are those of `by_words`: an utterance backs off to the same words in other contexts. Of
    its outcomes, each person's count as one, on however many days they said it.
    """
    most = settings.max_candidate_goals

    def beliefs(batch: pa.RecordBatch) -> dict[str, pa.Array]:
        row = rows(batch.column("said"))
        said = batch.column("said").flatten()
        of_words = {name: batch.column(name).take(pa.array(row)) for name in ("locale", "text")}
        fold = folds(batch.column("text").to_pylist(), _speakers(row, said.field("users"), len(batch)))
        readings, n_turns = read_readings(said.field("readings")), numbers(said.field("n"))
        (dates,) = fields(said.field("readings"), "turn_date")
        readings = once_each(readings, day_numbers(dates), said.field("said_on"))
        locale = of_words["locale"].to_pylist()
        lent = back_off(readings, row, n_turns, locale, prior, strengths, most)
        own = own_candidates(readings, n_turns, locale, prior, most, lent)
        about = {name: said.field(name) for name in ("utterance_id", "context", "friction", "users")}
        goals = {"goals": candidate_lists(own), **belief(own, weights)}
        return {**of_words, **about, "n_turns": said.field("n"), "fold": pa.array(fold[row], pa.int32()), **goals}

    return by_batch(words, beliefs, BELIEFS)


def _speakers(words: Ints, users: pa.ListArray, n_words: int) -> list[int | None]:
    """Of each of `n_words`, the one person who says them in any context; None where there are several."""
    person, of_words = users.flatten().to_numpy(), words[rows(users)]
    first, last = np.full(n_words, np.iinfo(np.int64).max), np.full(n_words, np.iinfo(np.int64).min)
    np.minimum.at(first, of_words, person)
    np.maximum.at(last, of_words, person)
    return [one if one == other else None for one, other in zip(first.tolist(), last.tolist(), strict=True)]


def pool_evidence(
    beliefs: DataFrame,
    messages: DataFrame,
    merged: DataFrame,
    settings: Graph,
    weights: PoolWeights,
    prior: Prior,
) -> DataFrame:
    """Evidence of every source for every candidate goal of every utterance, two rounds of messages included.

    `messages` are the `first_messages`, `merged` the `merge_messages`, which are heard last. Returns columns of
    `POOLED`; `n_users_behind` counts the people who said the utterance, or one linked to it that without it most
    probably means the goal; of a linked one at most as many as a message names.
    """

    def pooled(batch: pa.RecordBatch) -> dict[str, pa.Array]:
        users, locale = batch.column("users"), batch.column("locale").to_pylist()
        own, messages = read_candidates(batch), read_messages(batch)
        found = with_messages(own, heard(messages), messages.n_links, locale, prior, settings.max_candidate_goals)
        n_users = count_people(rows(users), users.flatten().to_numpy(), len(batch))
        n_behind = _n_users_behind(found, messages, batch.column("told").flatten(), users)
        rest = dict(zip(SOURCES, without_one(found, messages, n_users).evidence.T, strict=True))
        # Nobody else stands behind a merge, so it names no people.
        is_sent = np.diff(offsets(batch.column("told").flatten().field("users"))) > 0
        goals = candidate_lists(
            found,
            before_evidence=found.before_evidence,
            merge_evidence=merge_evidence(found, messages, ~is_sent),
            n_users_behind=n_behind,
            **{f"{source}_without_one": rest[source] for source in BY_PEOPLE},
        )
        pairs = is_sent * messages.n[:, [LINKS.index("after"), LINKS.index("before")]].sum(axis=1)
        n_pairs = sum_of(pairs, offsets(batch.column("told")))
        return {"goals": goals, "n_users": pa.array(n_users), "n_pairs": pa.array(n_pairs)}

    answers = told(replies(messages, beliefs, settings, weights, prior).unionByName(merged))
    silence = F.array().cast(answers.schema["told"].dataType)
    known = beliefs.drop(*BELIEF).join(answers, "utterance_id", "left").withColumn("told", F.coalesce("told", silence))
    return by_batch(known, pooled, POOLED)


def _n_users_behind(found: Candidates, messages: Messages, sent: pa.StructArray, users: pa.ListArray) -> Ints:
    """People who said the utterance, or sent it a message and most probably mean the goal; of each candidate."""
    n_users = count_people(rows(users), users.flatten().to_numpy(), len(users))
    behind = n_users[found.utterance]
    meant, is_meant = place_of(found, messages.utterance, sent.field("means").to_numpy())
    candidate, of_message = np.unique(meant[is_meant], return_inverse=True)
    own, place = places(offsets(users), found.utterance[candidate])
    senders = sent.field("users").filter(pa.array(is_meant))
    people = np.concatenate([users.flatten().to_numpy()[own], senders.flatten().to_numpy()])
    of_people = np.concatenate([np.repeat(np.arange(len(candidate)), np.diff(place)), of_message[rows(senders)]])
    behind[candidate] = count_people(of_people, people, len(candidate))
    return behind
