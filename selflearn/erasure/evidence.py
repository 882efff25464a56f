"""Evidence of days whose turns are gone, and so cannot be made again without some people."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_EDGE = ("turn_date", "locale", "source_utterance")


def held_by(evidence: DataFrame, people: DataFrame) -> DataFrame:
    """Rows of `tables.EVIDENCE` with `n_theirs`, how many of the people are in the row's sketch, where any are.

    `people` have a `person`, as sketches do.
    """
    return _marked(evidence, people).where("n_theirs > 0").drop("n_left")


def without_people(evidence: DataFrame, people: DataFrame, spellings: DataFrame) -> DataFrame:
    """Rows of `tables.EVIDENCE` without the people.

    What they alone said goes, with its readings. Of what others said too they leave the sketch of people; the sums,
    which tell of nobody in particular, stay. Its text, which may be spelt as they did, becomes the normalised one.

    Args:
        evidence: of some days.
        people: see `held_by`.
        spellings: `utterance_id` and its normalised text as `text`, each once.
    """
    marked = _marked(evidence, people)
    gone = marked.where((F.col("kind") == "utterance") & _is_theirs_alone()).select(*_EDGE)
    readings = marked.where(F.col("kind") == "reading").join(gone, list(_EDGE), "left_anti")
    others = marked.where((F.col("kind") != "reading") & ~_is_theirs_alone())
    normal = spellings.select(F.col("utterance_id").alias("source_utterance"), F.col("text").alias("normal_text"))
    respelt = F.when(F.col("n_theirs") > 0, F.coalesce("normal_text", F.lower("text"))).otherwise(F.col("text"))
    kept = others.join(normal, "source_utterance", "left").withColumns(
        {"text": F.when(F.col("text").isNotNull(), respelt), "users": F.array_except("users", "theirs")}
    )
    columns = evidence.columns
    return kept.select(*columns).unionByName(readings.select(*columns))


def _marked(evidence: DataFrame, people: DataFrame) -> DataFrame:
    theirs = people.agg(F.collect_set("person").alias("theirs"))
    n = F.coalesce(F.size("users"), F.lit(0))
    n_left = F.when(n > 0, F.size(F.array_except("users", "theirs"))).otherwise(0)
    return (
        evidence.crossJoin(F.broadcast(theirs))
        .withColumn("n_left", n_left)
        .withColumn("n_theirs", F.when(n > 0, n - F.col("n_left")).otherwise(0))
    )


def _is_theirs_alone() -> Column:
    return (F.col("n_theirs") > 0) & (F.col("n_left") == 0)
