"""From raw rows to turns and quarantined rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as F

from selflearn.lakehouse.tables import QUARANTINE, TURNS
from selflearn.settings import Settings, Turns
from selflearn.turns.cleaning import clean
from selflearn.turns.mapping import RAW_ROW, SOURCE_FILE, defect, shown
from selflearn.turns.sessions import DAY, day_of, is_on, is_visible, midnight_of, sessionise
from selflearn.turns.source import FILE_DAY
from selflearn.turns.text import UNIT_SEPARATOR
from selflearn.turns.validation import find_defect, is_misplaced, latest_time, locale_column, present

_SHOWN_CHARACTERS = 200
_IDS = ("turn_id", "session_id", "user_id", "intent", "rewrite_id", "model_version")


@dataclass(frozen=True)
class Ingested:
    """What a run over some days makes of the raw rows.

    Attributes:
        turns: columns of `TURNS`.
        quarantine: columns of `QUARANTINE`.
        counts: once `quarantine` has been written or counted, `counts.get` holds `n_rows` (all rows of the days) and
            `n_quarantined`.
    """

    turns: DataFrame
    quarantine: DataFrame
    counts: Observation


def ingest(raw: DataFrame, settings: Settings, days: Sequence[date], now: datetime, user_key: bytes) -> Ingested:
    """Turns of the days, cleaned, deduplicated and in sessions; and the rows of the days that are unfit.

    A pure function of the raw rows: days ingested one by one and together give the same. Rows of other days serve
    to find sessions that cross midnight and duplicates; else they are ignored.

    Args:
        raw: rows of `read_source`.
        settings: `settings.turns` says what is unfit and where a session ends.
        days: UTC days to make; any order.
        now: the time after which times lie in the future.
        user_key: the secret that user ids are hashed with.
    """
    days = sorted(set(days))
    rows = _checked(raw, settings.turns, now)
    turns = _turns(rows, settings.turns, days, user_key)
    quarantine, counts = _quarantine(rows, settings.turns, days, now)
    return Ingested(turns, quarantine, counts)


def _checked(raw: DataFrame, rules: Turns, now: datetime) -> DataFrame:
    """Raw rows with tidy ids, their time in microseconds, a hash to order equal ones, and their defect."""
    tidy = {name: present(F.col(name)) for name in _IDS}
    return (
        raw.withColumns({**tidy, "locale": locale_column(F.col("locale"))})
        .withColumns({"us": F.unix_micros("ts"), "row_hash": F.xxhash64(RAW_ROW)})
        .withColumn("defect", find_defect(rules, now, F.col(FILE_DAY)))
    )


def _turns(rows: DataFrame, rules: Turns, days: Sequence[date], user_key: bytes) -> DataFrame:
    us = F.col("us")
    near = is_on(us, days, shift=1) | is_visible(us, days, rules.max_session_hours)
    sound = rows.where(F.col("defect").isNull() & near).drop(RAW_ROW, SOURCE_FILE, FILE_DAY, "defect")
    seen = sound.withColumn("is_duplicate", _is_duplicate()).where(is_visible(us, days, rules.max_session_hours))
    user = F.coalesce("user_id", F.concat(F.lit("session:"), "session_id"))
    whole = seen.withColumns({"user_id": user, "context": F.coalesce("context", F.lit(""))})
    cleaned = clean(whole, rules.mask_personal_data, user_key)
    return (
        sessionise(cleaned, rules.session_gap_minutes, rules.max_session_hours)
        .where(~F.col("is_duplicate") & F.col("turn_date").isin(days))
        .withColumn("feedback", F.col("feedback").cast("int"))
        .select(*TURNS.schema.fieldNames())
    )


def _is_duplicate() -> Column:
    """Whether a turn of the same id came before, on the same day or the day before."""
    # Rows without an id get a key of their own, lest they meet in one partition.
    key = F.coalesce("turn_id", F.concat(F.lit("\0"), F.col("row_hash").cast("string")))
    same_id = Window.partitionBy(key).orderBy("us", "row_hash")
    earlier = F.lag("us").over(same_id)
    return F.col("turn_id").isNotNull() & F.coalesce(earlier >= midnight_of(F.col("us")) - DAY, F.lit(False))


def _quarantine(rows: DataFrame, rules: Turns, days: Sequence[date], now: datetime) -> tuple[DataFrame, Observation]:
    us, counts = F.col("us"), Observation()
    is_sane = (F.col("ts") <= latest_time(rules, now)) & ~is_misplaced(F.col("ts"), F.col(FILE_DAY))
    own_day = F.when(is_sane, day_of(midnight_of(us))).otherwise(F.coalesce(FILE_DAY, F.lit(days[-1])))
    is_own = F.col("turn_date").isin(days)
    sound_id = F.when(F.col("defect").isNull(), F.col("turn_id"))
    flagged = (
        rows.withColumns({"turn_date": own_day, "turn_id": sound_id})
        .where(is_own | (is_on(us, days, shift=1) & F.col("turn_id").isNotNull()))
        .select("turn_date", "turn_id", "us", "row_hash", "defect", RAW_ROW, SOURCE_FILE)
        .withColumn("is_duplicate", _is_duplicate())
    )
    is_bad = F.col("defect").isNotNull() | F.col("is_duplicate")
    bad = flagged.observe(
        counts,
        F.count_if(is_own).alias("n_rows"),
        F.count_if(is_own & is_bad).alias("n_quarantined"),
    ).where(is_own & is_bad)
    found = F.coalesce("defect", defect("duplicate_turn_id", shown("turn_id", F.col("turn_id"))))
    content = F.md5(F.concat_ws(UNIT_SEPARATOR, F.col("turn_date").cast("string"), RAW_ROW))
    numbered = Window.partitionBy("content").orderBy(SOURCE_FILE)
    return (
        bad.withColumns({"content": content, "found": found})
        .withColumn("ordinal", F.row_number().over(numbered).cast("string"))
        .withColumn("row_hash", F.md5(F.concat_ws(UNIT_SEPARATOR, "content", "ordinal")))
        .withColumn("reason", F.col("found.reason"))
        .withColumn("offending_value", F.substring("found.value", 1, _SHOWN_CHARACTERS))
        .withColumnsRenamed({RAW_ROW: "raw_row", SOURCE_FILE: "source_file"})
        .select(*QUARANTINE.schema.fieldNames())
    ), counts
