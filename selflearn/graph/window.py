"""A window of evidence: days added up with exponential decay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as RowWindow
from pyspark.sql import functions as F

from selflearn.graph.candidates import LEAST, OTHER, OTHER_PRIOR, Prior
from selflearn.graph.people import merged, n_people
from selflearn.lakehouse.tables import OTHER_GOAL
from selflearn.settings import Graph

_WEEK = 7
_P_BURST = 0.001
_MOST_DAYS_EACH = 3.0
"""People who go from one wording to the same other one on more days than that, on average, are a script. Of an honest
month's pairs those of five people and more had 1.4 such days at most."""


@dataclass(frozen=True)
class Window:
    """Utterances and edges of a window.

    Attributes:
        utterances: `utterance_id, locale, context, text, n, friction, users` (a mergeable sketch), `said_on`, a list of
            `turn_date, weight, users`, and `readings`, a list of `turn_date, goal, p_sum, n_outcomes, outcome_sum` for
            each day and goal that the NLU considered; `outcome_sum` adds up the log-odds with which turns read as that
            goal failed.
        pairs: `locale, source_utterance, target_utterance, n, p, users, weight, is_one_voice`; p is the mean
            probability of a rephrase, the weight that of the last day.
        merges: the same of utterances and goals: `locale, utterance_id, goal, n, p, users, weight, is_one_voice`.
        readings: `locale, goal, p_sum`, one row for each day, utterance and goal.
    """

    utterances: DataFrame
    pairs: DataFrame
    merges: DataFrame
    readings: DataFrame


def window_days(as_of: date, settings: Graph) -> list[date]:
    """Days that count, oldest first."""
    return [as_of - timedelta(days=age) for age in reversed(range(settings.window_days))]


def sum_window(evidence: DataFrame, as_of: date, settings: Graph) -> Window:
    """Add up the rows of `tables.EVIDENCE` that lie in the window that ends with `as_of`."""
    days = window_days(as_of, settings)
    in_window = evidence.where(F.col("turn_date").between(days[0], days[-1]))
    rows = weighted(in_window, as_of, settings).select(
        "turn_date",
        "kind",
        "weight",
        F.col("n").alias("n_seen"),
        "locale",
        F.col("source_utterance").alias("utterance_id"),
        "target",
        "context",
        "text",
        "users",
        *((F.col(column) * F.col("weight")).alias(column) for column in _SUMS),
    )
    day = F.struct("turn_date", "weight", "users")
    reading = F.struct("turn_date", F.col("target").alias("goal"), "p_sum", "n_outcomes", "outcome_sum")
    utterances = (
        rows.where("kind IN ('utterance', 'reading')")
        .groupBy("utterance_id", "locale")
        .agg(
            F.min("context").alias("context"),
            F.min("text").alias("text"),
            F.sum(_of_utterance("n")).alias("n"),
            (F.sum(_of_utterance("friction_sum")) / F.sum(_of_utterance("n"))).alias("friction"),
            merged(F.col("users")).alias("users"),
            F.collect_list(F.when(F.col("kind") == "utterance", day)).alias("said_on"),
            F.collect_list(F.when(F.col("kind") == "reading", reading)).alias("readings"),
        )
    )
    again = (
        rows.where("kind IN ('pair', 'merge')")
        .groupBy("kind", "utterance_id", "target", "locale")
        .agg(
            F.sum("n").alias("n"),
            (F.sum("p_sum") / F.sum("n")).alias("p"),
            merged(F.col("users")).alias("users"),
            F.max("weight").alias("weight"),
            F.sum("n_seen").alias("n_seen"),
            F.max("n_seen").alias("busiest"),
        )
        .join(F.broadcast(_has_week(in_window)), "locale")
        .withColumn("is_one_voice", _is_one_voice())
        .drop("has_week", "n_seen", "busiest")
    )
    ends = {"utterance_id": "source_utterance", "target": "target_utterance"}
    pairs = again.where("kind = 'pair'").drop("kind").withColumnsRenamed(ends)
    merges = again.where("kind = 'merge'").drop("kind").withColumnRenamed("target", "goal")
    readings = rows.where("kind = 'reading'").select("locale", F.col("target").alias("goal"), "p_sum")
    return Window(utterances, pairs, merges, readings)


def weighted(evidence: DataFrame, as_of: date, settings: Graph) -> DataFrame:
    """Rows of `tables.EVIDENCE` up to a day with their `weight`, which halves with every half-life.

    An utterance, its readings and what was said after it are of the domain of its likeliest reading of any day.
    """
    half_life = F.lit(settings.half_life_days)
    if settings.domain_half_life_days:
        reading = F.when(F.col("kind") == "reading", F.struct("p_sum", "target"))
        likeliest = F.max(reading).over(RowWindow.partitionBy("source_utterance"))
        intent = F.get_json_object(likeliest["target"], "$.intent")
        for prefix, days in sorted(settings.domain_half_life_days.items(), key=lambda item: len(item[0])):
            half_life = F.when(intent.startswith(prefix), F.lit(days)).otherwise(half_life)
    age = F.date_diff(F.lit(as_of), F.col("turn_date"))
    return evidence.withColumn("weight", F.pow(F.lit(0.5), age / half_life))


def is_burst(n: Column, busiest: Column) -> Column:
    """Whether one day holds more of n events than chance would give any day of a week.

    By Chernoff's bound on the binomial tail, for all days together.
    """
    share, fair = busiest / n, F.lit(1 / _WEEK)
    rest = F.when(share < 1, (1 - share) * F.log((1 - share) / (1 - fair))).otherwise(0.0)
    divergence = F.when(share > fair, share * F.log(share / fair) + rest).otherwise(0.0)
    return F.lit(float(_WEEK)) * F.exp(-n * divergence) < _P_BURST


def is_habit(n: Column, n_users: Column) -> Column:
    """Whether n events, one a person and day, are of people who come back to it as hardly anybody does."""
    return n > n_users * F.lit(_MOST_DAYS_EACH)


def _is_one_voice() -> Column:
    """Whether all who said so count as one: they did so at once, or again and again."""
    at_once = F.col("has_week") & is_burst(F.col("n_seen"), F.col("busiest"))
    return at_once | is_habit(F.col("n_seen"), n_people(F.col("users")))


def n_votes() -> Column:
    """How many rows of a window's pairs or merges count.

    One for each person, as of the last day, however often they said so, and one for all where they are one voice.
    """
    people = F.when(F.col("is_one_voice"), 1.0).otherwise(n_people(F.col("users")))
    return F.least("n", F.col("weight") * people)


def _has_week(evidence: DataFrame) -> DataFrame:
    """Whether a locale has evidence of a week's days: of fewer, a burst could not be told."""
    return evidence.groupBy("locale").agg((F.count_distinct("turn_date") >= _WEEK).alias("has_week"))


def goal_id(goal: Column) -> Column:
    """What goals go by in the pool: of a million goals, two share one with a chance of one in 30 million."""
    return F.xxhash64(goal)


def goal_masses(window: Window) -> DataFrame:
    """All goals of a window: `locale, goal_id, goal, mass`."""
    return (
        window.readings.groupBy("goal", "locale")
        .agg(F.sum("p_sum").alias("mass"))
        .withColumn("goal_id", goal_id(F.col("goal")))
    )


def goal_prior(masses: DataFrame) -> Prior:
    """Share of each goal among all readings of its locale, of goals that have `LEAST` or more.

    There are at most `1 / LEAST` such goals in a locale, however large the window. `masses` are the `goal_masses`.
    """
    total = F.sum("mass").over(RowWindow.partitionBy("locale"))
    share = F.try_divide("mass", total) * (1 - OTHER_PRIOR)
    rows = masses.select("locale", "goal_id", share.alias("share")).where(F.col("share") >= LEAST).collect()
    return {(row["locale"], row["goal_id"]): row["share"] for row in rows}


def goal_names(masses: DataFrame) -> DataFrame:
    """`goal_id, goal`, `OTHER_GOAL` among them; `masses` are the `goal_masses`."""
    other = masses.sparkSession.createDataFrame([(OTHER, OTHER_GOAL)], "goal_id bigint, goal string")
    return masses.select("goal_id", "goal").distinct().unionByName(other)


_SUMS = ("n", "p_sum", "friction_sum", "n_outcomes", "outcome_sum")


def _of_utterance(column: str) -> Column:
    return F.when(F.col("kind") == "utterance", F.col(column))
