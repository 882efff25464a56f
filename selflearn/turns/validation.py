"""What makes a row unfit, as pure columns: one reason code and the offending value, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime

from pyspark.sql import Column
from pyspark.sql import functions as F

from selflearn.settings import Turns
from selflearn.turns.mapping import DEFECT, defect, shown
from selflearn.turns.text import INVISIBLE, LOCALE_PATTERN, canonical_locale

_MICROSECONDS = 1_000_000
# Texts of these characters alone are empty after `normalise_text`.
_EMPTY = rf"^[\p{{Cc}}\p{{Z}}{INVISIBLE}]*$"


def find_defect(rules: Turns, now: datetime, file_day: Column) -> Column:
    """The first defect of a raw row, null where it is sound.

    `locale` is the canonical one already. `file_day` is the day of the row's file, or null: a time more than a day
    away from it is a defect, because no run would find the row.
    """
    text, ts, locale = F.col("text"), F.col("ts"), F.col("locale")
    feedback = F.col("feedback")
    checks = {
        "missing_session": (F.col("session_id").isNull() & F.col("user_id").isNull(), None),
        "missing_time": (ts.isNull(), None),
        "future_time": (ts > latest_time(rules, now), shown("ts", ts)),
        "misplaced_time": (is_misplaced(ts, file_day), shown("ts", ts)),
        "missing_locale": (locale.isNull(), None),
        "unknown_locale": (~is_known_locale(locale, rules.locales), shown("locale", locale)),
        "empty_text": (is_empty(text), shown("text", text)),
        "text_too_long": (F.length(text) > rules.max_text_length, shown("text", text)),
        "bad_feedback": (~feedback.isin(-1, 0, 1), shown("feedback", feedback)),
    }
    found = [F.when(is_bad, defect(reason, value)) for reason, (is_bad, value) in checks.items()]
    scores = [
        F.when(~F.col(name).between(0, 1), defect("score_out_of_range", shown(name, F.col(name))))
        for name in ("asr_score", "nlu_score")
    ]
    return F.coalesce(F.col(DEFECT), *found, *scores)


def latest_time(rules: Turns, now: datetime) -> Column:
    """The last time that is not in the future, clock skew allowed; a `now` without a zone is UTC."""
    moment = now if now.tzinfo else now.replace(tzinfo=UTC)
    seconds = moment.timestamp() + rules.future_tolerance_minutes * 60
    return F.timestamp_micros(F.lit(round(seconds * _MICROSECONDS)))


def is_misplaced(ts: Column, file_day: Column) -> Column:
    """Whether the time is further from its file's day than a run looks; false where the file has no day."""
    return F.coalesce(F.abs(F.date_diff(F.to_date(ts), file_day)) > 1, F.lit(False))


def is_empty(text: Column) -> Column:
    """Whether nothing is left of the text once it is normalised."""
    is_clearly_not = F.ascii(text).between(ord("!"), ord("~"))
    return text.isNull() | (~is_clearly_not & text.rlike(_EMPTY))


def is_known_locale(locale: Column, accepted: tuple[str, ...] | None) -> Column:
    """Whether a canonical locale is well-formed, and one of the accepted where some are given."""
    if accepted is None:
        return locale.rlike(LOCALE_PATTERN)
    return locale.isin(*[canonical_locale(tag) or tag for tag in accepted])


def locale_column(locale: Column) -> Column:
    """`canonical_locale` as a column; what is no language tag stays as it is, blank becomes null."""
    tags = F.split(F.translate(locale, "_", "-"), "-")
    others = F.transform(F.slice(tags, 2, F.greatest(F.size(tags) - 1, F.lit(0))), _subtag)
    canonical = F.array_join(F.concat(F.array(F.lower(F.element_at(tags, 1))), others), "-")
    is_canonical = locale.rlike(r"^[a-z]{2}-[A-Z]{2}\z")
    return F.when(is_canonical, locale).when(locale.rlike(LOCALE_PATTERN), canonical).otherwise(present(locale))


def present(value: Column) -> Column:
    """The value, null where it is blank."""
    return F.when(F.trim(value) != "", value)


def _subtag(tag: Column) -> Column:
    return (
        F.when(tag.rlike("^[A-Za-z]{4}$"), F.initcap(tag))
        .when(tag.rlike(r"^(..|\d{3})$"), F.upper(tag))
        .otherwise(F.lower(tag))
    )
