"""The ground truth of a simulated log, for evaluation only: no mining stage may read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from selflearn.errors import DataError
from selflearn.simulate.world import Frame


@dataclass(frozen=True, slots=True)
class TruthRow:
    """What one turn meant.

    ``text`` is what was really said, ``goal`` what the words mean, ``is_failure`` whether the assistant's
    reading or act was wrong, ``rephrase_of`` the failed turn that is said again.
    """

    turn_id: str
    session_id: str
    locale: str
    goal: Frame
    text: str
    is_failure: bool
    noticed: bool
    rephrase_of: str | None
    behaviour: str


def read_truth(folder: Path) -> Iterator[TruthRow]:
    """Every row of a simulation's ``truth`` folder, in the order of its days.

    Raises:
        DataError: the folder holds no truth.
    """
    days = sorted(folder.glob("*.jsonl"))
    if not days:
        raise DataError(f"There is no ground truth in {folder}.", "Name the truth folder of a simulation.")
    for day in days:
        with day.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                slots = tuple((slot["name"], slot["value"]) for slot in row.pop("slots"))
                yield TruthRow(goal=Frame(row.pop("intent"), slots), **row)
