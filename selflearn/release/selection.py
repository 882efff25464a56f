"""What goes into a training set: the launch set, new labels first, confirmed ones to keep the balance."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as RowWindow
from pyspark.sql import functions as F

from selflearn.lakehouse import tables
from selflearn.settings import Release

_UNIT = "\x1f"
_VALIDATION_PERCENT = 10
_TEST_PERCENT = 10


def select_examples(labels: DataFrame, launch: DataFrame | None, settings: Release) -> DataFrame:
    """Columns of `tables.TRAINING_SETS` but `release_id`.

    Launch sentences win over labels of the same utterance. Per locale and intent at most `max_per_goal` mined
    examples are taken, corrected before confirmed, the most certain first; confirmed ones at most
    `confirmed_share` times as many as the locale's corrected ones. The split is by the words.
    """
    mined = labels if launch is None else labels.join(launch.select("utterance_id"), "utterance_id", "left_anti")
    chosen = _balanced(_capped(mined, settings), settings)
    examples = chosen.select(
        F.when(F.col("is_new"), "corrected").otherwise("confirmed").alias("origin"),
        "locale",
        "context",
        "text",
        "intent",
        "slots",
        "is_intent_only",
        "annotated_utterance",
        F.round("p_correct", 6).alias("weight"),
        "utterance_id",
        "reason",
    )
    if launch is not None:
        examples = examples.unionByName(_launch_examples(launch))
    example_id = F.md5(F.concat_ws(_UNIT, "utterance_id", "intent", "annotated_utterance"))
    return (
        examples.withColumns({"example_id": example_id, "split": _split()})
        .dropDuplicates(["example_id"])
        .select(*(name for name in tables.TRAINING_SETS.schema.fieldNames() if name != "release_id"))
    )


def content_hash(examples: DataFrame) -> str:
    """Hex hash of the set of examples, whatever their order: same content, same release."""
    columns = [F.to_json(name) if name == "slots" else F.col(name) for name in sorted(examples.columns)]
    folded = examples.select(F.xxhash64(*columns).alias("hash")).agg(
        F.coalesce(F.bit_xor("hash"), F.lit(0)).alias("hash"), F.count(F.lit(1)).alias("n")
    )
    row = folded.select(F.hex(F.xxhash64("hash", "n")).alias("hash")).first()
    return str(row["hash"]).lower()[-10:].rjust(10, "0") if row else ""


def _capped(labels: DataFrame, settings: Release) -> DataFrame:
    best_first = RowWindow.partitionBy("locale", "intent").orderBy(
        F.desc("is_new"), F.desc("p_correct_lb"), "utterance_id"
    )
    return labels.withColumn("nth", F.row_number().over(best_first)).where(F.col("nth") <= settings.max_per_goal)


def _balanced(labels: DataFrame, settings: Release) -> DataFrame:
    best_first = RowWindow.partitionBy("locale", "is_new").orderBy(F.desc("p_correct_lb"), "utterance_id")
    n_new = F.sum(F.col("is_new").cast("int")).over(RowWindow.partitionBy("locale"))
    place = F.row_number().over(best_first)
    return (
        labels.withColumns({"n_new": n_new, "place": place})
        .where(F.col("is_new") | (F.col("place") <= F.ceil(F.col("n_new") * F.lit(settings.confirmed_share))))
        .drop("n_new", "place", "nth")
    )


def _launch_examples(launch: DataFrame) -> DataFrame:
    return launch.select(
        F.lit("launch").alias("origin"),
        "locale",
        "context",
        "text",
        "intent",
        "slots",
        "is_intent_only",
        "annotated_utterance",
        F.lit(1.0).alias("weight"),
        "utterance_id",
        F.lit("stands in the launch set").alias("reason"),
    )


def _split() -> Column:
    """By the words, so that no sentence stands in two splits, in whatever context it was said."""
    bucket = F.pmod(F.xxhash64("locale", F.lower("text")), F.lit(100))
    return (
        F.when(bucket < _VALIDATION_PERCENT, "validation")
        .when(bucket < _VALIDATION_PERCENT + _TEST_PERCENT, "test")
        .otherwise("train")
    )
