"""Words that nobody but some people said, and the rows of tables that hold one."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from selflearn.lakehouse.schema import Table

# Columns of utterances, of their texts and of their goals, by whatever table they stand in.
_WORDED = (
    *("utterance_id", "source_utterance", "target_utterance", "left_utterance", "right_utterance"),
    *("text", "target_text"),
    *("goal", "nlu_goal"),
)
_LISTED_GOALS = "goals"


def said(turns: DataFrame, held: DataFrame) -> DataFrame:
    """Who said which utterance: `utterance_id, person`, each once.

    `turns` are theirs, with who said them as `person`; `held` are the rows of `held_by`.
    """
    in_sketches = held.where("kind = 'utterance'").select(
        F.col("source_utterance").alias("utterance_id"),
        F.explode(F.array_intersect("users", "theirs")).alias("person"),
    )
    return turns.select("utterance_id", "person").unionByName(in_sketches).distinct()


def words_of_turns(turns: DataFrame) -> DataFrame:
    """Ids, texts and goals of utterances (rows of `tables.TURNS`, or of a launch set): `word`."""
    columns: list[Column] = [F.array("utterance_id", "text", "normalised_text", "goal")]
    if "nlu_alternatives" in turns.columns:
        columns.append(F.coalesce(F.col("nlu_alternatives.goal"), F.array().cast("array<string>")))
    return turns.select(F.explode(F.array_compact(F.concat(*columns))).alias("word"))


def words_of_evidence(evidence: DataFrame) -> DataFrame:
    """Ids, texts and goals that stand in rows of `tables.EVIDENCE`: `word`."""
    goal = F.when(F.col("kind").isin("reading", "merge"), F.col("target"))
    words = F.array(F.col("source_utterance"), F.col("text"), goal)
    return evidence.where("kind IN ('utterance', 'reading', 'merge')").select(
        F.explode(F.array_compact(words)).alias("word")
    )


def only_theirs(words: DataFrame, of_others: DataFrame) -> DataFrame:
    """Words of some people that nobody else has, each once."""
    theirs = words.distinct()
    shared = of_others.join(F.broadcast(theirs), "word", "left_semi").distinct()
    return theirs.join(F.broadcast(shared), "word", "left_anti")


def holding(rows: DataFrame, table: Table, words: DataFrame) -> DataFrame:
    """Keys of the table's rows that hold one of the words as an utterance, a text or a goal."""
    names = table.schema.fieldNames()
    columns = [F.array(F.col(name)) for name in _WORDED if name in names]
    if _LISTED_GOALS in names:
        columns.append(F.col(f"{_LISTED_GOALS}.goal"))
    word = F.explode(F.array_compact(F.concat(*columns))).alias("word")
    return rows.select(*table.key, word).join(F.broadcast(words), "word", "left_semi").select(*table.key).distinct()


def unsupported(labels: DataFrame, links: DataFrame, said_by: DataFrame, min_users: int) -> DataFrame:
    """Keys of labels that have too few people behind them once some people are gone.

    Who said the utterance, or one linked to it, may stand behind its label, and is taken for one who does.

    Args:
        labels: rows of `tables.WEAK_LABELS`.
        links: `as_of, utterance_id, other_id`, both ways.
        said_by: see `said`.
        min_users: the floor.
    """
    key = ["as_of", "utterance_id"]
    rows = labels.select(*key, "n_users_behind")
    own = rows.join(said_by, "utterance_id")
    linked = rows.join(links, key).join(said_by.withColumnRenamed("utterance_id", "other_id"), "other_id")
    lost = (
        own.unionByName(linked.drop("other_id"))
        .groupBy(*key)
        .agg(F.count_distinct("person").alias("n_gone"), F.first("n_users_behind").alias("n_behind"))
    )
    return lost.where(F.col("n_behind") - F.col("n_gone") < min_users).select(*key)


def days_knowing(detectors: DataFrame, words: DataFrame) -> DataFrame:
    """Days of which a detector (`tables.DETECTORS`) knows one of the words as an utterance: `turn_date`."""
    known = F.from_json(F.get_json_object("content", "$.left_unread"), "map<string, double>")
    held = detectors.select("turn_date", F.explode(F.map_keys(known)).alias("word"))
    return held.join(F.broadcast(words), "word", "left_semi").select("turn_date").distinct()
