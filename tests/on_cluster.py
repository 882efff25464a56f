"""What tests do with a cluster: run DAGs and jobs on it, kill parts of it, and ask Airflow what became of them."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from cluster import ROOT, Cluster
from selflearn.lakehouse.store import Lakehouse
from selflearn.settings import USER_KEY_VARIABLE
from test_pipeline import content

KEY = "c0ffee-key-that-nobody-may-see-7351"
DAG_TEST = """
import json, sys
from datetime import timedelta
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag(sys.argv[1], bundle_path=sys.argv[1], bundle_name="dags-folder")
for dag_id, conf in json.loads(sys.argv[2]):
    dag = bag.dags[dag_id]
    # `dag.test` looks for the deadline's row in the database, which the DAG processor alone would have made.
    dag.deadline = None
    for task in dag.tasks:
        task.retry_delay = timedelta(seconds=1)
    run = dag.test(run_conf=conf)
    tries = {one.task_id: [one.state, one.try_number] for one in run.get_task_instances()}
    print("RUN", json.dumps({"dag": dag_id, "state": run.state, "tries": tries}), flush=True)
"""


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
            _kill(process)


def kill_worker(cluster: Cluster) -> None:
    """SIGKILL to a worker and its executors; another is started in its place, as a cluster's manager would."""
    process = cluster.supervisor.running("spark-worker-1")
    assert process
    for one in [*process.children(recursive=True), process]:
        _kill(one)
    process.wait(20)
    cluster.start_service("spark-worker-1")


def _kill(process: psutil.Process) -> None:
    """SIGKILL, unless the process ended since it was listed, as Python's workers do with their executor."""
    with suppress(psutil.NoSuchProcess):
        process.kill()


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


def start_job(
    cluster: Cluster, settings: Path, job: str, *arguments: str, master: str | None = None
) -> subprocess.Popen[str]:
    """spark-submit, as a person would, to the cluster or another master; what the job says is in its output."""
    environment = cluster.environment() | {USER_KEY_VARIABLE: KEY}
    jars = ",".join(map(str, Path(environment["SELFLEARN_JARS"]).glob("*.jar")))
    command = ["spark-submit", "--master", master or cluster.master, "--jars", jars, str(ROOT / "jobs" / f"{job}.py")]
    return subprocess.Popen(
        [*command, "--settings", str(settings), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def submit(cluster: Cluster, settings: Path, job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    running = start_job(cluster, settings, job, *arguments)
    told, _ = running.communicate(timeout=1800)
    return subprocess.CompletedProcess(running.args, running.returncode, told)


def is_held(lake: Path, part: str) -> bool:
    """Whether a run holds the lease on a part of the lake."""
    return any(file.name.isdigit() for file in (lake / "_leases" / part).glob("*"))


def airflow(cluster: Cluster, *arguments: str) -> None:
    command = [sys.executable, "-m", "airflow", *arguments]
    done = subprocess.run(command, env=cluster.environment(), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def pause(cluster: Cluster, dag: str, is_paused: bool = True) -> None:
    """Have the scheduler leave the DAG alone, or run it."""
    call(cluster, "PATCH", f"/api/v2/dags/{dag}", {"is_paused": is_paused})


def announce(cluster: Cluster, day: date) -> None:
    """The event that a mined day is."""
    [(asset,)] = query(cluster, "SELECT id FROM asset WHERE name = 'selflearn_mined_day'")
    call(cluster, "POST", "/api/v2/assets/events", {"asset_id": asset, "partition_key": day.isoformat()})


def call(cluster: Cluster, method: str, path: str, body: dict[str, Any]) -> Any:
    """Airflow's API, as its administrator."""
    password = json.loads((cluster.home / "airflow" / "simple_auth_manager_passwords.json.generated").read_text())
    who = {"username": "admin", "password": password["admin"]}
    token = _send(cluster, "POST", "/auth/token", who)["access_token"]
    return _send(cluster, method, path, body, {"Authorization": f"Bearer {token}"})


def _send(cluster: Cluster, method: str, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{cluster.airflow_port}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **(headers or {})},
        method=method,
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
