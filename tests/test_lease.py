"""One run at a time writes a part of a lake; a dead one blocks nobody for long."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from selflearn.errors import InfrastructureError
from selflearn.lakehouse import lease
from selflearn.lakehouse.lease import leased
from selflearn.lakehouse.store import Lakehouse


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.05)


def left_by_a_killed_run(lake: Path, at: float) -> Path:
    folder = lake / "_leases" / "mining"
    folder.mkdir(parents=True)
    entry = {"owner": "a run over January", "since": at - 60, "at": at, "is_free": False}
    (folder / "000000000041").write_text(json.dumps(entry))
    return folder


def test_the_second_is_told_who_holds_it(spark: SparkSession, lake: Path) -> None:
    here = Lakehouse(spark, str(lake))
    told = r"a run over May has been writing the mining tables of .* for 0 minutes\n  Next: wait for it to end"
    with leased(here, "mining", "a run over May"):
        with pytest.raises(InfrastructureError, match=told), leased(here, "mining", "another"):
            pass
        with leased(here, "learning", "another"):
            pass
    with leased(here, "mining", "another"):
        pass


def test_it_is_free_at_once_after_a_failure(spark: SparkSession, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Lakehouse(spark, str(lake))
    with pytest.raises(ZeroDivisionError), leased(here, "mining", "one"):
        _ = 1 / 0
    monkeypatch.setattr(lease.time, "sleep", lambda seconds: pytest.fail("it waited"))
    with leased(here, "mining", "two"):
        pass
    assert len([file for file in (lake / "_leases" / "mining").iterdir() if file.name.isdigit()]) == 1


def test_a_killed_run_is_waited_for_until_it_counts_as_dead(
    spark: SparkSession, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_SECONDS", 3.0)
    killed_at = time.time()
    left_by_a_killed_run(lake, killed_at)
    with leased(Lakehouse(spark, str(lake)), "mining", "the next"):
        assert time.time() - killed_at > 3


def test_an_entry_that_was_never_written_to_its_end_blocks_nobody_for_long(
    spark: SparkSession, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_SECONDS", 1.0)
    folder = left_by_a_killed_run(lake, time.time() - 100)
    (folder / "000000000042").write_text('{"owner": "a ru')
    with leased(Lakehouse(spark, str(lake)), "mining", "the next"):
        assert not (folder / "000000000042").exists()


@pytest.mark.parametrize("taken", [range(2, 40), range(39, 40)], ids=["next entry", "later entry, the older ones gone"])
def test_who_was_silent_for_too_long_learns_that_another_took_over(
    spark: SparkSession, lake: Path, taken: range
) -> None:
    """The one who takes over writes the entry that the stalled run would have written next, and more."""
    entry = {"owner": "the next", "since": time.time(), "at": time.time(), "is_free": False}

    def stall() -> None:
        with leased(Lakehouse(spark, str(lake)), "mining", "stalled"):
            for number in taken:
                (lake / "_leases" / "mining" / f"{number:012d}").write_text(json.dumps(entry))
            time.sleep(1)

    with pytest.raises(InfrastructureError, match="another one took its place"):
        stall()


def test_of_many_at_once_one_holds_it(spark: SparkSession, lake: Path) -> None:
    here = Lakehouse(spark, str(lake))
    inside, most, got, refused = 0, 0, 0, 0
    count = threading.Lock()

    def try_it(name: str) -> None:
        nonlocal inside, most, got, refused
        try:
            with leased(here, "mining", name):
                with count:
                    inside, got = inside + 1, got + 1
                    most = max(most, inside)
                time.sleep(0.5)
                with count:
                    inside -= 1
        except InfrastructureError:
            with count:
                refused += 1

    threads = [threading.Thread(target=try_it, args=(f"run {number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert got >= 1
    assert got + refused == len(threads)


def test_a_lake_that_cannot_be_written_is_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file, not a folder")
    here = Lakehouse(spark, str(tmp_path / "lake"))
    said = r"nothing can be written to the lake .*lake"
    with pytest.raises(InfrastructureError, match=said), leased(here, "mining", "one"):
        pass
