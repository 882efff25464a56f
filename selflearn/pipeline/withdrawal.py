"""What people do to releases: take one back, and say what is never to be released."""

from __future__ import annotations

import platform
import uuid
from datetime import UTC, datetime

from pyspark.sql import functions as F

from selflearn.errors import DataError
from selflearn.lakehouse import tables
from selflearn.lakehouse.lease import leased
from selflearn.lakehouse.store import CommitLabel, Lakehouse
from selflearn.release import Veto
from selflearn.settings import Settings


def roll_back(lake: Lakehouse, settings: Settings, reason: str) -> tuple[str, str | None]:
    """Withdraw the release in use, in one commit; the one published before is in use again.

    Returns the id of the withdrawn release, and of the one in use now, None where there is none. What is withdrawn is
    not published again, though a later run may choose the same examples.

    Raises:
        DataError: no release is published.
        InfrastructureError: a run is writing releases.
    """
    with leased(lake, "learning", f"a roll back on {platform.node()}"):
        published = lake.read(tables.RELEASES).where("state = 'published'")
        newest = published.orderBy(F.desc("as_of"), F.desc("created_at")).select("release_id").take(2)
        if not newest:
            raise DataError(f"no release of {lake.root} is published", "there is nothing to roll back")
        withdrawn, *before = (str(row["release_id"]) for row in newest)
        row = lake.read(tables.RELEASES, release_id=[withdrawn])
        changed = row.withColumns({"state": F.lit("withdrawn"), "reason": F.lit(reason)})
        lake.replace(tables.RELEASES, changed.coalesce(1), _label(settings), release_id=[withdrawn])
    return withdrawn, before[0] if before else None


def set_veto(lake: Lakehouse, settings: Settings, veto: Veto, now: datetime) -> None:
    """Store a veto; one of the same is replaced. `now` is UTC without a zone."""
    row = (veto.veto_id, now.replace(tzinfo=UTC), veto.locale, veto.normalised_text, veto.intent, veto.reason)
    rows = lake.spark.createDataFrame([row], tables.VETOES.schema).coalesce(1)
    lake.replace(tables.VETOES, rows, _label(settings), veto_id=[veto.veto_id])


def remove_veto(lake: Lakehouse, settings: Settings, veto_id: str) -> None:
    """Take a veto back.

    Raises:
        DataError: there is none of that id.
    """
    found = lake.read(tables.VETOES, veto_id=[veto_id])
    if found.isEmpty():
        raise DataError(f"there is no veto {veto_id!r} in {lake.root}", "`selflearn release vetoes` lists them")
    lake.replace(tables.VETOES, found.limit(0), _label(settings), veto_id=[veto_id])


def _label(settings: Settings) -> CommitLabel:
    return CommitLabel(uuid.uuid4().hex, settings.fingerprint())
