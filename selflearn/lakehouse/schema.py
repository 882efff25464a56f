"""What table declarations are made of: the table itself, its columns, nested types and constraints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)


@dataclass(frozen=True)
class Table:
    """A Delta table: where it lies below the lake, what is in it, and what must hold.

    `partition` holds the columns by which a stage replaces its own rows; `published` tables are read by
    engines other than Spark.
    """

    name: str
    schema: StructType
    key: tuple[str, ...]
    partition: tuple[str, ...]
    checks: Mapping[str, str] = field(default_factory=dict)
    published: bool = False


def required(name: str, kind: DataType) -> StructField:
    """A column that is NOT NULL."""
    return StructField(name, kind, nullable=False)


def optional(name: str, kind: DataType) -> StructField:
    """A column that may be null."""
    return StructField(name, kind, nullable=True)


def columns(*fields: StructField) -> StructType:
    """The columns of a table, in this order."""
    return StructType(list(fields))


STRING, DOUBLE, FLOAT, LONG, INTEGER = StringType(), DoubleType(), FloatType(), LongType(), IntegerType()
DATE, TIMESTAMP, BOOLEAN = DateType(), TimestampType(), BooleanType()

# Delta has no NOT NULL inside arrays, so nested fields are declared nullable.
SLOT = StructType([optional("name", STRING), optional("value", STRING)])
HEARD_TEXT = StructType([optional("text", STRING), optional("score", DOUBLE)])
READING = StructType([optional("goal", STRING), optional("score", DOUBLE)])
BELIEVED_GOAL = StructType([optional("goal", STRING), optional("posterior", DOUBLE)])
VOTE = StructType([optional("signal", STRING), optional("lead", DOUBLE)])
WEIGHED_INTENT = StructType([optional("intent", STRING), optional("weight", DOUBLE)])
SPAN = StructType(
    [
        optional("name", STRING),
        optional("value", STRING),
        optional("start", INTEGER),
        optional("end", INTEGER),
    ]
)


def probability(*columns: str) -> dict[str, str]:
    """Constraints that hold the columns between 0 and 1."""
    # Delta takes an unknown for a violation, so what may be missing says so.
    return {f"{column}_is_probability": f"{column} IS NULL OR {column} BETWEEN 0 AND 1" for column in columns}
