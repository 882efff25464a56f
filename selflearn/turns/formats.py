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
    RAW_ROW,
    SOURCE_FILE,
    Canon,
    SourceRows,
    defect,
    map_columns,
    shown,
)

_CORRUPT, _DAMAGED = "__corrupt", "__damaged"
_DAMAGED_CHARACTER = "\ufffd"


def read_rows(spark: SparkSession, source: Source, paths: Sequence[str], canon: Canon) -> DataFrame:
    """Canonical columns of all rows of the files, with `SOURCE_FILE`, `RAW_ROW` and `DEFECT` of each.

    Raises:
        SettingsError: `raw_schema` or an expression of `columns` is wrong.
        DataError: the files do not hold what the format says, or lack required columns.
    """
    if not paths:
        return _nothing(spark, canon)
    rows = _READERS[source.format](spark, source, paths, canon)
    if rows.names:
        return _settled(map_columns(rows, source.columns, canon))
    defects = rows.frame.select(
        rows.source_file.alias(SOURCE_FILE), rows.raw_row.alias(RAW_ROW), rows.defect.alias(DEFECT)
    )
    return _nothing(spark, canon).unionByName(defects, allowMissingColumns=True)


def _nothing(spark: SparkSession, canon: Canon) -> DataFrame:
    helpers = {SOURCE_FILE: StringType(), RAW_ROW: StringType(), DEFECT: DEFECT_TYPE}
    fields = [StructField(name, kind) for name, kind in helpers.items()]
    return spark.createDataFrame([], StructType([*canon.columns, *fields]))


def _settled(rows: DataFrame) -> DataFrame:
    """The same rows, whose values are computed once.

    Without the generator Spark would copy the parser, and every expression after it, into each filter and each
    column that later steps build on them.
    """
    return rows.select(F.inline_outer(F.array(F.struct(*rows.columns))))


def _read_jsonl(spark: SparkSession, source: Source, paths: Sequence[str], canon: Canon) -> SourceRows:
    lines = spark.read.text(list(paths))
    raw_row = F.make_valid_utf8("value")
    rows = lines.where(F.trim("value") != "").select(
        raw_row.alias(RAW_ROW), _file().alias(SOURCE_FILE), (raw_row != F.col("value")).alias(_DAMAGED)
    )
    schema = _json_schema(spark, source, paths, canon)
    frame = rows.withColumn("parsed", _parsed(F.col(RAW_ROW), schema)).select(*rows.columns, "parsed.*")
    problem = _json_defect(schema)
    if "text" in schema.fieldNames() and "text" not in source.columns:
        problem = problem.when(_is_no_json_string("text"), defect("wrong_type", shown("text", F.col("text"))))
    return SourceRows(frame, schema.fieldNames(), F.col(RAW_ROW), F.col(SOURCE_FILE), problem)


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
    line, failed = F.col(RAW_ROW), F.col(_CORRUPT).isNotNull()
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
    return ~F.rtrim(line).endswith("}") | F.contains(F.substr(line, F.lit(2)), first_key)


def _is_one_value(line: Column) -> Column:
    listed = F.concat(F.lit("["), line, F.lit("]"))
    n_values = F.coalesce(F.json_array_length(listed), F.size(F.from_json(listed, "array<struct<x: string>>")))
    return F.coalesce(n_values, F.lit(0)) == 1


def _is_no_json_string(name: str) -> Column:
    """Whether the value, which the parser made text of, is a number, truth value, object or list in the line."""
    value = F.col(name)
    may_be = F.substring(value, 1, 1).isin(*"[{-0123456789") | value.isin("true", "false")
    kind = F.schema_of_variant(F.try_variant_get(F.try_parse_json(F.col(RAW_ROW)), f"$.{name}", "variant"))
    return may_be & (kind != "STRING")


def _read_csv(spark: SparkSession, source: Source, paths: Sequence[str], canon: Canon) -> SourceRows:
    """Every column is text unless `raw_schema` says otherwise; quoted values may hold line breaks."""
    reader = (
        spark.read.option("header", True)
        .option("multiLine", True)
        .option("escape", '"')
        .option("enforceSchema", False)
        .option("columnNameOfCorruptRecord", _CORRUPT)
    )
    schema = _given_schema(source.raw_schema) if source.raw_schema else reader.csv(list(paths)).schema
    if not schema.fields:
        return SourceRows(_nothing(spark, canon), (), F.col(RAW_ROW), F.col(SOURCE_FILE), F.col(DEFECT))
    frame = reader.schema(StructType([*schema, StructField(_CORRUPT, StringType())])).csv(list(paths))
    corrupt = F.col(_CORRUPT)
    raw_row = F.coalesce(corrupt, F.to_json(F.struct(*_columns(schema).values())))
    problem = F.when(corrupt.isNotNull(), defect("malformed_csv", corrupt)).when(
        raw_row.contains(_DAMAGED_CHARACTER), defect("invalid_utf8", raw_row)
    )
    return SourceRows(frame, schema.fieldNames(), raw_row, _file(), problem)


def _read_parquet(spark: SparkSession, source: Source, paths: Sequence[str], canon: Canon) -> SourceRows:
    return _columnar(spark.read.option("mergeSchema", True).parquet(*paths))


def _read_delta(spark: SparkSession, source: Source, paths: Sequence[str], canon: Canon) -> SourceRows:
    if len(paths) > 1:
        raise SettingsError(
            f"the source path {source.path} leads to {len(paths)} Delta tables",
            "name one table without `{date}`: each run takes its days from it",
        )
    try:
        return _columnar(spark.read.format("delta").load(paths[0]))
    except PySparkException as error:
        if not (error.getCondition() or "").startswith("DELTA_"):
            raise
        raise DataError(
            f"{paths[0]} is no Delta table that can be read", "mend `path` or `format` of the source"
        ) from None


def _columnar(frame: DataFrame) -> SourceRows:
    columns = _columns(frame.schema)
    texts = [columns[field.name] for field in frame.schema if isinstance(field.dataType, StringType)]
    raw_row = F.to_json(F.struct(*columns.values()))
    is_damaged = reduce(or_, [~F.coalesce(F.is_valid_utf8(text), F.lit(True)) for text in texts], F.lit(False))
    return SourceRows(frame, frame.columns, raw_row, _file(), F.when(is_damaged, defect("invalid_utf8", raw_row)))


def _file() -> Column:
    return F.col("_metadata.file_path")


def _columns(schema: StructType) -> dict[str, Column]:
    return {field.name: F.col(f"`{field.name}`") for field in schema}


_READERS: dict[str, Callable[[SparkSession, Source, Sequence[str], Canon], SourceRows]] = {
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
    "delta": _read_delta,
}
