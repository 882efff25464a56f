"""Canonical columns, and how a source's own columns become them.

A source may map each canonical column by a Spark SQL expression over its own columns; what it does not map is taken
by name. Values are brought to the canonical type one by one: a value that cannot be is the row's defect, not the
run's end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    AtomicType,
    BooleanType,
    DataType,
    DateType,
    DoubleType,
    MapType,
    NullType,
    NumericType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from selflearn.errors import DataError, SettingsError
from selflearn.lakehouse.schema import HEARD_TEXT, SLOT

# What each raw row has besides canonical columns.
RAW_ROW, SOURCE_FILE, DEFECT = "__raw_row", "__source_file", "__defect"

DEFECT_TYPE = StructType([StructField("reason", StringType()), StructField("value", StringType())])
SCORED_FRAME = StructType(
    [
        StructField("intent", StringType()),
        StructField("slots", ArrayType(SLOT)),
        StructField("score", DoubleType()),
    ]
)


@dataclass(frozen=True)
class Canon:
    """Canonical columns of one kind of input; of each group in `required`, one column must come from the source."""

    columns: StructType
    required: tuple[tuple[str, ...], ...]

    @property
    def json_columns(self) -> StructType:
        """The same as they stand in canonical JSON, which has no times."""
        return StructType(
            [
                StructField(field.name, StringType() if isinstance(field.dataType, TimestampType) else field.dataType)
                for field in self.columns
            ]
        )


@dataclass(frozen=True)
class SourceRows:
    """Rows with the source's own columns, which are `names`; and what is to be known of each row besides."""

    frame: DataFrame
    names: Sequence[str]
    raw_row: Column
    source_file: Column
    defect: Column


def _columns(**kinds: DataType) -> StructType:
    return StructType([StructField(name, kind) for name, kind in kinds.items()])


TURN = Canon(
    _columns(
        turn_id=StringType(),
        session_id=StringType(),
        user_id=StringType(),
        ts=TimestampType(),
        locale=StringType(),
        text=StringType(),
        text_alternatives=ArrayType(HEARD_TEXT),
        asr_score=DoubleType(),
        intent=StringType(),
        slots=ArrayType(SLOT),
        nlu_score=DoubleType(),
        nlu_alternatives=ArrayType(SCORED_FRAME),
        prompt=StringType(),
        response=StringType(),
        context=StringType(),
        fallback=BooleanType(),
        barge_in=BooleanType(),
        error=BooleanType(),
        cancelled=BooleanType(),
        completed=BooleanType(),
        feedback=DoubleType(),
        rewrite_id=StringType(),
        model_version=StringType(),
    ),
    required=(("session_id", "user_id"), ("ts",), ("locale",), ("text",)),
)
SENTENCE = Canon(
    _columns(
        text=StringType(),
        locale=StringType(),
        context=StringType(),
        intent=StringType(),
        slots=ArrayType(SLOT),
    ),
    required=(("text",), ("locale",), ("intent",)),
)


def defect(reason: str, value: Column | None = None) -> Column:
    """What is wrong with a row, and the value that is."""
    offending = F.lit(None).cast("string") if value is None else value.cast("string")
    return F.struct(F.lit(reason).alias("reason"), offending.alias("value"))


def shown(name: str, value: Column) -> Column:
    """The value as a quarantine row names it."""
    return F.concat(F.lit(f"{name}="), value.cast("string"))


def map_columns(rows: SourceRows, expressions: Mapping[str, str], canon: Canon) -> DataFrame:
    """Canonical columns, raw form, file and defect of each row; a value of a wrong type becomes the row's defect.

    Raises:
        SettingsError: an expression is wrong, of an unknown canonical column, or of a type that cannot be used; all
            such mistakes are named.
        DataError: the source has none of the columns that are required and not mapped.
    """
    wanted = canon.columns.fieldNames()
    given = {name: F.col(f"`{name}`") for name in wanted if name in rows.names}
    mistakes = [
        f"{name}: no such canonical column; there are {', '.join(wanted)}" for name in expressions if name not in wanted
    ]
    mapped = {name: _expression(text) for name, text in expressions.items() if name in wanted}
    values, wrong, unusable = _conform_all(rows, {**given, **mapped}, canon)
    mistakes += [_explained(name, expressions.get(name, name), why, rows.names) for name, why in unusable.items()]
    if mistakes:
        listed = "".join(f"\n  - {mistake}" for mistake in mistakes)
        raise SettingsError(
            f"source.columns cannot be used:{listed}",
            "mend each expression named above; where a column is not there every day, declare all in `raw_schema`",
        )
    _check_required(values, canon, rows.names)
    nothing = {field.name: F.lit(None).cast(field.dataType) for field in canon.columns}
    # Last what is made of many columns: Spark copies what it knows of an expression for each column that is renamed
    # after it, twice as often with each.
    return rows.frame.select(
        *[values.get(name, nothing[name]).alias(name) for name in wanted],
        rows.source_file.alias(SOURCE_FILE),
        rows.raw_row.alias(RAW_ROW),
        F.coalesce(rows.defect, *wrong).alias(DEFECT),
    )


def _conform_all(
    rows: SourceRows, columns: Mapping[str, Column | str], canon: Canon
) -> tuple[dict[str, Column], list[Column], dict[str, str]]:
    """Per column its value of the canonical type, the defects such values can have, and why a column is unusable."""
    values: dict[str, Column] = {}
    wrong: list[Column] = []
    unusable: dict[str, str] = {}
    kinds = _kinds(rows, columns)
    for name, column in columns.items():
        kind, want = kinds[name], canon.columns[name].dataType
        if isinstance(kind, str) or isinstance(column, str):
            unusable[name] = kind if isinstance(kind, str) else str(column)
            continue
        conformed = _conformed(column, kind, want)
        if conformed is None:
            unusable[name] = f"gives {kind.simpleString()}, which cannot become {want.simpleString()}"
            continue
        values[name] = conformed
        if conformed is not column:
            is_wrong = column.isNotNull() & conformed.isNull()
            wrong.append(F.when(is_wrong, defect("wrong_type", shown(name, column))))
    return values, wrong, unusable


def _expression(text: str) -> Column | str:
    try:
        return F.expr(text)
    except PySparkException as error:
        return _reason(error)


def _kinds(rows: SourceRows, columns: Mapping[str, Column | str]) -> dict[str, DataType | str]:
    """Type of each column over the rows, or why it has none."""
    sound = {name: column for name, column in columns.items() if not isinstance(column, str)}
    try:
        schema = _select(rows, sound).schema
        return {name: schema[name].dataType if name in sound else str(columns[name]) for name in columns}
    except PySparkException:
        return {name: _kind(rows, name, column) for name, column in columns.items()}


def _kind(rows: SourceRows, name: str, column: Column | str) -> DataType | str:
    if isinstance(column, str):
        return column
    try:
        return _select(rows, {name: column}).schema[name].dataType
    except PySparkException as error:
        return _reason(error)


def _select(rows: SourceRows, columns: Mapping[str, Column]) -> DataFrame:
    # The file and the nesting make Spark refuse aggregates and generators, which would change the rows.
    fields = F.struct(F.lit(0), *[column.alias(name) for name, column in columns.items()]).alias("fields")
    return rows.frame.select(rows.source_file.alias("file"), fields).select("fields.*")


def _conformed(value: Column, have: DataType, want: DataType) -> Column | None:
    """The value as the wanted type, null where it is none; no column at all where the types never fit."""
    if have.simpleString() == want.simpleString():
        return value
    if isinstance(have, NullType):
        return F.lit(None).cast(want)
    if isinstance(want, ArrayType):
        return _conformed_list(value, have, want)
    if isinstance(want, StructType):
        return _conformed_struct(value, have, want)
    if isinstance(want, TimestampType):
        return _conformed_time(value, have)
    is_plain = isinstance(have, StringType | NumericType | BooleanType)
    is_text = isinstance(want, StringType) and isinstance(have, AtomicType)
    return value.try_cast(want) if is_plain or is_text else None


def _conformed_list(value: Column, have: DataType, want: ArrayType) -> Column | None:
    if isinstance(have, StringType):
        return F.from_json(value, want)
    if isinstance(have, ArrayType):
        kind = have.elementType
        if _conformed(value, kind, want.elementType) is None:
            return None
        return F.transform(value, lambda element: _known(_conformed(element, kind, want.elementType)))
    if isinstance(have, MapType) and want.elementType == SLOT and isinstance(have.keyType, StringType):
        entry = StructType([StructField("name", have.keyType), StructField("value", have.valueType)])
        if _conformed_struct(value, entry, SLOT) is None:
            return None
        named = F.transform(
            F.map_entries(value),
            lambda pair: F.struct(pair["key"].alias("name"), pair["value"].alias("value")),
        )
        return _conformed_list(named, ArrayType(entry), want)
    return None


def _conformed_struct(value: Column, have: DataType, want: StructType) -> Column | None:
    if not isinstance(have, StructType):
        return None
    fields = []
    for field in want:
        found = field.name in have.fieldNames()
        part = (
            _conformed(value[field.name], have[field.name].dataType, field.dataType)
            if found
            else F.lit(None).cast(field.dataType)
        )
        if part is None:
            return None
        fields.append(part.alias(field.name))
    return F.when(value.isNotNull(), F.struct(*fields))


def _conformed_time(value: Column, have: DataType) -> Column | None:
    if isinstance(have, StringType):
        # Spark would fill a time without a day, or a day without a time, up from the clock.
        is_whole = (value.substr(5, 1) == "-") & (value.substr(14, 1) == ":")
        return F.when(is_whole, value.try_cast(TimestampType()))
    return value.cast(TimestampType()) if isinstance(have, DateType | TimestampNTZType) else None


def _known(column: Column | None) -> Column:
    assert column is not None
    return column


def _check_required(values: Mapping[str, Column], canon: Canon, available: Sequence[str]) -> None:
    missing = [" or ".join(group) for group in canon.required if not any(name in values for name in group)]
    if missing:
        raise DataError(
            f"the source has no column for {', '.join(missing)}; it has {', '.join(available)}",
            "map each of them under `columns` of this source, as a Spark SQL expression over the columns it has",
        )


def _explained(name: str, expression: str, why: str, available: Sequence[str]) -> str:
    return f"{name}: `{expression}` {why}; the source has {', '.join(available)}"


def _reason(error: PySparkException) -> str:
    line = str(error).strip().splitlines()[0]
    return "fails: " + re.sub(r"\s*SQLSTATE.*$", "", line)
