"""The DAGs on a real cluster: a standalone master with two workers, real spark-submit, real Delta tables, and Airflow.

One cluster serves all tests of the file, in their order. `make test-cluster` runs them; they take minutes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

pytest.importorskip("airflow", reason="needs the extra `airflow`")

import psutil

from cluster import Cluster
from in_files import files_holding
from on_cluster import (
    KEY,
    Watch,
    airflow,
    announce,
    content_of,
    dag_test,
    free_port,
    is_held,
    is_writing,
    kill_driver,
    kill_worker,
    pause,
    processes_of,
    query,
    span,
    start_job,
    submit,
    task_states,
    wait_for,
)
from selflearn.pipeline import LEARNING, MINING, day_range
from selflearn.simulate import simulate

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

MONDAY = date(2026, 1, 5)
DAYS = day_range(MONDAY, MONDAY + timedelta(days=2))
THURSDAY = MONDAY + timedelta(days=3)
SUNDAY = MONDAY + timedelta(days=6)
STORE_SECRET = "c0ffee-secret-of-the-store-9264"
SETTINGS = """\
lake: {lake}
source:
  path: sample/logs/{{date}}.jsonl
launch:
  path: sample/launch.jsonl
"""
# Every job is a new JVM that reads few rows: what is compiled thoroughly, or at all, would not pay for itself.
QUICK_JVM = (
    "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC -Dspark.sql.codegen.wholeStage=false"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cluster")
    simulate(home / "sample", n_turns=1_000, days=7, start=MONDAY, seed=3, locales=["en-GB"], workers=1)
    for lake in ("lake", "made_up"):
        (home / f"{lake}.yaml").write_text(SETTINGS.format(lake=lake))
    return home


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[Cluster]:
    ports = [free_port() for _ in range(3)]
    cluster = Cluster(home / "local", home / "lake.yaml", *ports)
    with pytest.MonkeyPatch.context() as patch:
        # DAGs take the key from a connection of Airflow; what is submitted by hand, from its environment.
        patch.setenv("SELFLEARN_KEY_CONNECTION", "selflearn_key")
        patch.setenv("AIRFLOW_CONN_SELFLEARN_KEY", json.dumps({"conn_type": "generic", "password": KEY}))
        patch.setenv("AWS_SECRET_ACCESS_KEY", STORE_SECRET)
        patch.setenv("JDK_JAVA_OPTIONS", QUICK_JVM)
        # A task whose scheduler died is noticed by its silence, and tried again; tests need not wait for minutes.
        patch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "90")
        patch.setenv("SELFLEARN_RETRY_SECONDS", "5")
        try:
            cluster.start(with_airflow=False)
            cluster.prepare_airflow()
            yield cluster
        finally:
            cluster.stop()
            # Where a test was cut short, its job may still be there.
            for process in processes_of(home):
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@pytest.fixture(scope="module")
def mined(cluster: Cluster, home: Path) -> list[dict[str, Any]]:
    """Three days and what is learnt from them, with a driver killed in mid-write and a worker in mid-job."""
    kills = [
        Watch(lambda: is_writing(home / "lake" / "rephrase_pairs", DAYS[1]), lambda: kill_driver("detect", home)),
        Watch(lambda: is_writing(home / "lake" / "turns", DAYS[2]), lambda: kill_worker(cluster)),
    ]
    runs = [("selflearn_mining", {"day": day.isoformat()}) for day in DAYS]
    found = dag_test(cluster, [*runs, ("selflearn_learning", {"as_of": DAYS[-1].isoformat()})])
    assert all(kill.has_fired() for kill in kills)
    return found


def test_three_days_are_mined_and_learnt_from(mined: list[dict[str, Any]], home: Path) -> None:
    """dag.test() with real spark-submit; the day whose driver was killed in mid-write took a second try."""
    assert [(run["dag"], run["state"]) for run in mined] == [
        *[("selflearn_mining", "success")] * 3,
        ("selflearn_learning", "success"),
    ]
    assert [run["tries"]["detect"][1] for run in mined[:3]] == [1, 2, 1]
    # Published or, with so little to say for it, rejected: either way it is on record.
    assert len(content_of(home / "lake", "releases")) == 1


def test_no_row_was_lost_or_doubled_and_of_two_backfills_one_gives_the_same(
    mined: list[dict[str, Any]], cluster: Cluster, home: Path
) -> None:
    """`spark-submit jobs/backfill.py` without a cluster, undisturbed but for another that is refused, leaves the tables
    of the three daily runs on one."""
    first = start_job(cluster, home / "made_up.yaml", "backfill", *span(DAYS), master="local[2]")
    wait_for(lambda: is_held(home / "made_up", "mining") or first.poll() is not None, 300)
    second = submit(cluster, home / "made_up.yaml", "backfill", *span(DAYS[:1]))
    told, _ = first.communicate(timeout=1800)
    assert first.returncode == 0, told[-3000:]
    assert second.returncode == 5, second.stdout[-3000:]
    assert "a run over 2026-01-05 to 2026-01-07 on" in second.stdout
    assert "Next: wait for it to end" in second.stdout
    names = {table.name for stage in (*MINING, *LEARNING) for table in stage.writes} - {"releases"}
    made, made_up = ({name for name in names if (home / lake / name).exists()} for lake in ("lake", "made_up"))
    assert made == made_up
    assert names - made <= {"training_sets"}
    for name in sorted(made):
        assert content_of(home / "lake", name) == content_of(home / "made_up", name), name


def test_a_backfill_killed_goes_on_where_it_was(mined: list[dict[str, Any]], cluster: Cluster, home: Path) -> None:
    done = submit(cluster, home / "made_up.yaml", "backfill", *span(DAYS))
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count("was done already") == len(MINING) + len(LEARNING)


def test_wrong_input_fails_with_the_next_step_and_is_not_tried_again(cluster: Cluster, home: Path) -> None:
    (home / "gone.yaml").write_text(SETTINGS.format(lake="gone").replace("sample/logs", "no/such/place"))
    [run] = dag_test(
        replace(cluster, settings=home / "gone.yaml"), [("selflearn_mining", {"day": MONDAY.isoformat()})], log := []
    )
    assert run["state"] == "failed"
    assert run["tries"]["ingest"] == ["failed", 1]
    assert "no file matches the source path" in log[0]
    assert "Next: mend `path` of the source" in log[0]


def test_a_wrong_master_is_named(cluster: Cluster, home: Path) -> None:
    nowhere = replace(cluster, spark_port=free_port())
    done = submit(nowhere, home / "lake.yaml", "ingest", "--from", MONDAY.isoformat())
    assert done.returncode == 5
    assert f"Spark did not start on {nowhere.master}" in done.stdout
    assert "Next: check the master" in done.stdout


def test_the_scheduler_mines_a_day_though_it_is_restarted(
    mined: list[dict[str, Any]], cluster: Cluster, home: Path
) -> None:
    """Airflow's own backfill of one day; the day becomes the partition of the asset's event."""
    before = content_of(home / "lake", "turns")
    cluster.start()
    day, after = THURSDAY.isoformat(), (THURSDAY + timedelta(days=1)).isoformat()
    airflow(cluster, "backfill", "create", "--dag-id", "selflearn_mining", "--from-date", day, "--to-date", after)
    # Learning first: days that are mined while it is paused do not count.
    for dag in ("selflearn_learning", "selflearn_mining"):
        pause(cluster, dag, False)
    wait_for(lambda: task_states(cluster, "selflearn_mining", day).get("detect") == "running", 900)
    cluster.supervisor.stop("airflow-scheduler")
    cluster.start_service("airflow-scheduler")
    wait_for(lambda: task_states(cluster, "selflearn_mining", day).get("evidence") == "success", 1800)
    pause(cluster, "selflearn_mining")
    turns = DeltaTable(str(home / "lake" / "turns")).to_pandas()
    logged = sum(1 for _ in (home / "sample" / "logs" / f"{day}.jsonl").open())
    assert len(turns) > len(before)
    assert turns["turn_id"].is_unique
    assert abs((turns["turn_date"] == THURSDAY).sum() - logged) <= 0.1 * logged
    assert (day,) in query(cluster, "SELECT partition_key FROM asset_event")


def test_learning_starts_once_the_week_is_whole(mined: list[dict[str, Any]], cluster: Cluster, home: Path) -> None:
    """The other six days are announced one by one; the run's partition is the Monday, its day the Sunday."""
    cluster.start()
    others = [day for day in day_range(MONDAY, SUNDAY) if day != THURSDAY]
    for day in others[:-1]:
        announce(cluster, day)
    time.sleep(20)
    assert task_states(cluster, "selflearn_learning", MONDAY.isoformat()) == {}
    announce(cluster, others[-1])
    wait_for(lambda: task_states(cluster, "selflearn_learning", MONDAY.isoformat()).get("variants") == "success", 1800)
    cluster.supervisor.stop("airflow-scheduler")
    as_of = DeltaTable(str(home / "lake" / "variant_models")).to_pyarrow_table()["as_of"].to_pylist()
    assert set(as_of) == {DAYS[-1], SUNDAY}


def test_secrets_stand_nowhere(mined: list[dict[str, Any]], home: Path) -> None:
    """In no log of Spark or Airflow, no database, no table and no manifest."""
    kinds = {file.suffix for file in home.rglob("*") if file.is_file()}
    assert {".log", ".db", ".parquet"} <= kinds
    assert files_holding(home, KEY, STORE_SECRET) == []


def test_what_was_started_is_stopped_whole(cluster: Cluster, home: Path) -> None:
    names = cluster.supervisor.names()
    assert {"spark-master", "spark-worker-1", "spark-worker-2"} <= set(names)
    processes = [cluster.supervisor.running(name) for name in names]
    cluster.stop()
    assert cluster.supervisor.names() == []
    assert not any(process.is_running() for process in processes if process)
    assert processes_of(home) == []
