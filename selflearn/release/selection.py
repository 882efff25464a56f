"""What the mine adds to the launch set: new labels first, what opposes them, confirmed ones to keep the balance, and
the likeliest intents of words that have no label."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as RowWindow
from pyspark.sql import functions as F

from selflearn.lakehouse import tables
from selflearn.settings import Release

CHOSEN = (
    "origin",
    "locale",
    "context",
    "text",
    "intent",
    "slots",
    "is_intent_only",
    "annotated_utterance",
    "weight",
    "other_intents",
    "utterance_id",
    "reason",
    "first_day",
    "is_held_out",
)
_RANK = "rank_of_origin"
_ORIGINS = ("corrected", "hard_negative", "confirmed", "unsure")
_CORRECTED, _OPPOSED, _CONFIRMED, _UNSURE = range(1, 5)


def select_labels(
    said: DataFrame, launch: DataFrame | None, variants: DataFrame | None, settings: Release
) -> DataFrame:
    """Columns of `CHOSEN`.

    An utterance of the launch set is not mined. Per locale and intent at most `max_per_goal` utterances are taken,
    corrected ones first, the most certain before others, then hard negatives, then other confirmed ones and unsure
    ones alike; of those that are confirmed at most `confirmed_share` times as many as the locale's corrected ones.
    What most people say comes first, so that it is not forgotten; among equals chance decides, by the hash that names
    them: the most certain are what the deployed NLU reads anyway, and teach least. What is unsure is no test of
    anything, so it is not held out, whoever said it.

    Args:
        said: rows of `split.with_first_said`: labels, and not `is_label` what `labels.unsure_intents` found.
        launch: `utterance_id`, and anything else.
        variants: rows of `tables.GOAL_VARIANTS`.
        settings: see there.
    """
    tested = said.withColumn("is_held_out", F.expr("is_label AND is_held_out"))
    mined = tested if launch is None else tested.join(launch.select("utterance_id"), "utterance_id", "left_anti")
    chosen = _balanced(_capped(_with_rank(mined, variants), settings), settings)
    origin = F.element_at(F.array(*map(F.lit, _ORIGINS)), F.col(_RANK))
    none = F.array().cast(tables.TRAINING_SETS.schema["other_intents"].dataType)
    others = F.coalesce("other_intents", none)
    found = {"origin": origin, "weight": F.round("p_correct", 6), "other_intents": others}
    return chosen.withColumns(found).select(*CHOSEN)


def hard_negatives(labels: DataFrame, variants: DataFrame) -> DataFrame:
    """`utterance_id` of the confirmed labels whose words are near those of a corrected one that means something else.

    Near is what the stage `variants` took for possibly one goal; the labels themselves say that it is not. They show
    a trainer where the border runs that the new labels moved.
    """
    ends = ("left_utterance", "right_utterance")
    pairs = variants.select(*ends)
    both = pairs.unionByName(pairs.select(*(F.col(a).alias(b) for a, b in zip(ends, ends[::-1], strict=True))))
    new = labels.where("is_new").select(F.col("utterance_id").alias(ends[0]), F.col("goal").alias("new_goal"))
    known = labels.where("NOT is_new").select("utterance_id", "goal")
    met = both.join(new, ends[0]).join(known, F.col(ends[1]) == F.col("utterance_id"))
    return met.where("goal <> new_goal").select("utterance_id").distinct()


def _with_rank(mined: DataFrame, variants: DataFrame | None) -> DataFrame:
    rank = F.when(~F.col("is_label"), _UNSURE).when(F.col("is_new"), _CORRECTED)
    if variants is None:
        return mined.withColumn(_RANK, rank.otherwise(_CONFIRMED))
    opposed = hard_negatives(mined.where("is_label"), variants).withColumn("is_opposed", F.lit(True))
    rank = rank.when(F.col("is_opposed"), _OPPOSED).otherwise(_CONFIRMED)
    return mined.join(opposed, "utterance_id", "left").withColumn(_RANK, rank).drop("is_opposed")


def _capped(labels: DataFrame, settings: Release) -> DataFrame:
    best_first = RowWindow.partitionBy("locale", "intent").orderBy(*_best_first())
    return labels.withColumn("nth", F.row_number().over(best_first)).where(F.col("nth") <= settings.max_per_goal)


def _balanced(labels: DataFrame, settings: Release) -> DataFrame:
    best_first = RowWindow.partitionBy("locale", "is_label", "is_new").orderBy(*_best_first())
    n_new = F.sum(F.col("is_new").cast("int")).over(RowWindow.partitionBy("locale"))
    place = F.row_number().over(best_first)
    return (
        labels.withColumns({"n_new": n_new, "place": place})
        .where(
            F.col("is_new")
            | ~F.col("is_label")
            | (F.col("place") <= F.ceil(F.col("n_new") * F.lit(settings.confirmed_share)))
        )
        .drop("n_new", "place", "nth")
    )


def _best_first() -> list[Column]:
    certain = F.when(F.col("is_new"), F.col("p_correct_lb")).desc()
    return [F.least(F.col(_RANK), F.lit(_CONFIRMED)), certain, F.desc("n_users"), F.col("utterance_id")]
