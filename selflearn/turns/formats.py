"""Rows of a source as Spark reads them, each with its raw form and its file; what cannot be parsed is a defect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from selflearn.errors import DataError, SettingsError
from selflearn.settings import Source
from selflearn.turns.mapping import (
    DEFECT,
    DEFECT_TYPE,
    HELPERS,
    RAW_ROW,
    SOURCE_FILE,
    Canon,
    defect,
    map_columns,
    shown,
)

_CORRUPT, _DAMAGED = "__corrupt", "__damaged"
_DAMAGED_CHARACTER = "\ufffd"


def read_rows(spark: SparkSession, source: Source, paths: Sequence[str], canon: Canon) -> DataFrame:
    """Canonical columns of all rows of the files, with the columns `HELPERS`.

    Raises:
        SettingsError: `raw_schema` or an expression of `columns` is wrong.
        DataError: the files do not hold what the format says, or lack required columns.
    """
    if not paths:
        return nothing(spark, canon)
    rows = _READERS[source.format](spark, source, paths, canon)
    if not rows.columns[len(HELPERS) :]:
        return nothing(spark, canon).unionByName(rows, allowMissingColumns=True)
    return _settled(map_columns(rows, source.columns, canon))


def nothing(spark: SparkSession, canon: Canon) -> DataFrame:
    """No rows, of the right columns."""
    helpers = [
        StructField(RAW_ROW, StringType()),
        StructField(SOURCE_FILE, StringType()),
        StructField(DEFECT, DEFECT_TYPE),
    ]
    return spark.createDataFrame([], StructType([*helpers, *canon.columns]))


def _settled(rows: DataFrame) -> DataFrame:
    """The same rows, whose values are computed once.

    Without the generator Spark would copy the parser, and every expression after it, into each filter and
    each column that later steps build on them.
    """
    values = F.struct(*[name for name in rows.columns if name not in (RAW_ROW, SOURCE_FILE)])
    return rows.select(RAW_ROW, SOURCE_FILE, F.inline_outer(F.array(values)))


def _read_jsonl(spark: SparkSession, source: Source, paths: Sequence[str], canon: Canon) -> DataFrame:
    lines = spark.read.text(list(paths))
    raw_row = F.make_valid_utf8("value")
    rows = lines.where(F.trim("value") != "").select(
        raw_row.alias(RAW_ROW), _file(lines).alias(SOURCE_FILE), (raw_row != F.col("value")).alias(_DAMAGED)
    )
    schema = _json_schema(spark, source, paths, canon)
    rows = rows.withColumn("parsed", _parsed(F.col(RAW_ROW), schema))
    problem = _json_defect(schema)
    if "text" in schema.fieldNames() and "text" not in source.columns:
        problem = problem.when(_is_no_json_string("text"), defect("wrong_type", shown("text", F.col("parsed")["text"])))
    return rows.select(RAW_ROW, SOURCE_FILE, problem.alias(DEFECT), "parsed.*").drop(_CORRUPT)


def _json_schema(spark: SparkSession, source: Source, paths: Sequence[str], canon: Canon) -> StructType:
    if source.raw_schema is not None:
        return _given_schema(source.raw_schema)
    if not source.columns:
        return canon.json_columns
    inferred = spark.read.option("columnNameOfCorruptRecord", _CORRUPT).json(list(paths)).schema
    # A list that is empty on all these days, for one, would be inferred as a list of texts.
    known = {field.name: field for field in canon.json_columns if field.name not in source.columns}
    return StructType([known.get(field.name, field) for field in inferred if field.name != _CORRUPT])


def _given_schema(ddl: str) -> StructType:
    try:
        schema = StructType.fromDDL(ddl)
    except PySparkException as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingsError(
            f"raw_schema of the source is no Spark DDL: {reason}", "write it like `id BIGINT, said STRING`"
        ) from None
    if not isinstance(schema, StructType):
        raise SettingsError(
            f"raw_schema of the source names no columns: {ddl}", "write it like `id BIGINT, said STRING`"
        )
    return schema


def _parsed(line: Column, schema: StructType) -> Column:
    corrupt = StructField(_CORRUPT, StringType())
    return F.from_json(line, StructType([*schema, corrupt]), {"columnNameOfCorruptRecord": _CORRUPT})


def _json_defect(schema: StructType) -> Column:
    """What is wrong with a line as a whole; only lines that failed to parse are asked the costly questions."""
    line, failed = F.col(RAW_ROW), F.col("parsed")[_CORRUPT].isNotNull()
    loose = _parsed(line, StructType([StructField(field.name, StringType()) for field in schema]))
    malformed = defect("malformed_json", line)
    wrong = [
        F.when(
            _parsed(line, StructType([field]))[_CORRUPT].isNotNull(),
            defect("wrong_type", shown(field.name, loose[field.name])),
        )
        for field in schema
    ]
    return (
        F.when(F.col(_DAMAGED), defect("invalid_utf8", line))
        .when(failed & loose[_CORRUPT].isNotNull(), malformed)
        .when(failed, F.coalesce(*wrong, malformed))
        .when(_may_hold_more(line) & ~_is_one_value(line), malformed)
    )


def _may_hold_more(line: Column) -> Column:
    """Whether something may follow the line's object, which the parser would drop: two writers, one line."""
    first_key = F.substring_index(line, ":", 1)
    return ~F.rtrim(line).endswith("}") | (F.call_function("locate", first_key, line, F.lit(2)) > 0)


def _is_one_value(line: Column) -> Column:
    listed = F.concat(F.lit("["), line, F.lit("]"))
    n_values = F.coalesce(F.json_array_length(listed), F.size(F.from_json(listed, "array<struct<x: string>>")))
    return F.coalesce(n_values, F.lit(0)) == 1


def _is_no_json_string(name: str) -> Column:
    """Whether the value, which the parser made text of, is a number, truth value, object or list in the line."""
    value = F.col("parsed")[name]
    may_be = F.substring(value, 1, 1).isin(*"[{-0123456789") | value.isin("true", "false")
    kind = F.schema_of_variant(F.try_variant_get(F.try_parse_json(F.col(RAW_ROW)), f"$.{name}", "variant"))
    return may_be & (kind != "STRING")


def _read_csv(spark: SparkSession, source: Source, paths: Sequence[str], canon: Canon) -> DataFrame:
    """Every column is text unless `raw_schema` says otherwise; quoted values may hold line breaks."""
    reader = (
        spark.read.option("header", True)
        .option("multiLine", True)
        .option("escape", '"')
        .option("enforceSchema", False)
        .option("columnNameOfCorruptRecord", _CORRUPT)
    )
    schema = _given_schema(source.raw_schema) if source.raw_schema else reader.csv(list(paths)).schema
    rows = reader.schema(StructType([*schema, StructField(_CORRUPT, StringType())])).csv(list(paths))
    columns = [F.col(f"`{field.name}`") for field in schema]
    raw_row = F.coalesce(F.col(_CORRUPT), F.to_json(F.struct(*columns)) if columns else F.lit(""))
    problem = F.when(F.col(_CORRUPT).isNotNull(), defect("malformed_csv", F.col(_CORRUPT))).when(
        raw_row.contains(_DAMAGED_CHARACTER), defect("invalid_utf8", raw_row)
    )
    return rows.select(raw_row.alias(RAW_ROW), _file(rows).alias(SOURCE_FILE), problem.alias(DEFECT), *columns)


def _read_parquet(spark: SparkSession, source: Source, paths: Sequence[str], canon: Canon) -> DataFrame:
    return _with_helpers(spark.read.option("mergeSchema", True).parquet(*paths))


def _read_delta(spark: SparkSession, source: Source, paths: Sequence[str], canon: Canon) -> DataFrame:
    tables = [_with_helpers(_delta_table(spark, path)) for path in paths]
    return reduce(lambda rows, table: rows.unionByName(table, allowMissingColumns=True), tables)


def _delta_table(spark: SparkSession, path: str) -> DataFrame:
    try:
        return spark.read.format("delta").load(path)
    except PySparkException as error:
        if not (error.getCondition() or "").startswith("DELTA_"):
            raise
        raise DataError(f"{path} is no Delta table that can be read", "mend `path` or `format` of the source") from None


def _with_helpers(rows: DataFrame) -> DataFrame:
    columns = {field.name: F.col(f"`{field.name}`") for field in rows.schema}
    texts = [columns[field.name] for field in rows.schema if isinstance(field.dataType, StringType)]
    raw_row = F.to_json(F.struct(*columns.values()))
    is_damaged = reduce(or_, [~F.coalesce(F.is_valid_utf8(text), F.lit(True)) for text in texts], F.lit(False))
    return rows.select(
        raw_row.alias(RAW_ROW),
        _file(rows).alias(SOURCE_FILE),
        F.when(is_damaged, defect("invalid_utf8", raw_row)).alias(DEFECT),
        *columns.values(),
    )


def _file(rows: DataFrame) -> Column:
    return rows.metadataColumn("_metadata")["file_path"]


_READERS: dict[str, Callable[[SparkSession, Source, Sequence[str], Canon], DataFrame]] = {
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
    "delta": _read_delta,
}
