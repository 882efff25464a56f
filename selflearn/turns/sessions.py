"""Sessions: which turns belong together, in which order, and to which day.

A session belongs to the day it starts on. To know that of every turn, one would have to follow a session back for as
long as it lasts; a run sees a day and its neighbours' edges alone. So a session is followed over midnight by a rule
that looks no further than that, and gives the same whether days are ingested one by one or together. With
`reach = max_session_hours` and `lookback = min(reach, 24 h - reach)`:

1. A session is over where it has an inactivity gap (sessions without an id), and at midnight where it had no turn in
   the last `lookback` hours of the day.
2. A session that is not over at midnight is followed for `reach` hours: its turns before that belong to the day
   before.
3. There it is cut. Its later turns are a new session of their own day, which in its turn may cross the next midnight.

A source's session that is cut goes on under its id with `~` and the day. What counts for rule 1 is every sound row,
whether it is a duplicate or not, so that a row's duplicates on other days change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from selflearn.turns.text import UNIT_SEPARATOR

_HOUR = 3_600_000_000
_MINUTE = _HOUR // 60
DAY = 24 * _HOUR


def sessionise(turns: DataFrame, gap_minutes: float, max_session_hours: float) -> DataFrame:
    """Give each turn its `turn_date`, `session_id`, `turn_index` and, where it has none, its `turn_id`.

    Needs besides canonical columns `us` (time in microseconds), `row_hash` (to tell equal turns apart) and
    `is_duplicate`: duplicates are not counted in `turn_index`.
    """
    key = F.when(F.col("session_id").isNotNull(), F.concat(F.lit("s"), "session_id")).otherwise(
        F.concat(F.lit("u"), "user_id")
    )
    derived_id = F.md5(F.concat_ws(UNIT_SEPARATOR, "session_key", F.col("us").cast("string"), "text"))
    keyed = turns.withColumn("session_key", key).withColumn("turn_key", F.coalesce("turn_id", derived_id))
    pieces = _find_pieces(keyed, gap_minutes, max_session_hours)
    ordinal = F.col("n_rows") - F.col("first_equal") + 1
    numbered = F.concat("turn_key", F.lit("-"), F.lpad(ordinal.cast("string"), 9, "0"))
    return pieces.withColumns(
        {
            "session_id": _session_id(),
            "turn_index": (F.col("n") - F.col("piece.n_before") - 1).cast("int"),
            # Equal turns without an id are told apart by a number that keeps their order.
            "turn_id": F.when(F.col("turn_id").isNull() & (ordinal > 1), numbered).otherwise(F.col("turn_key")),
        }
    )


def _find_pieces(turns: DataFrame, gap_minutes: float, max_session_hours: float) -> DataFrame:
    """Where the piece of a session begins that each turn belongs to (`piece`), and on which day (`turn_date`).

    `run` is where the session began that may go on over several midnights, `gate` the last turn that came first
    after a midnight's reach: there a session is cut if it began before that midnight.
    """
    reach, lookback = _spans(max_session_hours)
    # Keys of one day often begin alike; hashes are told apart at their first bytes.
    ordered = Window.partitionBy("session_hash", "session_key").orderBy("us", "turn_key", "row_hash")
    so_far = ordered.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    us, midnight, previous = F.col("us"), F.col("midnight"), F.col("previous")
    is_counted = ~F.col("is_duplicate")
    is_idle = F.col("session_id").isNull() & (us - previous > round(gap_minutes * _MINUTE))
    is_over = previous.isNull() | (previous < midnight - lookback) | is_idle
    is_gate = (us >= midnight + reach) & (previous.isNull() | (previous < midnight + reach))
    is_other = F.col("previous_key").isNull() | (previous != us) | (F.col("previous_key") != F.col("turn_key"))
    place = F.struct(
        us.alias("start"), midnight.alias("midnight"), (F.col("n") - is_counted.cast("int")).alias("n_before")
    )
    is_cut = F.col("run.start") < F.col("gate.midnight")
    is_carried = (F.col("run.start") < midnight) & (us < midnight + reach)
    return (
        turns.withColumns({"midnight": midnight_of(us), "session_hash": F.xxhash64("session_key")})
        .withColumns(
            {
                "previous": F.lag("us").over(ordered),
                "previous_key": F.lag("turn_key").over(ordered),
                "n": F.count_if(is_counted).over(so_far),
                "n_rows": F.row_number().over(ordered),
            }
        )
        .withColumns(
            {
                "run": F.last(F.when(is_over, place), ignorenulls=True).over(so_far),
                "gate": F.last(F.when(is_gate, place), ignorenulls=True).over(so_far),
                "first_equal": F.last(F.when(is_other, F.col("n_rows")), ignorenulls=True).over(so_far),
            }
        )
        .withColumn("is_cut", F.coalesce(is_cut, F.lit(False)))
        .withColumn("piece", F.when(F.col("is_cut"), F.col("gate")).otherwise(F.col("run")))
        .withColumn("turn_date", day_of(midnight - F.when(is_carried, DAY).otherwise(0)))
    )


def is_visible(us: Column, days: Sequence[date], max_session_hours: float) -> Column:
    """Whether a turn of that time can matter to the sessions of the days."""
    reach, lookback = _spans(max_session_hours)
    midnight = midnight_of(us)
    return (
        is_on(us, days)
        | (is_on(us, days, shift=1) & (us >= midnight + DAY - lookback))
        | (is_on(us, days, shift=-1) & (us < midnight + reach))
    )


def is_on(us: Column, days: Sequence[date], shift: int = 0) -> Column:
    """Whether the time lies on one of the days, or `shift` days before one."""
    return day_of(midnight_of(us)).isin([day - timedelta(days=shift) for day in days])


def midnight_of(us: Column) -> Column:
    """Start of the UTC day, in microseconds as `us`."""
    return us - F.pmod(us, F.lit(DAY))


def day_of(midnight: Column) -> Column:
    """The UTC day that starts at `midnight`."""
    return F.date_from_unix_date((midnight / DAY).cast("int"))


def _spans(max_session_hours: float) -> tuple[int, int]:
    reach = round(max_session_hours * _HOUR)
    return reach, min(reach, DAY - reach)


def _session_id() -> Column:
    """The source's id, marked where the session was cut, or one made of the user and the start."""
    begun_on = F.date_format(day_of(F.col("piece.midnight")), "yyyy-MM-dd")
    made = F.md5(F.concat_ws(UNIT_SEPARATOR, "session_key", F.col("piece.start").cast("string")))
    return (
        F.when(F.col("session_id").isNull(), made)
        .when(F.col("is_cut"), F.concat("session_id", F.lit("~"), begun_on))
        .otherwise(F.col("session_id"))
    )
