"""The goal posterior: a log-linear pool of what the NLU, the outcomes, the rephrase pairs and the variants say.

    log p(g | u) = w_nlu * log p_nlu(g | u) + w_outcome * outcome + w_pair * messages of pairs
                 + w_variant * messages of variants + w_prior * log prior(g) + const

over each utterance's few candidate goals, kept as a list in the utterance's row, so that a round is two joins and a
sum. There are two: first each utterance says what it means by itself, then what it means in view of what it was told.
`OTHER_GOAL` stands for every goal that is no candidate.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.graph.candidates import LINKS, Prior, Readings, own_candidates, with_messages
from selflearn.graph.columns import (
    CANDIDATE,
    by_batch,
    candidate_lists,
    fields,
    numbers,
    offsets,
    read_candidates,
    rows,
)
from selflearn.graph.messages import BELIEF, belief, heard, n_heard, read_heard, replies
from selflearn.graph.people import count_people
from selflearn.graph.weights import PoolWeights
from selflearn.ragged import Floats, places
from selflearn.settings import Graph

_SAID = {
    **dict.fromkeys(("utterance_id", "locale", "context", "text"), "string"),
    **dict.fromkeys(("n_turns", "friction"), "double"),
}
BELIEFS = _SAID | {
    "users": "array<bigint>",
    "goals": f"array<struct<{CANDIDATE}, {BELIEF.partition(', ')[2]}>>",
}
POOLED = _SAID | {
    "n_users": "bigint",
    "n_pairs": "double",
    "goals": f"array<struct<{CANDIDATE}, before_evidence: double, n_users_behind: bigint>>",
}


def own_beliefs(utterances: DataFrame, settings: Graph, weights: PoolWeights, prior: Prior) -> DataFrame:
    """What each utterance's own readings and outcomes make of it, before any message; columns of `BELIEFS`.

    `utterances` are those of a `Window`.
    """

    def beliefs(batch: pa.RecordBatch) -> dict[str, pa.Array]:
        readings, n_turns = batch.column("readings"), batch.column("n")
        goal, *sums = fields(readings, "goal", "p_sum", "n_outcomes", "outcome_sum")
        own = own_candidates(
            Readings(offsets(readings), goal, *map(numbers, sums)),
            numbers(n_turns),
            batch.column("locale").to_pylist(),
            prior,
            settings.max_candidate_goals,
        )
        return {"n_turns": n_turns, "goals": candidate_lists(own, **belief(own, weights))}

    return by_batch(utterances, beliefs, BELIEFS)


def pool_evidence(
    beliefs: DataFrame, messages: DataFrame, settings: Graph, weights: PoolWeights, prior: Prior
) -> DataFrame:
    """Evidence of every source for every candidate goal of every utterance, two rounds of messages included.

    `messages` are the `first_messages`; returns columns of `POOLED`. `n_users_behind` counts the people who said the
    utterance, or one linked to it that without it most probably means the goal; of a linked one at most as many as a
    message names.
    """

    def pooled(batch: pa.RecordBatch) -> dict[str, pa.Array]:
        users, locale = batch.column("users"), batch.column("locale").to_pylist()
        told = read_heard(batch, "heard", _n_behind(batch.column("heard"), users))
        found = with_messages(read_candidates(batch), told, n_heard(batch), locale, prior, settings.max_candidate_goals)
        n_users = count_people(rows(users), users.flatten().to_numpy(), len(batch))
        n_behind = np.where(np.isnan(found.n_users_behind), n_users[found.utterance], found.n_users_behind)
        goals = candidate_lists(found, before_evidence=found.before_evidence, n_users_behind=n_behind.astype(np.int64))
        return {"goals": goals, "n_users": pa.array(n_users)}

    told = heard(replies(messages, beliefs, settings, weights, prior)).withColumnRenamed("to_id", "utterance_id")
    gains = ", ".join(f"{link}: double" for link in LINKS)
    silence = F.array().cast(f"array<struct<goal: string, {gains}, users: array<bigint>>>")
    counts = {name: F.coalesce(name, F.lit(0.0)) for name in ("n_pairs", *(f"expected_{link}" for link in LINKS))}
    known = beliefs.join(told, "utterance_id", "left").withColumns(counts | {"heard": F.coalesce("heard", silence)})
    return by_batch(known, pooled, POOLED)


def _n_behind(told: pa.ListArray, users: pa.ListArray) -> Floats:
    """People who said each message's utterance or sent it, NaN where nobody did who most probably means its goal."""
    senders = fields(told, "users")[0]
    of_message, place = places(offsets(users), rows(told))
    own = users.flatten().to_numpy()[of_message]
    sent = senders.flatten().to_numpy()
    message = np.concatenate([np.repeat(np.arange(len(senders)), np.diff(place)), rows(senders)])
    counts = count_people(message, np.concatenate([own, sent]), len(senders)).astype(np.float64)
    return np.where(senders.is_valid(), counts, np.nan)
