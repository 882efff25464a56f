"""Goal variants: the window's utterances and their nearest neighbours to pairs with `p_same_goal`."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.lakehouse.landing import Land, not_landed
from selflearn.settings import Variants
from selflearn.variants.calibration import SameGoalModel
from selflearn.variants.known_goals import at_hand, count_exact, exact_variants
from selflearn.variants.same_goal import described, learn_same_goal, with_probability

logger = logging.getLogger(__name__)

MIN_P_SAME_GOAL = 0.1
"""Pairs less probable than this tell nobody anything, and are most of the candidates."""


@dataclass(frozen=True)
class GoalVariants:
    """Rows of `tables.GOAL_VARIANTS` without the day, the model that gave them their probability, and counts."""

    rows: DataFrame
    model: SameGoalModel
    metrics: dict[str, float]


def goal_variants(
    pairs: DataFrame, utterances: DataFrame, settings: Variants, is_trained: bool, land: Land = not_landed
) -> GoalVariants:
    """Exact variants, and semantic ones among the candidate pairs; a pair that is both is exact.

    Args:
        pairs: rows of `neighbours.PAIRS`; read three times.
        utterances: columns of `known_goals.KNOWN`, and text; read several times.
        settings: see there.
        is_trained: whether the vectors' encoder was trained on the log.
        land: see `Land`.
    """
    n_known, n_over = count_exact(utterances, settings.across_locales)
    exact = land(exact_variants(utterances, settings.across_locales))
    ends = at_hand(utterances.select("utterance_id", "context", "text", "goal"))
    model, lexicon = learn_same_goal(pairs, ends, is_trained)
    if not model.is_fitted:
        logger.warning(
            "too few pairs of utterances have known goals to calibrate p_same_goal on: the shipped model serves"
        )
    scored = with_probability(described(pairs, ends), model, lexicon)
    semantic = scored.where(F.col("p_same_goal") >= MIN_P_SAME_GOAL).join(
        exact.select("left_utterance", "right_utterance"), ["left_utterance", "right_utterance"], "left_anti"
    )
    rows = semantic.withColumn("kind", F.lit("semantic")).unionByName(
        exact.withColumns({"kind": F.lit("exact"), "cosine": F.lit(None).cast("double")})
    )
    metrics = {"utterances_of_known_goal": float(n_known), "exact_pairs_over_cap": float(n_over), **model.counts}
    return GoalVariants(rows, model, metrics)
