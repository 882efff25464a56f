"""Rows that a run writes down for itself, because it needs them more than once; gone when the run ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame

if TYPE_CHECKING:
    from selflearn.lakehouse.store import Lakehouse

Land = Callable[[DataFrame], DataFrame]
"""Writes rows down and returns them as read back, so that what is used twice is not computed twice."""

_FOLDER = "_landing"
_LEFT_OVER_AFTER_SECONDS = 2 * 86_400


def not_landed(rows: DataFrame) -> DataFrame:
    """The rows as they are: what stages do where nobody gives them a place to land rows."""
    return rows


@contextmanager
def landing(lake: Lakehouse, run_id: str) -> Iterator[Land]:
    """A function that writes rows into the lake, outside all tables, and returns them as read back.

    What a killed run left behind goes when a later run lands rows, two days after.
    """
    root = f"{lake.root}/{_FOLDER}"
    _remove_left_over(lake, root)
    numbers = count()

    def land(rows: DataFrame) -> DataFrame:
        path = f"{root}/{run_id}/{next(numbers)}"
        # Read once or twice and gone: a smaller file would not pay for itself.
        rows.write.option("parquet.enable.dictionary", "false").parquet(path)
        return lake.spark.read.schema(rows.schema).parquet(path)

    try:
        yield land
    finally:
        system, path = file_system(lake, f"{root}/{run_id}")
        system.delete(path, True)


def clear_landing(lake: Lakehouse) -> None:
    """Remove all that runs landed; nobody may be running."""
    system, path = file_system(lake, f"{lake.root}/{_FOLDER}")
    system.delete(path, True)


def _remove_left_over(lake: Lakehouse, root: str) -> None:
    system, path = file_system(lake, root)
    if not system.exists(path):
        return
    oldest = (time.time() - _LEFT_OVER_AFTER_SECONDS) * 1000
    for folder in system.listStatus(path):
        if folder.getModificationTime() < oldest:
            system.delete(folder.getPath(), True)


def file_system(lake: Lakehouse, path: str) -> tuple[Any, Any]:
    """Hadoop's file system that the path lies on, and the path as it takes it."""
    jvm: Any = lake.spark._jvm
    place = jvm.org.apache.hadoop.fs.Path(path)
    return place.getFileSystem(lake.spark._jsc.hadoopConfiguration()), place
