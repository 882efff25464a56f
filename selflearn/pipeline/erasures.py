"""The list of people who asked to be forgotten, as table `erasures`: what was asked and done, row by row.

The list outlives them: it is what keeps them out when a day of their time is ingested again.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date

from pyspark.sql import functions as F

from selflearn.lakehouse import tables
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline.stage import StageContext

REQUESTED, ERASED = "requested", "erased"


def erased_people(lake: Lakehouse) -> frozenset[str]:
    """Everybody on the list, by `erasure_id`."""
    if not lake.exists(tables.ERASURES):
        return frozenset()
    rows = lake.read(tables.ERASURES).select("erasure_id").distinct().collect()
    return frozenset(row["erasure_id"] for row in rows)


def finished(lake: Lakehouse) -> frozenset[str]:
    """Those of whom nothing is left."""
    if not lake.exists(tables.ERASURES):
        return frozenset()
    rows = lake.read(tables.ERASURES).where(F.col("state") == ERASED).select("erasure_id").distinct().collect()
    return frozenset(row["erasure_id"] for row in rows)


def days_to_finish(lake: Lakehouse, people: Collection[str]) -> set[date]:
    """Days that were to be made again without some people by runs that did not end."""
    if not lake.exists(tables.ERASURES):
        return set()
    rows = lake.read(tables.ERASURES).where(F.col("state") == REQUESTED).select("erasure_id", "days").collect()
    return {day for row in rows if row["erasure_id"] in people for day in row["days"]}


def note(context: StageContext, people: Collection[str], state: str, days: Collection[date]) -> None:
    """Add a row for each of the people."""
    at = context.now.replace(tzinfo=UTC)
    rows = [(name, state, at, sorted(days)) for name in sorted(people)]
    context.lake.append(
        tables.ERASURES,
        context.spark.createDataFrame(rows, tables.ERASURES.schema).coalesce(1),
        context.label,
    )
