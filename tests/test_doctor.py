"""The doctor: right about a healthy machine, and clear about each illness."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from selflearn import doctor
from selflearn.doctor import Check, render, run_checks


def find(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_a_healthy_machine_passes_every_check(spark: SparkSession, lake: Path) -> None:
    checks = run_checks(lake, spark=True)
    assert [check for check in checks if not check.ok] == []
    assert find(checks, "Spark and Delta").found.startswith("Spark 4.2.0 wrote and read a table")
    assert not lake.exists()


def test_missing_jars_fail_with_the_next_step(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFLEARN_JARS", str(tmp_path))
    check = find(run_checks(lake), "Delta jars")
    assert not check.ok
    assert "make setup" in check.next_step


def test_packages_outside_their_ranges_are_named(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = [
        "pytest<1",
        "selflearn-missing>=1",
        'numpy<1; extra == "x"',
        'other==1; extra == "x"',
        "rich>1",
    ]
    monkeypatch.setattr(doctor, "requires", lambda _: declared)
    check = find(run_checks(lake), "Packages")
    assert not check.ok
    pytest_, missing, numpy = check.found.split("; ")
    assert pytest_.endswith("must be <1")
    assert missing == "selflearn-missing is missing"
    assert numpy.startswith("numpy is ")


@pytest.mark.parametrize(("heap", "ok"), [("1m", True), ("900000g", False), ("512", True), ("plenty", False)])
def test_memory_is_compared_with_the_heap(lake: Path, monkeypatch: pytest.MonkeyPatch, heap: str, ok: bool) -> None:
    monkeypatch.setenv("SELFLEARN_DRIVER_MEMORY", heap)
    check = find(run_checks(lake), "Memory")
    assert check.ok is ok
    assert bool(check.next_step) is not ok


def test_a_lake_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check = find(run_checks(tmp_path / "file" / "lake"), "Lake folder")
    assert not check.ok
    assert "cannot be written" in check.found


def test_a_missing_extra_is_no_failure(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_EXTRAS", {"encoder": "selflearn_no_such_module"})
    check = find(run_checks(lake), "Extra encoder")
    assert check.ok
    assert check.next_step == "pip install 'selflearn[encoder]'"


def test_rendering_shows_every_word(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=120).print(render([Check("Java", False, "none [at all]", "install it"), Check("Jars", True, "5")]))
    printed = capsys.readouterr().out
    assert "failed  Java   none [at all]  install it" in printed
    assert "ok      Jars   5" in printed
