"""What the DAG files say, read by Airflow's own parser in an interpreter of its own; no scheduler, no Spark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow", reason="needs the extra `airflow`")

ROOT = Path(__file__).resolve().parent.parent
DAGS = ROOT / "dags"
WEEK = [f"2026-01-{day:02}" for day in range(5, 12)]
READ = """
import json, sys
from datetime import datetime, timezone
from airflow.dag_processing.dagbag import BundleDagBag
folder, week = sys.argv[1], json.loads(sys.argv[2])
bag = BundleDagBag(folder, bundle_path=folder, bundle_name="dags-folder")
heavy = sorted({"pyspark", "pandas", "numpy", "torch", "pyarrow", "selflearn"} & set(sys.modules))

def task(one):
    return {
        "before": sorted(one.upstream_task_ids), "pool": one.pool, "arguments": one.application_args,
        "script": one.application, "outlets": [asset.name for asset in one.outlets], "retries": one.retries,
        "durable": one.durable, "backoff": one.retry_exponential_backoff,
        "policy": type(one.retry_policy).__name__, "limit": one.execution_timeout.total_seconds(),
    }

from airflow.serialization.serialized_objects import DagSerialization
core = {name: DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)) for name, dag in bag.dags.items()}
first, last = (datetime.fromisoformat(day).replace(tzinfo=timezone.utc, hour=hour) for day, hour in
               ((week[0], 0), (week[-1], 23)))
mined = core["selflearn_mining"].timetable.iter_partition_dagrun_infos(earliest=first, latest=last)
keys = [info.partition_key for info in mined]
mapper = core["selflearn_learning"].timetable.get_partition_mapper(name="selflearn_mined_day")

from airflow.sdk import StartOfWeekMapper, RollupMapper, WeekWindow
from airflow.serialization.decoders import decode_partition_mapper
from airflow.serialization.encoders import encode_partition_mapper
other = RollupMapper(upstream_mapper=StartOfWeekMapper(), window=WeekWindow())
other = decode_partition_mapper(encode_partition_mapper(other))
def maps(mapper):
    try:
        return sorted({mapper.to_downstream(key) for key in keys})
    except ValueError as error:
        return str(error)

from selflearn_jobs import RetryWhatMayPass
decide = lambda code: RetryWhatMayPass().evaluate(RuntimeError(f"Cannot execute: x. Error code is: {code}."), 1, 3)
print(json.dumps({
    "errors": {str(file): str(error) for file, error in bag.import_errors.items()},
    "heavy": heavy,
    "tasks": {name: {one.task_id: task(one) for one in dag.topological_sort()} for name, dag in bag.dags.items()},
    "runs_at_once": {name: dag.max_active_runs for name, dag in bag.dags.items()},
    "deadlines": {name: len(dag.deadline) for name, dag in bag.dags.items()},
    "catchup": {name: dag.catchup for name, dag in bag.dags.items()},
    "keys": keys,
    "weeks": maps(mapper),
    "days_of_week": sorted(mapper.to_upstream(week[0])),
    "weeks_of_another_mapper": maps(other),
    "decisions": {code: decide(code).action.value for code in (1, 2, 3, 4, 5, 137)},
}))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("airflow")
    environment = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "SELFLEARN_HOME": str(ROOT),
        "SELFLEARN_SETTINGS": "/etc/selflearn/settings.yaml",
    }
    run = subprocess.run(
        [sys.executable, "-c", READ, str(DAGS), json.dumps(WEEK)],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    read: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return read


def test_every_file_is_read_without_an_error(found: dict[str, Any]) -> None:
    assert found["errors"] == {}
    assert set(found["tasks"]) == {"selflearn_mining", "selflearn_learning", "selflearn_maintenance"}


def test_reading_them_imports_nothing_heavy(found: dict[str, Any]) -> None:
    assert found["heavy"] == []


def test_stages_come_one_after_the_other(found: dict[str, Any]) -> None:
    """Each stage of the pipeline stands in one DAG, after the one before."""
    from selflearn.pipeline import LEARNING, MINING

    for dag, stages in (("selflearn_mining", MINING), ("selflearn_learning", LEARNING)):
        names = [stage.name for stage in stages]
        assert list(found["tasks"][dag]) == names
        befores = [task["before"] for task in found["tasks"][dag].values()]
        assert befores == [[], *([name] for name in names[:-1])]


def test_every_task_runs_a_script_that_is_there(found: dict[str, Any]) -> None:
    for tasks in found["tasks"].values():
        for name, task in tasks.items():
            assert task["script"] == str(ROOT / "jobs" / f"{name}.py")
            assert Path(task["script"]).is_file()
            assert task["arguments"][:2] == ["--settings", "/etc/selflearn/settings.yaml"]


def test_no_day_comes_from_a_logical_date(found: dict[str, Any]) -> None:
    """Runs that assets start have none; the partition key names the day."""
    days = {name: {task["arguments"][3] for task in tasks.values()} for name, tasks in found["tasks"].items()}
    assert days["selflearn_mining"] == {"{{ dag_run.partition_key or params.day }}"}
    assert days["selflearn_learning"] == {"{{ params.as_of or macros.ds_add(dag_run.partition_key, 6) }}"}
    assert days["selflearn_maintenance"] == {"{{ dag_run.partition_key or params.day }}"}


def test_tables_have_one_writer(found: dict[str, Any]) -> None:
    """Who writes the same tables shares a pool, which has one slot where `infra/local` makes it."""
    pools = {name: {task["pool"] for task in tasks.values()} for name, tasks in found["tasks"].items()}
    assert pools["selflearn_mining"] == {"selflearn_mining"}
    assert pools["selflearn_learning"] == {"selflearn_learning"}
    upkeep = found["tasks"]["selflearn_maintenance"]
    assert {name: task["pool"] for name, task in upkeep.items()} == {
        "maintain_mining": "selflearn_mining",
        "maintain_learning": "selflearn_learning",
        "forget": "selflearn_mining",
    }
    assert upkeep["forget"]["before"] == ["maintain_learning", "maintain_mining"]
    assert set(found["runs_at_once"].values()) == {1}


def test_failures_are_tried_again_more_and_more_slowly_and_runs_have_a_deadline(found: dict[str, Any]) -> None:
    for tasks in found["tasks"].values():
        for task in tasks.values():
            assert task["retries"] >= 2
            assert task["backoff"] > 1
            assert task["limit"] > 0
            assert task["policy"] == "RetryWhatMayPass"
            assert task["durable"]
    assert set(found["deadlines"].values()) == {1}
    assert set(found["catchup"].values()) == {False}


def test_what_a_person_must_mend_is_not_tried_again(found: dict[str, Any]) -> None:
    """Exit codes 2, 3 and 4 tell settings, data and volume; 5 and kills may pass."""
    decisions = found["decisions"]
    assert {code for code, decision in decisions.items() if decision == "fail"} == {"2", "3", "4"}
    assert {decisions[code] for code in ("1", "5", "137")} == {"default"}


def test_the_mined_day_is_the_partition(found: dict[str, Any]) -> None:
    tasks = list(found["tasks"]["selflearn_mining"].values())
    assert [task["outlets"] for task in tasks] == [[]] * (len(tasks) - 1) + [["selflearn_mined_day"]]
    assert found["keys"] == WEEK


def test_seven_mined_days_make_one_week_of_learning(found: dict[str, Any]) -> None:
    """The keys that mining emits are those that learning waits for: no more, no less."""
    assert found["weeks"] == WEEK[:1]
    assert found["days_of_week"] == WEEK


def test_a_mapper_that_does_not_fit_the_keys_is_noticed(found: dict[str, Any]) -> None:
    """Airflow itself would wait for ever and say nothing."""
    assert "does not match format" in found["weeks_of_another_mapper"]
