"""The launch set: sentences that the deployed NLU was trained on, in the shape of turns' texts and frames."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, StringType

from selflearn.errors import DataError
from selflearn.lakehouse.schema import HEARD_TEXT
from selflearn.settings import Source
from selflearn.turns.cleaning import clean
from selflearn.turns.mapping import DEFECT, RAW_ROW, SCORED_FRAME, defect, shown
from selflearn.turns.read_errors import clear_read_errors
from selflearn.turns.source import read_sentences
from selflearn.turns.validation import is_empty, is_known_locale, locale_column, present

_SHOWN_ROWS = 3
LAUNCH_COLUMNS = ("locale", "context", "text", "normalised_text", "utterance_id", "goal", "intent", "slots")


def read_launch_set(spark: SparkSession, source: Source, mask: bool = True, name: str = "launch set") -> DataFrame:
    """Sentences of the launch set: `LAUNCH_COLUMNS`, one row per row of the source.

    Texts and slot values are masked as turns' are, or their utterances would differ. `mask` is
    `settings.turns.mask_personal_data`; `name` is what errors call the set, which may be another of the same shape.

    Raises:
        DataError: the path leads nowhere, a file cannot be read, or any row is unfit: its own training data is a
            thing a deployment can mend, and half of it would change what counts as new.
        SettingsError: the mapping is wrong.
    """
    rows = read_sentences(spark, source).withColumns(
        {"locale": locale_column(F.col("locale")), "intent": present(F.col("intent"))}
    )
    rows = rows.withColumn("defect", _find_defect())
    _refuse_defects(rows, source, name)
    return _cleaned(rows, mask)


def _find_defect() -> Column:
    text, locale = F.col("text"), F.col("locale")
    checks = {
        "empty_text": (is_empty(text), None),
        "missing_intent": (F.col("intent").isNull(), None),
        "missing_locale": (locale.isNull(), None),
        "unknown_locale": (~is_known_locale(locale, None), shown("locale", locale)),
    }
    return F.coalesce(
        F.col(DEFECT), *[F.when(is_bad, defect(reason, value)) for reason, (is_bad, value) in checks.items()]
    )


def _refuse_defects(rows: DataFrame, source: Source, name: str) -> None:
    bad = rows.where(F.col("defect").isNotNull())
    with clear_read_errors():
        counts = {row["reason"]: row["count"] for row in bad.groupBy("defect.reason").count().sort("reason").collect()}
        examples = [row[RAW_ROW] for row in bad.select(RAW_ROW).sort(RAW_ROW).take(_SHOWN_ROWS)] if counts else []
    if counts:
        listed = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        shown_rows = "".join(f"\n  - {example:.200}" for example in examples)
        raise DataError(
            f"the {name} {source.path} has {sum(counts.values())} unfit rows ({listed}), such as{shown_rows}",
            "mend or remove these rows, then run again",
        )


def _cleaned(rows: DataFrame, mask: bool) -> DataFrame:
    def absent(kind: DataType) -> Column:
        return F.lit(None).cast(kind)

    text_only = {
        "text_alternatives": absent(ArrayType(HEARD_TEXT)),
        "prompt": absent(StringType()),
        "response": absent(StringType()),
        "nlu_alternatives": absent(ArrayType(SCORED_FRAME)),
        "user_id": absent(StringType()),
    }
    sentences = rows.withColumns({**text_only, "context": F.coalesce("context", F.lit(""))})
    return clean(sentences, mask, b"").select(*LAUNCH_COLUMNS)
