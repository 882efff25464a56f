"""The DAG file imports with Airflow's own parser, and says what the README says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("airflow", reason="needs the extra `airflow`")

DAGS = Path(__file__).resolve().parent.parent / "dags"
STRUCTURE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
dag = bag.dags["selflearn_mining"]
print(json.dumps({
    "errors": {str(file): str(error) for file, error in bag.import_errors.items()},
    "order": [task.task_id for task in dag.topological_sort()],
    "chain": all(len(task.upstream_task_ids) <= 1 for task in dag.tasks),
    "arguments": dag.get_task("detect").application_args,
    "max_active_runs": dag.max_active_runs,
}))
"""


def test_the_dag_runs_every_stage_in_order_for_its_day(tmp_path: Path) -> None:
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    run = subprocess.run(
        [sys.executable, "-c", STRUCTURE, str(DAGS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.strip().splitlines()[-1])
    assert found["errors"] == {}
    stages = ["ingest", "detect", "embed", "evidence", "variants", "graph", "rewrite", "label", "release"]
    assert found["order"] == stages
    assert found["chain"]
    assert found["max_active_runs"] == 1
    assert found["arguments"][-2:] == ["--from", "{{ data_interval_start | ds }}"]
