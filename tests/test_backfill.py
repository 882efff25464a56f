"""Days made up for: the tables that daily runs leave, killed anywhere; days far from the usual; upkeep."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from in_files import files_holding
from selflearn.errors import InfrastructureError, SettingsError, VolumeError
from selflearn.lakehouse.lease import leased
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import LEARNING, MINING, STAGES, Stage, day_range, run, run_pipeline, run_stage
from selflearn.pipeline.maintenance import MAINTENANCE
from selflearn.pipeline.stage import StageContext
from selflearn.settings import USER_KEY_VARIABLE, Maintenance, Settings, Source, Turns
from selflearn.simulate import simulate
from test_pipeline import content

FIRST = date(2026, 1, 5)
DAYS = day_range(FIRST, FIRST + timedelta(days=2))
KEY = "a key that nobody may see"
MINED = sorted({table.name for stage in MINING for table in stage.writes})


@pytest.fixture(scope="module", autouse=True)
def user_key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(USER_KEY_VARIABLE, KEY)
        yield


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "days"
    simulate(folder, n_turns=600, days=len(DAYS), start=FIRST, seed=5, locales=["en-GB"], workers=1)
    return folder


def settings_of(lake: Lakehouse, logs: Path, **sections: Any) -> Settings:
    return Settings(lake=lake.root, source=Source(path=str(logs / "{date}.jsonl")), **sections)


def test_a_backfill_killed_between_weeks_goes_on_and_gives_what_daily_runs_give(
    spark: SparkSession, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_DAYS_AT_ONCE", 2)
    made_up, daily = (Lakehouse(spark, str(tmp_path / name)) for name in ("made_up", "daily"))
    launch = Source(path=str(sample / "launch.jsonl"))
    settings = settings_of(made_up, sample / "logs", launch=launch)
    killed = run.backfill(made_up, settings, DAYS)
    for _ in range(len(MINING) + 1):
        next(killed)
    killed.close()
    resumed = [(manifest.stage, was_done) for manifest, was_done in run.backfill(made_up, settings, DAYS)]
    names = [stage.name for stage in MINING]
    assert resumed[: len(names) + 1] == [(name, True) for name in (*names, names[0])]
    assert resumed[len(names) + 1 :] == [(stage.name, False) for stage in (*MINING[1:], *LEARNING)]

    for day in DAYS:
        for _ in run_pipeline(daily, settings_of(daily, sample / "logs", launch=launch), [day], MINING):
            pass
    for name in MINED:
        assert content(made_up, name) == content(daily, name), name

    run_stage(STAGES["ingest"], made_up, settings, DAYS[2:])
    again = run.backfill(made_up, settings, DAYS)
    assert [next(again)[1] for _ in 2 * names] == [True] * len(names) + [True] + [False] * (len(names) - 1)
    again.close()


def test_of_two_backfills_at_once_the_second_is_refused(spark: SparkSession, sample: Path, tmp_path: Path) -> None:
    lake = Lakehouse(spark, str(tmp_path / "lake"))
    settings = settings_of(lake, sample / "logs")
    first = run.backfill(lake, settings, DAYS[:1])
    next(first)
    before = content(lake, "turns")
    with pytest.raises(InfrastructureError, match=r"a run over 2026-01-05 to 2026-01-05 on .* has been writing"):
        next(run.backfill(lake, settings, DAYS[:1]))
    assert content(lake, "turns") == before
    first.close()
    with leased(lake, "mining", "whoever comes next"):
        pass


@pytest.fixture
def steady(spark: SparkSession, tmp_path: Path) -> tuple[Lakehouse, Path]:
    """Four days of twenty turns, three of them ingested."""
    lake, logs = Lakehouse(spark, str(tmp_path / "lake")), tmp_path / "logs"
    logs.mkdir()
    for offset in range(4):
        write(logs, FIRST + timedelta(days=offset), 20)
    run_stage(STAGES["ingest"], lake, settings_of(lake, logs), DAYS)
    return lake, logs


@pytest.mark.parametrize(("n_turns", "said"), [(200, "has 200 rows"), (0, "has 0 rows")])
def test_a_day_far_from_the_usual_stops_before_anything_is_written(
    steady: tuple[Lakehouse, Path], n_turns: int, said: str
) -> None:
    lake, logs = steady
    fourth = FIRST + timedelta(days=3)
    write(logs, fourth, n_turns)
    before = content(lake, "turns"), content(lake, "quarantine")
    expected = rf"2026-01-08 {said}; the median of the days before is 20, and 4 to 100 are let through"
    with pytest.raises(VolumeError, match=expected):
        run_stage(STAGES["ingest"], lake, settings_of(lake, logs), [fourth])
    assert (content(lake, "turns"), content(lake, "quarantine")) == before
    any_volume = settings_of(lake, logs, turns=Turns(max_volume_factor=None))
    assert run_stage(STAGES["ingest"], lake, any_volume, [fourth]).row_counts["turns"] == n_turns


def test_upkeep_removes_old_days_and_leaves_the_rest(steady: tuple[Lakehouse, Path]) -> None:
    lake, logs = steady
    before = content(lake, "turns")
    keep = Maintenance(keep_days={"turns": 1})
    for stage in MAINTENANCE.values():
        run_stage(stage, lake, settings_of(lake, logs, maintenance=keep), DAYS[2:])
    kept = DeltaTable(f"{lake.root}/turns")
    assert sorted(set(kept.to_pandas()["turn_date"])) == DAYS[1:]
    assert set(content(lake, "turns")) < set(before)
    again = run_pipeline(lake, settings_of(lake, logs, maintenance=keep), DAYS, [STAGES["ingest"]], resume=True)
    assert [was_done for _, was_done in again] == [True], "what its age removed is not made again"
    wrong = settings_of(lake, logs, maintenance=Maintenance(keep_days={"releases": 1}))
    with pytest.raises(SettingsError, match=r"keep_days names releases, which is no table of days"):
        run_stage(MAINTENANCE["maintain_mining"], lake, wrong, DAYS[2:])


def test_upkeep_keeps_every_row_and_does_not_make_a_day_look_changed(
    spark: SparkSession, sample: Path, tmp_path: Path
) -> None:
    lake = Lakehouse(spark, str(tmp_path / "lake"))
    settings = settings_of(lake, sample / "logs")
    for _ in run_pipeline(lake, settings, DAYS[:1], MINING):
        pass
    before = {name: content(lake, name) for name in MINED}
    run_stage(MAINTENANCE["maintain_mining"], lake, settings, DAYS[:1])
    assert {name: content(lake, name) for name in MINED} == before
    assert all(was_done for _, was_done in run_pipeline(lake, settings, DAYS[:1], MINING, resume=True))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named(spark: SparkSession, tmp_path: Path) -> None:
    """Spark's own words, out of a task that wrote to a device that is always full."""

    def fill(rows: Iterator[Any]) -> Iterator[Any]:
        with Path("/dev/full").open("w") as device:
            device.write("x")
        yield from rows

    def run_full(context: StageContext, days: Sequence[date]) -> Sequence[date]:
        context.spark.range(1).mapInPandas(fill, "id long").collect()
        return days

    lake = Lakehouse(spark, str(tmp_path / "lake"))
    settings = settings_of(lake, tmp_path)
    with pytest.raises(InfrastructureError, match=r"stage full found no space left on a disk\n  Next: free some"):
        run_stage(Stage("full", run_full, (), ()), lake, settings, DAYS)
    assert list(DeltaTable(f"{lake.root}/runs").to_pandas()["state"]) == ["failed"]


def test_secrets_stand_in_no_log_and_no_file(
    steady: tuple[Lakehouse, Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, logs = steady
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret := "a secret of the store")
    with caplog.at_level(logging.DEBUG, logger="selflearn"):
        for _ in run_pipeline(lake, settings_of(lake, logs), DAYS[1:], MINING):
            pass
    assert len([file for file in Path(lake.root).rglob("*") if file.is_file()]) > 20
    assert files_holding(Path(lake.root), KEY, secret) == []
    assert KEY not in caplog.text
    assert secret not in caplog.text


def write(logs: Path, day: date, n_turns: int) -> None:
    noon = datetime.combine(day, datetime.min.time()) + timedelta(hours=12)
    rows = [
        {
            "turn_id": f"{day}-{number}",
            "session_id": f"s{number // 4}",
            "user_id": f"u{number // 4}",
            "ts": (noon + timedelta(seconds=number)).isoformat() + "Z",
            "locale": "en-GB",
            "text": "turn it up",
        }
        for number in range(n_turns)
    ]
    (logs / f"{day}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
