"""Fitting a model of pairs to gold pairs, or to the launch set, from the tables of a lake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.detect import sample_sessions
from selflearn.detect.detection import observed
from selflearn.detect.supervised import SentencePairs, SupervisedModel, fit_pair_model, sentence_pairs
from selflearn.errors import DataError, SettingsError
from selflearn.lakehouse import tables
from selflearn.lakehouse.store import Lakehouse, versions
from selflearn.settings import Settings
from selflearn.turns import read_launch_set

MAX_SAMPLED_DAYS = 20
"""Newest days, of those that hold gold where there is any, whose sample stands for the log."""
MAX_SENTENCES = 50_000


def fit_pairs(lake: Lakehouse, settings: Settings, gold: pd.DataFrame | None, from_launch_set: bool) -> SupervisedModel:
    """Learn from gold pairs (columns of `evaluate.read_gold`), from the launch set, or from both.

    Raises:
        DataError: the lake has no turns, or there is too little to learn from.
        SettingsError: the launch set is to be learnt from, and the settings name none.
    """
    sentences = _sentence_pairs(lake, settings) if from_launch_set else None
    turns = lake.read(tables.TURNS)
    held = None if gold is None else _sessions_with(turns, gold)
    days = _days(turns) if held is None else sorted({day for day, _ in held})
    sampled = days[-MAX_SAMPLED_DAYS:]
    if not sampled:
        raise DataError(f"table turns of {lake.root} is empty", "ingest some days first (`selflearn run`)")
    counts = turns.where(F.col("turn_date").isin(sampled)).groupBy("turn_date").count().collect()
    provenance = {
        "settings_fingerprint": settings.fingerprint(),
        "tables": dict(versions(lake, [tables.TURNS])),
        "days": [day.isoformat() for day in (days[0], days[-1])],
    }
    return fit_pair_model(
        sample_sessions(turns, {row["turn_date"]: row["count"] for row in counts}),
        settings.detect,
        None if gold is None or held is None else (_whole_sessions(turns, held), gold),
        sentences,
        provenance,
    )


def _sessions_with(turns: DataFrame, gold: pd.DataFrame) -> list[tuple[date, str]]:
    """Day and id of every session that holds a turn of a gold pair."""
    ids = sorted({*gold["source_turn_id"], *gold["target_turn_id"]})
    wanted = turns.sparkSession.createDataFrame([(name,) for name in ids], "turn_id string")
    rows = turns.join(F.broadcast(wanted), "turn_id").select("turn_date", "session_id").distinct().collect()
    if not rows:
        raise DataError(
            f"none of the {len(ids)} turns that gold names is in table turns, for example {', '.join(ids[:1])}",
            "give the lake that the pairs were taken from, or ingest their days first",
        )
    return sorted((row["turn_date"], row["session_id"]) for row in rows)


def _whole_sessions(turns: DataFrame, sessions: Sequence[tuple[date, str]]) -> pa.Table:
    held = turns.sparkSession.createDataFrame(list(sessions), "turn_date date, session_id string")
    some = turns.where(F.col("turn_date").isin(sorted({day for day, _ in sessions})))
    rows = observed(some.join(F.broadcast(held), ["turn_date", "session_id"])).toArrow()
    order = [(name, "ascending") for name in ("turn_date", "session_id", "turn_index")]
    return rows.sort_by(order).combine_chunks()


def _days(turns: DataFrame) -> list[date]:
    return sorted(row["turn_date"] for row in turns.select("turn_date").distinct().collect())


def _sentence_pairs(lake: Lakehouse, settings: Settings) -> SentencePairs:
    if settings.launch is None:
        raise SettingsError("the settings name no launch set", "name it under `launch`, or give --gold alone")
    launch = read_launch_set(lake.spark, settings.launch, settings.turns.mask_personal_data)
    sentences = launch.select("locale", "normalised_text", "goal").distinct()
    # Of a very large set the same sentences every time.
    return sentence_pairs(sentences.orderBy(F.xxhash64("normalised_text", "goal")).limit(MAX_SENTENCES).toArrow())
