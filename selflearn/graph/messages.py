"""Messages between linked utterances: what each says of the goals that it may mean itself.

A link that joins utterances of one goal with probability p carries the likelihood ratio
`p * belief(g) / chance(g) + (1 - p)`: a goal is never copied, and an utterance that means none of the candidates says
nothing. What an utterance answers leaves out what it was told by the one it answers (belief propagation; Pearl 1988).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from selflearn.graph.candidates import (
    COINCIDENCE,
    LEAST,
    LINKS,
    OTHER,
    Candidates,
    Messages,
    Prior,
    chance,
    heard,
    offsets_in,
    with_messages,
    without_each,
)
from selflearn.graph.columns import by_batch, fields, lists, numbers, read_candidates, rows
from selflearn.graph.people import n_people
from selflearn.graph.weights import SOURCES, PoolWeights
from selflearn.graph.window import goal_id, n_votes
from selflearn.settings import Graph

_MOST_CERTAIN_LINK = 0.99
_LEAST_SAME_GOAL = 0.5
"""Utterances less likely to share a goal than not are no neighbours: there are many of them, and they say little."""

_PEOPLE_TOLD = 16
"""A message names so many of its sender's people at most: enough for any floor, where whole sketches would be most of
what is sent."""

_ANSWERS = {"after": "before", "before": "after", "variant": "variant"}
"""The kind of link by which an answer is heard."""
_OF_LINK = ("n", "p", "rest")
_NUMBERS = tuple(f"{number}_{link}" for number in _OF_LINK for link in LINKS)
BELIEF = {"said": "array<struct<goal: bigint, ratio: double>>", "means": "bigint"}
"""Goals that an utterance may mean, how much likelier than by chance it means each, and the likeliest of all."""
_REPLIES = {
    "to_id": "string",
    **dict.fromkeys(_NUMBERS, "double"),
    **BELIEF,
    "users": "array<bigint>",
}


def links(edges: DataFrame, variants: DataFrame | None) -> DataFrame:
    """`from_id, to_id`, both ways, and for each of `LINKS` the number `n_` of such links and their probability `p_`.

    `rest_` is the number without any one person: as if all behind a link had given the same to it.

    `edges` has columns of `tables.GRAPH_EDGES`; `variants` has `kind, left_utterance, right_utterance, p_same_goal`.
    Exact variants are left out: they are linked because both were read alike, which each end knows by itself.
    """
    source, target = F.col("source_utterance"), F.col("target_utterance")
    others = F.col("n_votes") * (1 - 1 / F.greatest("n_users", F.lit(1)))
    said_again = F.col("n_votes"), F.col("p_rephrase"), others
    ways = [
        _way(edges, target, source, "after", *said_again),
        _way(edges, source, target, "before", *said_again),
    ]
    if variants is not None:
        likely = variants.where((F.col("kind") == "semantic") & (F.col("p_same_goal") >= _LEAST_SAME_GOAL))
        left, right = F.col("left_utterance"), F.col("right_utterance")
        same = F.lit(1.0), F.col("p_same_goal"), F.lit(1.0)
        ways += [_way(likely, left, right, "variant", *same), _way(likely, right, left, "variant", *same)]
    linked = ways[0]
    for way in ways[1:]:
        linked = linked.unionByName(way)

    def of_link(link: str, number: str) -> Column:
        return F.when(F.col("link") == link, F.col(number))

    return (
        linked.repartition("from_id")
        .groupBy("from_id", "to_id")
        .agg(
            *(
                F.coalesce((F.max if number == "p" else F.sum)(of_link(link, number)), F.lit(0.0)).alias(
                    f"{number}_{link}"
                )
                for number in _OF_LINK
                for link in LINKS
            ),
        )
    )


def first_messages(linked: DataFrame, beliefs: DataFrame) -> DataFrame:
    """What each utterance says by itself to those it is linked to: columns of the links, and `said`."""
    return linked.join(beliefs.select(F.col("utterance_id").alias("from_id"), "said"), "from_id")


def merge_messages(merges: DataFrame, masses: DataFrame, prior: Prior) -> DataFrame:
    """What a caller's own two turns tell an utterance that it means together: rows like those of `replies`.

    Only of goals that somebody was read as (`masses` are the `goal_masses`). Nobody stands behind such a message but
    who said the utterance.
    """
    votes, n_users = n_votes(), F.greatest(n_people(F.col("users")), F.lit(1))
    numbers_of = {
        "n_after": votes,
        "p_after": F.least("p", F.lit(_MOST_CERTAIN_LINK)),
        "rest_after": votes * (1 - 1 / n_users),
    }
    shares = [
        F.when((F.col("locale") == locale) & (F.col("goal_id") == goal), F.lit(share))
        for (locale, goal), share in prior.items()
        if share > COINCIDENCE
    ]
    ratio = 1 / F.coalesce(*shares, F.lit(COINCIDENCE))
    nobody = F.array().cast(_REPLIES["users"])
    return (
        merges.withColumn("goal_id", goal_id(F.col("goal")))
        .join(masses.select("locale", "goal_id"), ["locale", "goal_id"], "left_semi")
        .select(
            F.col("utterance_id").alias("to_id"),
            *(numbers_of.get(name, F.lit(0.0)).alias(name) for name in _NUMBERS),
            F.array(F.struct(F.col("goal_id").alias("goal"), ratio.alias("ratio"))).alias("said"),
            F.lit(OTHER).cast("bigint").alias("means"),
            nobody.alias("users"),
        )
    )


def told(messages: DataFrame) -> DataFrame:
    """All messages to an utterance in a list: `utterance_id, told`."""
    message = F.struct(*(name for name in messages.columns if name != "to_id"))
    return messages.groupBy(F.col("to_id").alias("utterance_id")).agg(F.collect_list(message).alias("told"))


def replies(messages: DataFrame, beliefs: DataFrame, settings: Graph, weights: PoolWeights, prior: Prior) -> DataFrame:
    """What each utterance says back to every sender, in view of all messages but that sender's own."""

    def reply(batch: pa.RecordBatch) -> dict[str, pa.Array]:
        own, messages, locale = read_candidates(batch), read_messages(batch), batch.column("locale").to_pylist()
        together = heard(messages)
        found = with_messages(own, together, messages.n_links, locale, prior, settings.max_candidate_goals)
        sent = batch.column("told").flatten()
        numbers_heard_as = {
            f"{number}_{_ANSWERS[link]}": sent.field(f"{number}_{link}") for number in _OF_LINK for link in LINKS
        }
        return {
            "to_id": sent.field("from_id"),
            "users": batch.column("users").take(pa.array(messages.utterance)),
            **numbers_heard_as,
            **belief(without_each(found, own, together, messages), weights),
        }

    people = F.slice("users", 1, _PEOPLE_TOLD).alias("users")
    knows = beliefs.select("utterance_id", "locale", people, "goals")
    return by_batch(told(messages).join(knows, "utterance_id"), reply, _REPLIES)


def belief(candidates: Candidates, weights: PoolWeights) -> dict[str, pa.Array]:
    """Columns of `BELIEF`."""
    posterior, rank = candidates.posterior(weights)
    ratio = posterior / chance(candidates.evidence[:, SOURCES.index("prior_evidence")])
    is_said = (candidates.goal != OTHER) & (posterior > LEAST)
    offsets = offsets_in(candidates.utterance[is_said], candidates.n_utterances)
    said = lists(offsets, goal=candidates.goal[is_said], ratio=ratio[is_said])
    return {"said": said, "means": pa.array(candidates.goal[rank == 1])}


def read_messages(batch: pa.RecordBatch) -> Messages:
    """The messages in the list column `told`."""
    sent = batch.column("told").flatten()
    said = sent.field("said")
    goal, ratio = fields(said, "goal", "ratio")
    n, p, rest = (np.column_stack([numbers(sent.field(f"{number}_{link}")) for link in LINKS]) for number in _OF_LINK)
    return Messages(len(batch), rows(batch.column("told")), n, p, rest, rows(said), goal.to_numpy(), numbers(ratio))


def _way(rows: DataFrame, sender: Column, to: Column, link: str, n: Column, p: Column, rest: Column) -> DataFrame:
    certain = F.least(p, F.lit(_MOST_CERTAIN_LINK))
    numbers_of = {"n": n, "p": certain, "rest": rest}
    named = (column.alias(name) for name, column in numbers_of.items())
    return rows.select(sender.alias("from_id"), to.alias("to_id"), F.lit(link).alias("link"), *named)
