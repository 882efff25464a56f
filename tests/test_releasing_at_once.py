"""Two release runs on one lake: one publishes, the other is told or waits, and nothing is half-published."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from release_place import Place, make_place, nothing_published
from selflearn.errors import InfrastructureError
from selflearn.lakehouse import lease
from selflearn.release import find_release, read_releases


@pytest.fixture
def place(spark: SparkSession, tmp_path: Path) -> Place:
    return make_place(spark, tmp_path)


@pytest.mark.parametrize("changes", [{}, {"confirmed_share": 0.0}], ids=["same id", "other id"])
def test_of_two_runs_at_once_one_publishes_and_the_other_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.2)
    place.say(place.label(["play me one"], "play") + place.label(["halt"], "stop", False))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(place.run, trainer=place.waiting())
        told = r"a run over 2025-01-05 to 2025-01-05 on .* has been writing the learning tables"
        with place.held(1), nothing_published(place), pytest.raises(InfrastructureError, match=told):
            place.run(**changes)
        assert "published: no suite lost" in str(first.result().message)
    published = find_release(place.lake.root)["release_id"]
    again = str(place.run(**changes).message)
    is_same = f"release {published} is published already, and was left as it is" == again
    assert is_same == (not changes)
    assert place.states() == ["published"] * (1 if is_same else 2)


@pytest.mark.parametrize("changes", [{}, {"confirmed_share": 0.0}], ids=["same id", "other id"])
def test_two_runs_that_take_no_notice_of_each_other_leave_whole_releases(place: Place, changes: dict[str, Any]) -> None:
    """As after a stall so long that the lease went to another: each table's own check of a commit is left."""
    place.say(place.label(["play me one"], "play") + place.label(["halt"], "stop", False))
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(place.release, trainer=place.waiting(), **given) for given in ({}, changes)]
        with place.held(2):
            pass
        errors = [run.exception() for run in runs]
    failed = [error for error in errors if error]
    assert len(failed) <= 1
    assert [error for error in failed if not isinstance(error, InfrastructureError)] == []
    # Where the tables were not there yet, both may have been making them.
    assert all(re.search(r"another run (wrote|is making)", str(error)) for error in failed), failed
    published = read_releases(place.lake.root)
    assert set(published["state"]) == {"published"}
    assert len(published) == (1 if not changes else 2 - len(failed))
    # Each holds what its id says, or this would be refused; and nothing lies about that is of no release.
    for given in ({}, changes):
        assert "published" in str(place.release(**given).message)
    kept = DeltaTable(f"{place.lake.root}/training_sets").to_pandas()
    assert set(kept["release_id"]) == set(read_releases(place.lake.root)["release_id"])
