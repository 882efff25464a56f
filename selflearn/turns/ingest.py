"""From raw rows to turns and quarantined rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from selflearn.lakehouse.landing import Land, not_landed
from selflearn.lakehouse.tables import QUARANTINE, TURNS
from selflearn.settings import Settings, Turns
from selflearn.turns.cleaning import CLEANED_FROM, clean
from selflearn.turns.erasure import is_of, user_of
from selflearn.turns.mapping import RAW_ROW, SOURCE_FILE, defect, shown
from selflearn.turns.sessions import DAY, day_of, is_on, is_visible, midnight_of, sessionise
from selflearn.turns.source import FILE_DAY
from selflearn.turns.text import UNIT_SEPARATOR
from selflearn.turns.validation import find_defect, is_misplaced, latest_time, locale_column, present

_SHOWN_CHARACTERS = 200
_OF_BAD_ROWS = ("own_day", "defect", RAW_ROW, SOURCE_FILE)
_IDS = ("turn_id", "session_id", "user_id", "intent", "rewrite_id", "model_version")


@dataclass(frozen=True)
class Ingested:
    """What a run over some days makes of the raw rows.

    Attributes:
        rows: of the days, good and bad, one column each; to be counted.
        turns: columns of `TURNS`.
        quarantine: columns of `QUARANTINE`.
    """

    rows: DataFrame
    turns: DataFrame
    quarantine: DataFrame


def ingest(
    raw: DataFrame,
    settings: Settings,
    days: Sequence[date],
    now: datetime,
    user_key: bytes,
    land: Land = not_landed,
    erased: Collection[str] = (),
) -> Ingested:
    """Turns of the days, cleaned, deduplicated and in sessions; and the rows of the days that are unfit.

    A pure function of the raw rows: days ingested one by one and together give the same. Rows of other days serve
    to find sessions that cross midnight and duplicates; else they are ignored.

    Args:
        raw: rows of `read_source`.
        settings: `settings.turns` says what is unfit and where a session ends.
        days: UTC days to make; any order.
        now: the time after which times lie in the future.
        user_key: the secret that user ids are hashed with.
        land: see `Land`.
        erased: people whose rows are as if the source had none, by `erasure_id`.
    """
    days = sorted(set(days))
    checked = _checked(raw, settings.turns, days, now)
    if erased:
        checked = checked.where(~is_of(erased, user_key)(user_of(F.col("user_id"), F.col("session_id")), _unclaimed()))
    landed = land(_fit_to_land(checked, settings.turns, days, user_key))
    repeated = land(_repeated_ids(landed))
    bad = landed.where(F.col("defect").isNotNull()).select(*_OF_BAD_ROWS)
    bad = bad.unionByName(_duplicates(checked, repeated).select(*_OF_BAD_ROWS))
    is_own = F.col("own_day").isin(days)
    return Ingested(
        landed.where(is_own).select("own_day"),
        _turns(landed, repeated, settings.turns, days),
        _quarantine(bad.where(is_own)),
    )


def _unclaimed() -> Column:
    """The raw form of a bad row of which no user could be read: whose it is, its words alone may tell."""
    return F.when(F.col("defect").isNotNull() & F.col("user_id").isNull(), F.col(RAW_ROW))


def _fit_to_land(checked: DataFrame, rules: Turns, days: Sequence[date], user_key: bytes) -> DataFrame:
    """The checked rows as they may be written down: masked, users hashed, the raw form of bad rows alone.

    Of rows that serve to find duplicates alone, and of bad ones, nothing is left that would need cleaning.
    """
    is_bad = F.col("defect").isNotNull()
    is_turn = ~is_bad & is_visible(F.col("us"), days, rules.max_session_hours)
    user = user_of(F.col("user_id"), F.col("session_id"))
    whole = checked.withColumns({"user_id": user, "context": F.coalesce("context", F.lit(""))})
    emptied = {name: F.when(is_turn, F.col(name)) for name in CLEANED_FROM}
    kept = whole.withColumns({**emptied, RAW_ROW: F.when(is_bad, F.col(RAW_ROW))})
    return clean(kept, rules.mask_personal_data, user_key)


def _checked(raw: DataFrame, rules: Turns, days: Sequence[date], now: datetime) -> DataFrame:
    """Raw rows that matter to the days, with tidy ids, time in microseconds, a hash, their day and their defect."""
    us, file_day = F.col("us"), F.col(FILE_DAY)
    tidy = {name: present(F.col(name)) for name in _IDS}
    is_sane = (F.col("ts") <= latest_time(rules, now)) & ~is_misplaced(F.col("ts"), file_day)
    own_day = F.when(is_sane, day_of(midnight_of(us))).otherwise(F.coalesce(file_day, F.lit(days[-1])))
    matters = F.col("own_day").isin(days) | is_on(us, days, shift=1) | is_visible(us, days, rules.max_session_hours)
    return (
        raw.withColumns({**tidy, "locale": locale_column(F.col("locale"))})
        .withColumns({"us": F.unix_micros("ts"), "row_hash": F.xxhash64(RAW_ROW)})
        .withColumns({"defect": find_defect(rules, now, file_day), "own_day": own_day})
        .where(matters)
    )


def _repeated_ids(rows: DataFrame) -> DataFrame:
    """Turn ids that stand on more than one sound row."""
    sound = rows.where(F.col("defect").isNull() & F.col("turn_id").isNotNull())
    return sound.groupBy("turn_id").count().where("count > 1").select("turn_id")


def _turns(rows: DataFrame, repeated: DataFrame, rules: Turns, days: Sequence[date]) -> DataFrame:
    sound = rows.where(F.col("defect").isNull()).drop(RAW_ROW, SOURCE_FILE, FILE_DAY, "defect", "own_day")
    once = sound.join(repeated, "turn_id", "left_anti").withColumn("is_duplicate", F.lit(False))
    again = sound.join(repeated, "turn_id", "left_semi").withColumn("is_duplicate", _is_duplicate())
    seen = once.unionByName(again).where(is_visible(F.col("us"), days, rules.max_session_hours))
    return (
        sessionise(seen, rules.session_gap_minutes, rules.max_session_hours)
        .where(~F.col("is_duplicate") & F.col("turn_date").isin(days))
        .withColumn("feedback", F.col("feedback").cast("int"))
        .select(*TURNS.schema.fieldNames())
    )


def _is_duplicate() -> Column:
    """Whether a turn of the same id came before, on the same day or the day before."""
    same_id = Window.partitionBy("turn_id").orderBy("us", "row_hash")
    earlier = F.lag("us").over(same_id)
    return F.coalesce(earlier >= midnight_of(F.col("us")) - DAY, F.lit(False))


def _duplicates(checked: DataFrame, repeated: DataFrame) -> DataFrame:
    """Sound rows whose turn came before, with their raw form as the source has it."""
    sound = checked.where(F.col("defect").isNull())
    again = sound.join(repeated, "turn_id", "left_semi").withColumn("is_duplicate", _is_duplicate())
    found = defect("duplicate_turn_id", shown("turn_id", F.col("turn_id")))
    return again.where("is_duplicate").withColumn("defect", found)


def _quarantine(bad: DataFrame) -> DataFrame:
    content = F.md5(F.concat_ws(UNIT_SEPARATOR, F.col("own_day").cast("string"), RAW_ROW))
    numbered = Window.partitionBy("content").orderBy(SOURCE_FILE)
    return (
        bad.withColumn("content", content)
        .withColumn("ordinal", F.row_number().over(numbered).cast("string"))
        .withColumns(
            {
                "row_hash": F.md5(F.concat_ws(UNIT_SEPARATOR, "content", "ordinal")),
                "turn_date": F.col("own_day"),
                "reason": F.col("defect.reason"),
                "offending_value": F.substring("defect.value", 1, _SHOWN_CHARACTERS),
                "raw_row": F.col(RAW_ROW),
                "source_file": F.col(SOURCE_FILE),
            }
        )
        .select(*QUARANTINE.schema.fieldNames())
    )
