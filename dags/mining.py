"""The daily run: ingest, detect and evidence for the day before, then graph, rewrite, label and release as of that day.

It starts at 07:00 UTC, when the sessions that crossed midnight have ended. Every task is one `spark-submit` of a
script in `jobs/`. The Airflow connection `spark_default` names the cluster; two environment variables of the Airflow
processes name the rest: `SELFLEARN_HOME`, the folder that holds `jobs/`, and `SELFLEARN_SETTINGS`, the settings
file. `SELFLEARN_JARS` names the folder of the Delta jars. Backfill with Airflow's own command; a day may be run
again at any time.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

HOME = Path(os.environ.get("SELFLEARN_HOME", str(Path(__file__).resolve().parent.parent)))
SETTINGS = os.environ.get("SELFLEARN_SETTINGS", str(HOME / "settings.yaml"))
JARS = Path(os.environ.get("SELFLEARN_JARS", "/opt/selflearn/jars"))
STAGES = ("ingest", "detect", "embed", "evidence", "variants", "graph", "rewrite", "label", "release")

with DAG(
    dag_id="selflearn_mining",
    description="Raw logs to a training set, day by day",
    schedule=CronDataIntervalTimetable("0 7 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # One writer per table: a day waits for the day before it.
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5), "retry_exponential_backoff": True},
    tags=["selflearn"],
) as dag:
    before: SparkSubmitOperator | None = None
    for stage in STAGES:
        task = SparkSubmitOperator(
            task_id=stage,
            conn_id="spark_default",
            application=str(HOME / "jobs" / f"{stage}.py"),
            application_args=["--settings", SETTINGS, "--from", "{{ data_interval_start | ds }}"],
            jars=",".join(str(jar) for jar in sorted(JARS.glob("*.jar"))),
            name=f"selflearn {stage} {{{{ data_interval_start | ds }}}}",
        )
        if before is not None:
            before >> task
        before = task
