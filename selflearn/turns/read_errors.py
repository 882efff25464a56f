"""What Spark says when a file cannot be read, turned into one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from selflearn.errors import DataError

_FILE = re.compile(r"\[FAILED_READ_FILE[^\]]*\][^\n]*? reading file (\S+?)\.(?=\s)")
_CAUSE = re.compile(r"^Caused by: (?:[\w.$]+\.)?(\w+(?:Exception|Error)\b[^\n]*)", re.MULTILINE)
_HEADER = re.compile(r"CSV header does not conform to the schema.*?CSV file: (\S+)", re.DOTALL)
_BAD_VALUE = re.compile(
    r"\[(?:CAST_INVALID_INPUT|CAST_OVERFLOW|DIVIDE_BY_ZERO|ARITHMETIC_OVERFLOW|INVALID_ARRAY_INDEX|CANNOT_PARSE_TIMESTAMP"
    r"|MALFORMED_RECORD_IN_PARSING|INVALID_FRACTION_OF_SECOND|NUMERIC_VALUE_OUT_OF_RANGE)[^\]]*\][^\n]*"
)
_TRUNCATED = "Unexpected end of input stream"


@contextmanager
def clear_read_errors() -> Iterator[None]:
    """Put this around whatever makes Spark read a source: its failure to do so becomes a `DataError`.

    Spark reads when rows are written or counted, so it is the writer of ingested turns who needs this.

    Raises:
        DataError: a file is cut off, damaged or not of its format, or a value breaks an expression of `columns`; the
            file or value is named.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        explained = _explain(str(error))
        if explained is None:
            raise
        raise explained from None


def _explain(message: str) -> DataError | None:
    if file := _FILE.search(message):
        if _TRUNCATED in message:
            why, next_step = (
                "is cut off before its end",
                "copy the file again, or move it away, and run the day again",
            )
        else:
            causes = _CAUSE.findall(message)
            why = f"is damaged or not of its format ({causes[-1] if causes else 'no cause given'})"
            next_step = "write the file again, or move it away, or mend `format` of the source, and run the day again"
        return DataError(f"source file {file[1]} {why}; nothing was written", next_step)
    if header := _HEADER.search(message):
        return DataError(
            f"source file {header[1]} has another header than the first file read; nothing was written",
            "give every CSV file of the source the same columns in the same order",
        )
    if value := _BAD_VALUE.search(message):
        return DataError(
            f"a value breaks an expression of `columns`: {value[0].split(' SQLSTATE')[0]}; nothing was written",
            "use a form of the function that gives null instead (try_cast, try_to_timestamp, try_divide, get, ...): "
            "the row then goes to quarantine where the column is required",
        )
    return None
