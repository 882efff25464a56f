"""Annotations of whole tables: intent and slots on the words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import StructField, StructType

from selflearn.labels.spans import Annotation, annotate
from selflearn.lakehouse import tables

COLUMNS = ("intent", "slots", "is_intent_only", "annotated_utterance")
_TYPE = StructType([StructField(name, tables.WEAK_LABELS.schema[name].dataType) for name in COLUMNS]).simpleString()


def with_annotation(rows: DataFrame) -> DataFrame:
    """Set `intent`, `slots` (spans), `is_intent_only` and `annotated_utterance` from `text` and `goal`."""
    # The stubs demand a function type that the signature leaves out.
    annotate_rows = arrow_udf(_annotate, _TYPE)  # type: ignore[call-overload]
    annotation = annotate_rows(F.col("text"), F.col("goal"))
    return (
        rows.withColumn("annotation", annotation)
        .withColumns({name: F.col("annotation")[name] for name in COLUMNS})
        .drop("annotation")
    )


def _annotate(texts: pa.Array, goals: pa.Array) -> pa.Array:
    found = [annotate(text, goal) for text, goal in zip(texts.to_pylist(), goals.to_pylist(), strict=True)]
    return pa.StructArray.from_arrays(annotation_columns(found), names=list(COLUMNS))


def annotation_columns(found: Sequence[Annotation]) -> list[pa.Array]:
    """Columns `COLUMNS` of annotations."""
    return [
        pa.array([one.intent for one in found], pa.string()),
        pa.array([[asdict(span) for span in one.spans] for one in found], _SPANS),
        pa.array([one.is_intent_only for one in found], pa.bool_()),
        pa.array([one.annotated for one in found], pa.string()),
    ]


_SPANS = pa.list_(
    pa.struct([("name", pa.string()), ("value", pa.string()), ("start", pa.int32()), ("end", pa.int32())])
)
