"""Weak labels: which posteriors are emitted, with their support and the reason for each."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as RowWindow
from pyspark.sql import functions as F

from selflearn.labels.annotation import with_annotation
from selflearn.lakehouse import tables
from selflearn.settings import Labels

_Z_95 = 1.645
_SURE_READING = 0.5
_STABLE = 0.5
"""Least posterior that a label's goal must keep without any one person's turns: below it the label is that person's."""


def weak_labels(nodes: DataFrame, settings: Labels) -> DataFrame:
    """Columns of `tables.WEAK_LABELS`: the most probable goal of each utterance, where it may be trusted.

    A label is emitted where its posterior reaches the threshold, at least `min_users` people stand behind it, and it
    would stand without any one of them.
    It is new where the deployed NLU read something else, or was less than even sure; else it confirms. `p_correct` is
    the posterior: the weights behind it were fitted to foretell outcomes that it was not shown.
    `p_correct_lb` is the one-sided 95 % Wilson bound of the posterior at that many independent people.
    """
    read = _deployed_reading(nodes)
    chosen = (
        nodes.where((F.col("rank") == 1) & (F.col("goal") != tables.OTHER_GOAL))
        .where((F.col("posterior") >= settings.threshold) & (F.col("n_users_behind") >= settings.min_users))
        .where(F.col("posterior_without_one") >= _STABLE)
        .join(read, ["utterance_id", "locale"], "left")
        .withColumn("is_new", _is_new())
        .withColumn("p_correct", F.col("posterior"))
        .withColumn("p_correct_lb", wilson_lower_bound(F.col("posterior"), F.col("n_users_behind")))
        .withColumn("reason", _reason())
    )
    return with_annotation(chosen).select(*tables.WEAK_LABELS.schema.fieldNames())


def wilson_lower_bound(p: Column, n: Column) -> Column:
    """One-sided 95 % Wilson score bound of a proportion p seen in n trials."""
    z2 = _Z_95**2
    centre = p + z2 / (2 * n)
    spread = _Z_95 * F.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return F.greatest(F.lit(0.0), (centre - spread) / (1 + z2 / n))


def _deployed_reading(nodes: DataFrame) -> DataFrame:
    """The goal that the deployed NLU gave most probability, and that probability."""
    by_nlu = RowWindow.partitionBy("utterance_id", "locale").orderBy(F.desc("p_nlu"), "goal")
    return (
        nodes.where((F.col("p_nlu") > 0) & (F.col("goal") != tables.OTHER_GOAL))
        .withColumn("nth", F.row_number().over(by_nlu))
        .where("nth = 1")
        .select(
            "locale",
            "utterance_id",
            F.col("goal").alias("nlu_goal"),
            F.col("p_nlu").alias("p_read"),
        )
    )


def _is_new() -> Column:
    return ~F.coalesce(F.col("nlu_goal") == F.col("goal"), F.lit(False)) | (F.col("p_nlu") < _SURE_READING)


def _reason() -> Column:
    def share(value: Column) -> Column:
        return F.format_string("%.2f", value)

    def people(n: Column) -> Column:
        return F.when(n == 1, "1 person").otherwise(F.format_string("%d people", n))

    nlu_intent = F.get_json_object("nlu_goal", "$.intent")
    same_intent = nlu_intent == F.get_json_object("goal", "$.intent")
    reading = (
        F.when(F.col("nlu_goal").isNull(), F.lit("the NLU had no reading of it"))
        .when(F.col("nlu_goal") == F.col("goal"), F.concat(F.lit("the NLU reads it so with "), share(F.col("p_read"))))
        .when(same_intent, F.concat(F.lit("the NLU reads other values with "), share(F.col("p_read"))))
        .otherwise(F.concat(F.lit("the NLU reads "), nlu_intent, F.lit(" with "), share(F.col("p_read"))))
    )
    failed = F.format_string(", failed %.0f %% of the time", 100 * F.col("friction"))
    said = F.concat(F.lit("; said by "), people(F.col("n_users")), failed)
    paired = F.when(F.col("n_pairs") > 0, F.format_string("; linked by %.1f pairs", F.col("n_pairs"))).otherwise("")
    strongest = F.format_string(
        "; log evidence: NLU %+.1f, outcomes %+.1f, pairs %+.1f, variants %+.1f",
        F.col("nlu_evidence"),
        F.col("outcome_evidence"),
        F.col("pair_evidence"),
        F.col("variant_evidence"),
    )
    behind = F.concat(F.lit("; "), people(F.col("n_users_behind")), F.lit(" behind the label"))
    return F.concat(reading, said, paired, behind, strongest)
