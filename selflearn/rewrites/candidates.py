"""Pairs of a failing wording and one that people went on to, with all that decides whether it may be a rewrite."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as RowWindow
from pyspark.sql import functions as F

from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import Land, not_landed
from selflearn.rewrites.contrast import contrasts
from selflearn.rewrites.transitions import key
from selflearn.settings import Rewrites

MIN_REPHRASE = 0.5
"""Where people less probably say the same again, they went on to something else."""
MIN_GOAL = 0.85
"""Least posterior of the goal that both wordings have."""
_UNIT = "\x1f"
_ENDS = ("utterance_id", "target_utterance")


def candidates(
    evidence: DataFrame,
    nodes: DataFrame,
    edges: DataFrame,
    left: DataFrame,
    chained: DataFrame,
    settings: Rewrites,
    land: Land = not_landed,
) -> DataFrame:
    """One row per wording that fails and other wording that its people reached; columns of `judged`'s input.

    Both mean the same goal, in one context, by the graph's posterior and by the chain's result; neither that goal nor
    what the deployed NLU makes of the first is protected. `tells_apart` says that they differ in words that decide, see
    `contrasts`.

    Args:
        evidence: of the window, `graph.weighted`.
        nodes, edges: columns of `tables.GRAPH_NODES` and `tables.GRAPH_EDGES`.
        left: columns of `exits`.
        chained: columns of `CHANCES`.
        land: see `Land`. What few wordings are linked often enough is landed, so that everything else is looked up for
            them alone.
    """
    reached = land(_reached(edges, settings))
    ends = land(reached.select(F.explode(F.array(*_ENDS)).alias("utterance_id")).distinct())
    of_ends, left_there = (rows.join(ends, "utterance_id", "left_semi") for rows in (nodes, left))
    linked = _linked(_meanings(of_ends, left_there, settings), reached, settings)
    agreeing = _agreeing(chained)
    kept = land(linked.join(agreeing, [key(F.col("utterance_id")) == F.col("utterance"), _same_goal()]))
    telling = contrasts(kept, nodes).withColumn("tells_apart", F.lit(True))
    supported = _with_support(kept.drop("utterance", "chain_goal"), evidence)
    return supported.join(telling, [*_ENDS], "left").fillna(False, ["tells_apart"])


def _meanings(nodes: DataFrame, left: DataFrame, settings: Rewrites) -> DataFrame:
    """What each utterance most probably means, how often it is said, and how often it worked at once as that."""
    sure = _unprotected(nodes, settings.protected_intents).where(
        (F.col("rank") == 1) & (F.col("goal") != tables.OTHER_GOAL) & (F.col("posterior") >= MIN_GOAL)
    )
    worked = left.where("goal IS NOT NULL").withColumnRenamed("mass", "worked")
    return sure.join(worked, ["utterance_id", "goal"], "left").select(
        "locale",
        "context",
        "utterance_id",
        "text",
        "goal",
        F.col("posterior").alias("p_goal"),
        F.col("n_turns").alias("n"),
        F.coalesce("worked", F.lit(0.0)).alias("worked"),
        "friction",
    )


def _unprotected(nodes: DataFrame, protected: Sequence[str]) -> DataFrame:
    """Nodes of which neither the goal nor what the deployed NLU makes of the utterance has a protected intent."""
    if not protected:
        return nodes
    by_nlu = F.max_by("goal", F.when(F.col("goal") != tables.OTHER_GOAL, F.struct("p_nlu", "goal")))
    deployed = by_nlu.over(RowWindow.partitionBy("utterance_id"))
    is_deployed_protected = F.coalesce(_intent("deployed").isin(*protected), F.lit(False))
    return nodes.withColumn("deployed", deployed).where(~_intent("goal").isin(*protected) & ~is_deployed_protected)


def _reached(edges: DataFrame, settings: Rewrites) -> DataFrame:
    """What people went on to from wordings that enough of them left, and its share of all that was gone on to."""
    mass = F.col("n_pairs") * F.col("p_rephrase")
    source = RowWindow.partitionBy("source_utterance")
    return (
        edges.withColumn("share", F.try_divide(mass, F.sum(mass).over(source)))
        .where(F.col("p_rephrase") >= MIN_REPHRASE)
        .withColumn("n_leaving", F.sum("n_users").over(source))
        .where(F.col("n_leaving") >= settings.min_users)
        .select(F.col("source_utterance").alias("utterance_id"), "target_utterance", "share")
    )


def _linked(meanings: DataFrame, reached: DataFrame, settings: Rewrites) -> DataFrame:
    failing = meanings.where(F.col("friction") >= settings.min_friction)
    others = meanings.select(
        "context",
        "goal",
        F.col("utterance_id").alias("target_utterance"),
        *(F.col(name).alias(f"target_{name}") for name in ("text", "n", "worked")),
    )
    return reached.join(failing, "utterance_id").join(others, ["target_utterance", "context", "goal"])


def _agreeing(chained: DataFrame) -> DataFrame:
    return chained.where("goal IS NOT NULL").select(
        "utterance",
        F.col("goal").alias("chain_goal"),
        F.col("p_success").alias("chain_p_success"),
        F.col("p_abandoned").alias("chain_p_abandoned"),
    )


def _same_goal() -> Column:
    return key(F.col("goal")) == F.col("chain_goal")


def _with_support(linked: DataFrame, evidence: DataFrame) -> DataFrame:
    """Adds people and days behind each pair, and the most that any one person gave to its two ends.

    That a wording means its goal is told by all who went on from it to some wording of that goal; that the one they are
    led to works, by all who say it.
    """
    pairs = linked.select(F.col("utterance_id").alias("source_utterance"), F.col("target_utterance").alias("target"))
    alone = F.explode(F.array("source_utterance", "target")).alias("source_utterance")
    wanted = pairs.unionByName(pairs.select(alone, F.lit("").alias("target"))).distinct()
    about = ["source_utterance", "is_pair"]
    per_person = (
        evidence.where("kind IN ('pair', 'utterance')")
        .join(wanted, ["source_utterance", "target"], "left_semi")
        .select(
            "source_utterance",
            (F.col("kind") == "pair").alias("is_pair"),
            "turn_date",
            "weight",
            F.explode("users").alias("person"),
        )
        .groupBy(*about, "person")
        .agg(F.sum("weight").alias("weight"), F.collect_set("turn_date").alias("days"))
    )
    support = per_person.groupBy(*about).agg(
        F.count(F.lit(1)).alias("n_users"),
        F.size(F.array_distinct(F.flatten(F.collect_list("days")))).cast("bigint").alias("n_days"),
        F.max("weight").alias("most"),
        (F.max("weight") / F.sum("weight")).alias("max_user_share"),
    )
    of_pair = support.where("is_pair").select(
        F.col("source_utterance").alias("utterance_id"), "n_users", "n_days", "max_user_share"
    )
    said = support.where("NOT is_pair")
    of_source = said.select(F.col("source_utterance").alias("utterance_id"), F.col("most").alias("most"))
    of_target = said.select(F.col("source_utterance").alias("target_utterance"), F.col("most").alias("target_most"))
    found = linked.join(of_pair, "utterance_id").join(of_source, "utterance_id").join(of_target, "target_utterance")
    return found.withColumn("rewrite_id", F.md5(F.concat_ws(_UNIT, *_ENDS)))


def _intent(goal: str) -> Column:
    return F.get_json_object(goal, "$.intent")
