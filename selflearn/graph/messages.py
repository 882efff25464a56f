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

from selflearn.graph.candidates import LEAST, LINKS, Candidates, Heard, Prior, chance, with_messages, without
from selflearn.graph.columns import by_batch, fields, lists, numbers, offsets, read_candidates
from selflearn.graph.weights import SOURCES, PoolWeights
from selflearn.lakehouse.tables import OTHER_GOAL
from selflearn.ragged import Floats
from selflearn.settings import Graph

_MOST_CERTAIN_LINK = 0.99
_LEAST_SAME_GOAL = 0.5
"""Utterances less likely to share a goal than not are no neighbours: there are many of them, and they say little."""

_PEOPLE_TOLD = 16
"""A message names so many of its sender's people at most: enough for any floor, where whole sketches would be most of
what is sent."""

_ANSWERS = {"after": "before", "before": "after", "variant": "variant"}
"""The kind of link by which an answer is heard."""
BELIEF = "goal: string, posterior: double, chance: double, is_top: boolean"
_REPLIES = {
    "to_id": "string",
    **{f"{number}_{link}": "double" for number in ("n", "p") for link in LINKS},
    "users": "array<bigint>",
    "goals": f"array<struct<{BELIEF}>>",
}


def links(edges: DataFrame, variants: DataFrame | None) -> DataFrame:
    """`from_id, to_id`, both ways, and for each of `LINKS` the number `n_` of such links and their probability `p_`.

    `edges` has columns of `tables.GRAPH_EDGES`; `variants` has `kind, left_utterance, right_utterance, p_same_goal`.
    Exact variants are left out: they are linked because both were read alike, which each end knows by itself.
    """
    source, target = F.col("source_utterance"), F.col("target_utterance")
    ways = [
        _way(edges, target, source, "after", F.col("n_pairs"), F.col("p_rephrase")),
        _way(edges, source, target, "before", F.col("n_pairs"), F.col("p_rephrase")),
    ]
    if variants is not None:
        likely = variants.where((F.col("kind") == "semantic") & (F.col("p_same_goal") >= _LEAST_SAME_GOAL))
        left, right = F.col("left_utterance"), F.col("right_utterance")
        same = F.lit(1.0), F.col("p_same_goal")
        ways += [_way(likely, left, right, "variant", *same), _way(likely, right, left, "variant", *same)]
    linked = ways[0]
    for way in ways[1:]:
        linked = linked.unionByName(way)
    of_link = {link: F.when(F.col("link") == link, F.col("n")) for link in LINKS}
    p_of_link = {link: F.when(F.col("link") == link, F.col("p")) for link in LINKS}
    return (
        linked.repartition("from_id")
        .groupBy("from_id", "to_id")
        .agg(
            *(F.coalesce(F.sum(n), F.lit(0.0)).alias(f"n_{link}") for link, n in of_link.items()),
            *(F.coalesce(F.max(p), F.lit(0.0)).alias(f"p_{link}") for link, p in p_of_link.items()),
        )
    )


def first_messages(linked: DataFrame, beliefs: DataFrame) -> DataFrame:
    """What each utterance says by itself to those it is linked to."""
    names = ("goal", "posterior", "chance", "is_top")
    believed = F.transform("goals", lambda goal: F.struct(*(goal[name].alias(name) for name in names)))
    sender = beliefs.select(F.col("utterance_id").alias("from_id"), believed.alias("goals"))
    return _said(linked.join(sender, "from_id"))


def heard(messages: DataFrame) -> DataFrame:
    """What each utterance hears: `to_id, n_pairs`, expected links of each kind, and `heard`, a list of goals and gains.

    With the goals come the people who said a linked utterance that most probably means them, where messages tell.
    """
    is_told = "users" in messages.columns
    is_link = F.col("goal") == OTHER_GOAL
    people = F.when(F.bool_or("is_top"), F.flatten(F.collect_list(F.when(F.col("is_top"), F.col("users")))))
    sums = (
        messages.select(
            "to_id",
            (F.col("n_after") + F.col("n_before")).alias("n_pairs"),
            *(_expected(link).alias(f"expected_{link}") for link in LINKS),
            *(["users"] if is_told else []),
            F.inline("said"),
        )
        # One shuffle for both sums.
        .repartition("to_id")
        .groupBy("to_id", "goal")
        .agg(
            *(F.sum(name).alias(name) for name in ("n_pairs", *(f"expected_{link}" for link in LINKS), *LINKS)),
            *([people.alias("users")] if is_told else []),
        )
    )
    counted = ("n_pairs", *(f"expected_{link}" for link in LINKS))
    told = F.struct("goal", *LINKS, *(["users"] if is_told else []))
    return sums.groupBy("to_id").agg(
        # Every utterance has a belief in `OTHER_GOAL`, which says nothing: it counts the links.
        *(F.max(F.when(is_link, F.col(name))).alias(name) for name in counted),
        F.collect_list(F.when(~is_link, told)).alias("heard"),
    )


def replies(messages: DataFrame, beliefs: DataFrame, settings: Graph, weights: PoolWeights, prior: Prior) -> DataFrame:
    """What each utterance says back to every sender, in view of all messages but that sender's own."""

    def reply(batch: pa.RecordBatch) -> dict[str, pa.Array]:
        n_sent = np.column_stack([numbers(batch.column(f"n_{x}")) * numbers(batch.column(f"p_{x}")) for x in LINKS])
        others, n_others = without(read_heard(batch, "heard"), n_heard(batch), read_heard(batch, "said"), n_sent)
        locale = batch.column("locale").to_pylist()
        most = settings.max_candidate_goals
        found = with_messages(read_candidates(batch), others, n_others, locale, prior, most)
        heard_as = {
            f"{number}_{_ANSWERS[link]}": batch.column(f"{number}_{link}") for number in ("n", "p") for link in LINKS
        }
        return {"to_id": batch.column("from_id"), "goals": lists(found, **belief(found, weights)), **heard_as}

    people = F.slice("users", 1, _PEOPLE_TOLD).alias("users")
    knows = beliefs.select(F.col("utterance_id").alias("to_id"), "locale", people, "goals")
    asked = messages.drop("goals").join(heard(messages), "to_id").join(knows, "to_id")
    return _said(by_batch(asked, reply, _REPLIES))


def belief(candidates: Candidates, weights: PoolWeights) -> dict[str, np.ndarray]:
    """Fields of `BELIEF` beside the goal."""
    posterior, rank = candidates.posterior(weights)
    by_chance = chance(candidates.evidence[:, SOURCES.index("prior_evidence")])
    return {"posterior": posterior, "chance": by_chance, "is_top": (rank == 1) & (candidates.goal != OTHER_GOAL)}


def read_heard(batch: pa.RecordBatch, column: str, n_users_behind: Floats | None = None) -> Heard:
    """Goals and gains in a list column."""
    goal, *gains = fields(batch.column(column), "goal", *LINKS)
    behind = np.full(len(goal), np.nan) if n_users_behind is None else n_users_behind
    return Heard(offsets(batch.column(column)), goal, np.column_stack([numbers(gain) for gain in gains]), behind)


def n_heard(batch: pa.RecordBatch) -> Floats:
    """Expected links of each row, shape (rows, `LINKS`)."""
    return np.column_stack([numbers(batch.column(f"expected_{link}")) for link in LINKS])


def _way(rows: DataFrame, sender: Column, to: Column, link: str, n: Column, p: Column) -> DataFrame:
    certain = F.least(p, F.lit(_MOST_CERTAIN_LINK))
    return rows.select(
        sender.alias("from_id"), to.alias("to_id"), F.lit(link).alias("link"), n.alias("n"), certain.alias("p")
    )


def _said(sent: DataFrame) -> DataFrame:
    """With the list `said`: goals, the gain that each kind of link gives them, and whether the sender means them."""

    def is_worth_saying(goal: Column) -> Column:
        return (goal["goal"] == OTHER_GOAL) | (goal["posterior"] > LEAST)

    def gains(goal: Column) -> Column:
        ratio = goal["posterior"] / goal["chance"]
        by_link = [(F.col(f"n_{link}") * F.log1p(_odds(link) * ratio)).alias(link) for link in LINKS]
        return F.struct(goal["goal"].alias("goal"), *by_link, goal["is_top"].alias("is_top"))

    said = F.transform(F.filter("goals", is_worth_saying), gains)
    return sent.withColumn("said", said).drop("goals")


def _odds(link: str) -> Column:
    return F.col(f"p_{link}") / (1 - F.col(f"p_{link}"))


def _expected(link: str) -> Column:
    return F.col(f"n_{link}") * F.col(f"p_{link}")
