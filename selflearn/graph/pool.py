"""The goal posterior: a log-linear pool of what the NLU, the outcomes and the rephrase pairs say.

    log p(g | u) = w_nlu * log p_nlu(g | u) + w_outcome * outcome + w_pair * messages + w_prior * log prior(g) + const

over each utterance's few candidate goals, kept as rows `(utterance, goal)`, so that one round is joins and sums.
`OTHER_GOAL` stands for every goal that is no candidate. A pair that is a rephrase with probability p sends, both ways,
the likelihood ratio `p * belief(g) / chance(g) + (1 - p)`: a goal is never copied, and a linked utterance that means
none of the candidates says nothing. n expected rephrases, like n outcomes, count as sqrt(n), for they are not
independent.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as RowWindow
from pyspark.sql import functions as F

from selflearn.graph.weights import PoolWeights
from selflearn.graph.window import Window
from selflearn.lakehouse.landing import Land, not_landed
from selflearn.lakehouse.tables import OTHER_GOAL
from selflearn.settings import Graph

_OTHER_PRIOR = 0.02
_LEAST = 1e-4
_MOST_CERTAIN_PAIR = 0.99
_COINCIDENCE = 0.05
"""Least chance that two unrelated turns of a session share a goal: people come back to what they asked."""
_EVIDENCE = ("nlu_evidence", "outcome_evidence", "pair_evidence", "prior_evidence")


def own_evidence(window: Window, settings: Graph) -> DataFrame:
    """Candidates from the utterance's own readings, with what its NLU and its outcomes say.

    Columns `locale, utterance_id, goal, p_nlu, nlu_evidence, outcome_evidence`, `OTHER_GOAL` included.
    """
    key = ("utterance_id", "locale")
    by_probability = RowWindow.partitionBy(*key).orderBy(F.desc_nulls_last("p_nlu"), "goal")
    outcome = F.when(F.col("n_outcomes") > 0, -F.col("outcome_sum") / F.sqrt(F.greatest("n_outcomes", F.lit(1.0))))
    considered = (
        window.utterances.select(*key, "n")
        .join(window.readings, list(key), "left")
        .withColumns(
            {
                "p_nlu": F.when(F.col("goal").isNotNull(), F.least(F.col("p_sum") / F.col("n"), F.lit(1.0))),
                "outcome_evidence": outcome,
            }
        )
        .withColumn("nth", F.row_number().over(by_probability))
        .where(F.col("nth") < settings.max_candidate_goals)
        .withColumn("known", F.coalesce(F.sum("p_nlu").over(RowWindow.partitionBy(*key)), F.lit(0.0)))
    )
    reading = F.struct("goal", "p_nlu", F.coalesce("outcome_evidence", F.lit(0.0)).alias("outcome_evidence"))
    other = F.struct(
        F.lit(OTHER_GOAL).alias("goal"),
        F.greatest(1 - F.col("known"), F.lit(_LEAST)).alias("p_nlu"),
        F.lit(0.0).alias("outcome_evidence"),
    )
    # The first row of an utterance brings the unknown goal with it; without readings it is that row alone.
    candidates = F.when(F.col("goal").isNull(), F.array(other)).when(F.col("nth") == 1, F.array(reading, other))
    return considered.select(*key, F.inline(candidates.otherwise(F.array(reading)))).withColumn(
        "nlu_evidence", F.log(F.greatest("p_nlu", F.lit(_LEAST)))
    )


def goal_prior(window: Window) -> DataFrame:
    """Share of each goal among all readings of its locale: `locale, goal, prior`; `OTHER_GOAL` has a fixed share."""
    goals = window.readings.groupBy("goal", "locale").agg(F.sum("p_sum").alias("mass"))
    total = goals.groupBy("locale").agg(F.sum("mass").alias("total"))
    return goals.join(F.broadcast(total), "locale").select(
        "locale",
        "goal",
        F.greatest(F.try_divide("mass", "total") * (1 - _OTHER_PRIOR), F.lit(_LEAST**2)).alias("prior"),
    )


def pool_evidence(window: Window, settings: Graph, weights: PoolWeights, land: Land = not_landed) -> DataFrame:
    """Evidence of every source for every candidate goal of every utterance, one round of messages included.

    Columns `locale, utterance_id, goal, p_nlu` and one column per source of `_EVIDENCE`. `weights` pool the
    utterances' own evidence into the beliefs that the messages carry.
    """
    own = own_evidence(window, settings).join(land(goal_prior(window)), ["goal", "locale"], "left")
    own = own.withColumn("prior", F.coalesce("prior", F.lit(_OTHER_PRIOR)))
    own = own.withColumns({"pair_evidence": F.lit(0.0), "prior_evidence": F.log("prior")})
    own = land(posterior(own, weights).drop("rank"))
    links = _links(window.pairs)
    heard = _best_messages(_messages(links, own), settings)
    linked = links.groupBy("utterance_id", "locale").agg(
        F.sum("n").alias("n_pairs"), F.sum(F.col("n") * F.col("p")).alias("n_rephrases")
    )
    gain = heard.select("locale", "utterance_id", "goal", "gain", F.col("prior").alias("message_prior"))
    pair_evidence = F.coalesce("gain", F.lit(0.0)) / F.sqrt(F.greatest("n_rephrases", F.lit(1.0)))
    return (
        own.drop("pair_evidence", "prior_evidence", "posterior")
        .join(gain, ["utterance_id", "locale", "goal"], "full")
        .withColumn("prior", F.coalesce("prior", "message_prior"))
        .join(linked, ["utterance_id", "locale"], "left")
        .select(
            "locale",
            "utterance_id",
            "goal",
            F.coalesce("p_nlu", F.lit(0.0)).alias("p_nlu"),
            F.coalesce("nlu_evidence", F.log(F.lit(_LEAST))).alias("nlu_evidence"),
            F.coalesce("outcome_evidence", F.lit(0.0)).alias("outcome_evidence"),
            F.coalesce(pair_evidence, F.lit(0.0)).alias("pair_evidence"),
            F.log("prior").alias("prior_evidence"),
            F.coalesce("n_pairs", F.lit(0.0)).alias("n_pairs"),
        )
    )


def posterior(evidence: DataFrame, weights: PoolWeights) -> DataFrame:
    """Add `posterior` and `rank` (1 is the most probable; ties by goal) among each utterance's candidates."""
    per_utterance = RowWindow.partitionBy("utterance_id", "locale")
    ranked = per_utterance.orderBy(F.desc("score"), "goal")
    scored = evidence.withColumn("score", _score(weights))
    shifted = scored.withColumn("mass", F.exp(F.col("score") - F.max("score").over(per_utterance)))
    return (
        shifted.withColumn("posterior", F.col("mass") / F.sum("mass").over(per_utterance))
        .withColumn("rank", F.row_number().over(ranked))
        .drop("mass", "score")
    )


def _score(weights: PoolWeights) -> Column:
    score = F.lit(0.0)
    for source, weight in zip(_EVIDENCE, weights.as_tuple(), strict=True):
        score = score + F.lit(weight) * F.col(source)
    return score


def _links(pairs: DataFrame) -> DataFrame:
    p = F.least("p", F.lit(_MOST_CERTAIN_PAIR)).alias("p")
    there = pairs.select(
        "locale",
        F.col("source_utterance").alias("utterance_id"),
        F.col("target_utterance").alias("from_id"),
        "n",
        p,
    )
    back = pairs.select(
        "locale",
        F.col("target_utterance").alias("utterance_id"),
        F.col("source_utterance").alias("from_id"),
        "n",
        p,
    )
    return there.unionByName(back)


def _messages(links: DataFrame, beliefs: DataFrame) -> DataFrame:
    """What the linked utterances' beliefs add for a goal, over one that none of them has."""
    sent = beliefs.where((F.col("goal") != OTHER_GOAL) & (F.col("posterior") > _LEAST)).select(
        "locale", F.col("utterance_id").alias("from_id"), "goal", "prior", "posterior"
    )
    odds = F.col("p") / (1 - F.col("p"))
    gain = F.col("n") * F.log1p(odds * F.col("posterior") / F.greatest("prior", F.lit(_COINCIDENCE)))
    return (
        links.join(sent, ["from_id", "locale"])
        .groupBy("utterance_id", "locale", "goal")
        .agg(F.sum(gain).alias("gain"), F.first("prior").alias("prior"))
    )


def _best_messages(messages: DataFrame, settings: Graph) -> DataFrame:
    by_gain = RowWindow.partitionBy("utterance_id", "locale").orderBy(F.desc("gain"), "goal")
    return messages.withColumn("nth", F.row_number().over(by_gain)).where(F.col("nth") <= settings.max_candidate_goals)
