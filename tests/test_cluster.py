"""The DAGs on a real cluster: a standalone master with two workers, real spark-submit, real Delta tables, and Airflow.

One cluster serves all tests of the file, in their order. `make test-cluster` runs them; they take minutes.
"""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

pytest.importorskip("airflow", reason="needs the extra `airflow`")

import psutil

from cluster import ROOT, Cluster
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import LEARNING, MINING, day_range
from selflearn.settings import USER_KEY_VARIABLE
from selflearn.simulate import simulate
from test_pipeline import content

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

MONDAY = date(2026, 1, 5)
DAYS = day_range(MONDAY, MONDAY + timedelta(days=2))
THURSDAY = MONDAY + timedelta(days=3)
SUNDAY = MONDAY + timedelta(days=6)
KEY = "c0ffee-key-that-nobody-may-see-7351"
SETTINGS = """\
lake: {lake}
source:
  path: sample/logs/{{date}}.jsonl
launch:
  path: sample/launch.jsonl
"""
# Every job is a new JVM that reads few rows: what is compiled thoroughly, or at all, would not pay for itself.
QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dspark.sql.codegen.wholeStage=false"
DAG_TEST = """
import json, sys
from datetime import timedelta
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag(sys.argv[1], bundle_path=sys.argv[1], bundle_name="dags-folder")
for dag_id, conf in json.loads(sys.argv[2]):
    dag = bag.dags[dag_id]
    for task in dag.tasks:
        task.retry_delay = timedelta(seconds=1)
    run = dag.test(run_conf=conf)
    tries = {one.task_id: [one.state, one.try_number] for one in run.get_task_instances()}
    print("RUN", json.dumps({"dag": dag_id, "state": run.state, "tries": tries}), flush=True)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cluster")
    simulate(home / "sample", n_turns=500, days=7, start=MONDAY, seed=3, workers=1)
    for lake in ("lake", "made_up"):
        (home / f"{lake}.yaml").write_text(SETTINGS.format(lake=lake))
    return home


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[Cluster]:
    ports = [free_port() for _ in range(3)]
    cluster = Cluster(home / "local", home / "lake.yaml", *ports)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(USER_KEY_VARIABLE, KEY)
        patch.setenv("JDK_JAVA_OPTIONS", QUICK_JVM)
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
    assert len(content_of(home / "lake", "training_sets")) > 100


def test_no_row_was_lost_or_doubled_and_a_backfill_gives_the_same(
    mined: list[dict[str, Any]], cluster: Cluster, home: Path
) -> None:
    """`spark-submit jobs/backfill.py`, undisturbed, beside the three daily runs that were not."""
    done = submit(cluster, home / "made_up.yaml", "backfill", *span(DAYS))
    assert done.returncode == 0, done.stderr[-3000:]
    names = sorted({table.name for stage in (*MINING, *LEARNING) for table in stage.writes} - {"releases"})
    for name in names:
        assert content_of(home / "lake", name) == content_of(home / "made_up", name), name


def test_a_backfill_killed_goes_on_where_it_was(mined: list[dict[str, Any]], cluster: Cluster, home: Path) -> None:
    done = submit(cluster, home / "made_up.yaml", "backfill", *span(DAYS))
    assert done.returncode == 0, done.stderr[-3000:]
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
    assert f"Spark did not start on {nowhere.master}" in done.stderr
    assert "Next: check the master" in done.stderr


def test_the_scheduler_mines_a_day_though_it_is_restarted(
    mined: list[dict[str, Any]], cluster: Cluster, home: Path
) -> None:
    """Airflow's own backfill of one day; the day becomes the partition of the asset's event."""
    before = content_of(home / "lake", "turns")
    cluster.start()
    day, after = THURSDAY.isoformat(), (THURSDAY + timedelta(days=1)).isoformat()
    airflow(cluster, "backfill", "create", "--dag-id", "selflearn_mining", "--from-date", day, "--to-date", after)
    airflow(cluster, "dags", "unpause", "--yes", "selflearn_mining")
    wait_for(lambda: task_states(cluster, "selflearn_mining", day).get("detect") == "running", 900)
    cluster.supervisor.stop("airflow-scheduler")
    cluster.start_service("airflow-scheduler")
    wait_for(lambda: task_states(cluster, "selflearn_mining", day).get("evidence") == "success", 1800)
    turns = DeltaTable(str(home / "lake" / "turns")).to_pandas()
    logged = sum(1 for _ in (home / "sample" / "logs" / f"{day}.jsonl").open())
    assert len(turns) > len(before)
    assert turns["turn_id"].is_unique
    assert abs((turns["turn_date"] == THURSDAY).sum() - logged) <= 0.1 * logged
    assert (day,) in query(cluster, "SELECT partition_key FROM asset_event")


def test_learning_starts_once_the_week_is_whole(mined: list[dict[str, Any]], cluster: Cluster, home: Path) -> None:
    """The other six days are announced one by one; the run's partition is the Monday, its day the Sunday."""
    cluster.start()
    airflow(cluster, "dags", "unpause", "--yes", "selflearn_learning")
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


def test_the_key_of_user_ids_stands_nowhere(mined: list[dict[str, Any]], home: Path) -> None:
    """In no log of Spark or Airflow, no database, no table and no manifest; the settings of the jobs name none."""
    files = [file for file in home.rglob("*") if file.is_file()]
    assert any(file.suffix == ".log" for file in files)
    assert any(file.suffix == ".parquet" for file in files)
    assert [str(file) for file in files if KEY.encode() in file.read_bytes()] == []


def test_what_was_started_is_stopped_whole(cluster: Cluster, home: Path) -> None:
    names = cluster.supervisor.names()
    assert {"spark-master", "spark-worker-1", "spark-worker-2"} <= set(names)
    processes = [cluster.supervisor.running(name) for name in names]
    cluster.stop()
    assert cluster.supervisor.names() == []
    assert not any(process.is_running() for process in processes if process)
    assert processes_of(home) == []


class Watch:
    """Does something, once, as soon as a condition holds."""

    def __init__(self, condition: Callable[[], bool], act: Callable[[], None]) -> None:
        self._fired = threading.Event()

        def watch() -> None:
            wait_for(condition, 3000, every=0.01)
            act()
            self._fired.set()

        threading.Thread(target=watch, daemon=True).start()

    def has_fired(self) -> bool:
        return self._fired.is_set()


def is_writing(table: Path, day: date) -> bool:
    """Whether files of the day lie in the table and no commit knows them."""
    written = list((table / f"turn_date={day}").glob("*.parquet"))
    commits = [commit.read_text() for commit in (table / "_delta_log").glob("*.json")]
    return bool(written) and not any(f"turn_date={day}/" in commit for commit in commits)


def processes_of(home: Path) -> list[psutil.Process]:
    """Processes that name the folder in their command, as all of the cluster and its jobs do."""
    return [process for process in psutil.process_iter(["cmdline"]) if str(home) in str(process.info["cmdline"])]


def kill_driver(job: str, home: Path) -> None:
    """SIGKILL to the JVM and the Python of a job of this cluster."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(ROOT / "jobs" / f"{job}.py") in words and any(str(home) in word for word in words):
            process.send_signal(signal.SIGKILL)


def kill_worker(cluster: Cluster) -> None:
    """SIGKILL to a worker and its executors; another is started in its place, as a cluster's manager would."""
    process = cluster.supervisor.running("spark-worker-1")
    assert process
    for one in [*process.children(recursive=True), process]:
        one.send_signal(signal.SIGKILL)
    process.wait(20)
    cluster.start_service("spark-worker-1")


def dag_test(cluster: Cluster, runs: list[tuple[str, dict[str, str]]], log: list[str] | None = None) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", DAG_TEST, str(ROOT / "dags"), json.dumps(runs)],
        env=cluster.environment(),
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    (cluster.home / f"dag-test-{time.time_ns()}.log").write_text(done.stdout + done.stderr)
    if log is not None:
        log.append(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("RUN ")]


def submit(cluster: Cluster, settings: Path, job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = cluster.environment()
    jars = ",".join(map(str, Path(environment["SELFLEARN_JARS"]).glob("*.jar")))
    command = ["spark-submit", "--master", cluster.master, "--jars", jars, str(ROOT / "jobs" / f"{job}.py")]
    return subprocess.run(
        [*command, "--settings", str(settings), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def airflow(cluster: Cluster, *arguments: str) -> None:
    command = [sys.executable, "-m", "airflow", *arguments]
    done = subprocess.run(command, env=cluster.environment(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def announce(cluster: Cluster, day: date) -> None:
    """The event that a mined day is, through Airflow's API."""
    url = f"http://127.0.0.1:{cluster.airflow_port}"
    password = json.loads((cluster.home / "airflow" / "simple_auth_manager_passwords.json.generated").read_text())
    who = {"username": "admin", "password": password["admin"]}
    token = post(f"{url}/auth/token", who)["access_token"]
    [(asset,)] = query(cluster, "SELECT id FROM asset WHERE name = 'selflearn_mined_day'")
    event = {"asset_id": asset, "partition_key": day.isoformat()}
    post(f"{url}/api/v2/assets/events", event, {"Authorization": f"Bearer {token}"})


def post(url: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def query(cluster: Cluster, sql: str, *values: str) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(f"file:{cluster.home / 'airflow' / 'airflow.db'}?mode=ro", uri=True, timeout=60)
    try:
        return database.execute(sql, values).fetchall()
    finally:
        database.close()


def task_states(cluster: Cluster, dag: str, partition: str) -> dict[str, str]:
    found = query(
        cluster,
        "SELECT task_id, task_instance.state FROM task_instance JOIN dag_run USING (dag_id, run_id) "
        "WHERE dag_id = ? AND partition_key = ?",
        dag,
        partition,
    )
    return dict(found)  # type: ignore[arg-type]


def wait_for(condition: Callable[[], bool], seconds: float, every: float = 1) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} seconds"
        time.sleep(every)


def content_of(lake: Path, table: str) -> list[str]:
    return content(Lakehouse(None, str(lake)), table)  # type: ignore[arg-type]


def span(days: list[date]) -> tuple[str, ...]:
    return ("--from", min(days).isoformat(), "--to", max(days).isoformat())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
