"""From candidates to rewrites: one wording for each that fails, none of which is itself rewritten; and their states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import Window as RowWindow
from pyspark.sql import functions as F

from selflearn.lakehouse import tables
from selflearn.rewrites.judgement import judge
from selflearn.settings import Rewrites

_JUDGED = (
    "p_success double, p_success_lb double, target_p_success double, target_p_success_lb double, p_better double, "
    "p_treated_better double, is_allowed boolean, state string"
)
_NAMES = tuple(column.split()[0] for column in _JUDGED.split(", "))


def judged(found: DataFrame, evidence: DataFrame, of_wordings: DataFrame, settings: Rewrites) -> DataFrame:
    """Rows of `candidates` with the counts of their treated arms, and what `judge` says of them.

    `of_wordings` are the `priors`.
    """
    served = evidence.where("kind = 'rewrite'").withColumn("rewrite_id", F.col("target"))
    weight = F.col("weight")
    treated = served.groupBy("rewrite_id").agg(
        F.sum(weight * F.col("n")).alias("n_treated"),
        F.sum(weight * (F.col("n") - F.col("friction_sum"))).alias("n_treated_worked"),
    )
    per_person = served.select("rewrite_id", "weight", F.explode("users").alias("person"))
    given = per_person.groupBy("rewrite_id", "person").agg(F.sum("weight").alias("given"))
    most = given.groupBy("rewrite_id").agg(F.max("given").alias("n_treated_most"))
    counted = (
        found.join(treated.join(most, "rewrite_id", "left"), "rewrite_id", "left")
        .fillna(0.0, ["n_treated", "n_treated_worked", "n_treated_most"])
        .withColumn("intent", F.get_json_object("goal", "$.intent"))
        .join(F.broadcast(of_wordings), ["locale", "intent"])
    )

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            of_rows = judge(rows, settings)
            columns = [
                of_rows.source.mean,
                of_rows.source.lower_bound,
                of_rows.target.mean,
                of_rows.target.lower_bound,
                of_rows.p_better,
                of_rows.p_treated_better,
                of_rows.is_allowed,
                pa.array(of_rows.state, pa.string()),
            ]
            for name, column in zip(_NAMES, columns, strict=True):
                rows = rows.append_column(name, pa.array(column))
            yield from rows.combine_chunks().to_batches()

    schema = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in counted.schema)
    return counted.mapInArrow(run, f"{schema}, {_JUDGED}")


def select_rewrites(found: DataFrame, earlier: DataFrame, as_of: date, settings: Rewrites) -> DataFrame:
    """Columns of `tables.REWRITES` from `judged` rows: what is served, what is retired today, what is cooling down.

    A wording that could itself be rewritten is nobody's target, so that a rewrite of a rewrite is the rewrite and there
    are no cycles. Of several targets one that is kept is taken, else the one that surely works most often. `earlier`
    has rows of an older day.
    """
    since = as_of - timedelta(days=settings.cooldown_days)
    cooling = earlier.where((F.col("state") == "retired") & (F.col("retired_on") > F.lit(since)))
    fresh = found.join(cooling.select("rewrite_id"), "rewrite_id", "left_anti")
    tried = fresh.where("is_allowed AND state <> 'retired'")
    rewritten = tried.select(F.col("utterance_id").alias("target_utterance")).distinct()
    best_first = RowWindow.partitionBy("utterance_id").orderBy(
        F.desc(F.col("state") == "kept"), F.desc("target_p_success_lb"), "rewrite_id"
    )
    served = (
        tried.join(rewritten, "target_utterance", "left_anti")
        .withColumn("place", F.row_number().over(best_first))
        .where("place = 1")
        .withColumn("retired_on", F.lit(None).cast("date"))
    )
    # Whatever else is said of it by now: that it was served and did worse is remembered.
    retired = fresh.where("state = 'retired' AND n_treated > 0").withColumn("retired_on", F.lit(as_of))
    names = tables.REWRITES.schema.fieldNames()
    today = [_as_rows(rows).withColumn("as_of", F.lit(as_of)).select(*names) for rows in (served, retired, cooling)]
    return today[0].unionByName(today[1]).unionByName(today[2])


def _as_rows(rows: DataFrame) -> DataFrame:
    """The organic arm's counts, where they are not there yet: those of the wording left as it is."""
    if "n_organic" in rows.columns:
        return rows
    worked = F.col("n") * (1 - F.col("friction"))
    return rows.withColumns({"n_organic": F.col("n"), "n_organic_worked": worked})
