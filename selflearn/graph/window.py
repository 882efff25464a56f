"""A window of evidence: days added up with exponential decay, one row per edge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.settings import Graph


@dataclass(frozen=True)
class Window:
    """The edges of a window.

    Attributes:
        utterances: `locale, utterance_id, context, text, n, friction, users` (a mergeable sketch).
        readings: `locale, utterance_id, goal, p_sum, n_outcomes, outcome_sum`; `outcome_sum` adds up the log-odds
            with which turns read as that goal failed.
        pairs: `locale, source_utterance, target_utterance, n, p, users`; p is the mean probability of a rephrase.
    """

    utterances: DataFrame
    readings: DataFrame
    pairs: DataFrame


def window_days(as_of: date, settings: Graph) -> list[date]:
    """Days that count, oldest first."""
    return [as_of - timedelta(days=age) for age in reversed(range(settings.window_days))]


def sum_window(evidence: DataFrame, as_of: date, settings: Graph) -> Window:
    """Add up the rows of `tables.EVIDENCE` that lie in the window that ends with `as_of`."""
    days = window_days(as_of, settings)
    evidence = evidence.where(F.col("turn_date").between(days[0], days[-1]))
    age = F.date_diff(F.lit(as_of), F.col("turn_date"))
    weight = F.pow(F.lit(0.5), age / F.lit(settings.half_life_days))
    weighted = evidence.select(
        "kind",
        "locale",
        F.col("source_utterance").alias("utterance_id"),
        "target",
        "context",
        "text",
        "users",
        *((F.col(column) * weight).alias(column) for column in _SUMS),
    )
    utterances = (
        weighted.where("kind = 'utterance'")
        .groupBy("utterance_id", "locale")
        .agg(
            F.min("context").alias("context"),
            F.min("text").alias("text"),
            F.sum("n").alias("n"),
            (F.sum("friction_sum") / F.sum("n")).alias("friction"),
            F.hll_union_agg("users").alias("users"),
        )
    )
    readings = (
        weighted.where("kind = 'reading'")
        .groupBy("utterance_id", "locale", F.col("target").alias("goal"))
        .agg(*(F.sum(column).alias(column) for column in ("p_sum", "n_outcomes", "outcome_sum")))
    )
    pairs = (
        weighted.where("kind = 'pair'")
        .groupBy(F.col("utterance_id").alias("source_utterance"), F.col("target").alias("target_utterance"), "locale")
        .agg(
            F.sum("n").alias("n"),
            (F.sum("p_sum") / F.sum("n")).alias("p"),
            F.hll_union_agg("users").alias("users"),
        )
    )
    return Window(utterances, readings, pairs)


_SUMS = ("n", "p_sum", "friction_sum", "n_outcomes", "outcome_sum")
