"""Mining: yesterday's logs to evidence, every day at 07:00 UTC, when the sessions that crossed midnight have ended.

A run is a partition; its key is the day, YYYY-MM-DD. A day may be run again at any time, by a run with its partition
key or with the parameter `day`. A week, where `--to-date` is the day after the last:
`airflow backfill create --dag-id selflearn_mining --from-date 2026-01-05 --to-date 2026-01-12 --max-active-runs 1`.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, CronPartitionTimetable, Param

from selflearn_jobs import DAY_FORMAT, DEFAULT_ARGS, MINED_DAY, MINING_POOL, finished_within, job_chain

STAGES = ("ingest", "detect", "embed", "evidence")
DAY = "{{ dag_run.partition_key or params.day }}"

with DAG(
    dag_id="selflearn_mining",
    description="Raw logs to evidence, day by day",
    schedule=CronPartitionTimetable("0 7 * * *", timezone="UTC", run_offset=-1, key_format=DAY_FORMAT),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={"day": Param(None, type=["null", "string"], format="date", description="day of a run without a partition")},
    default_args=DEFAULT_ARGS,
    deadline=finished_within(hours=12),
    tags=["selflearn"],
) as dag:
    job_chain(STAGES, DAY, MINING_POOL, outlet=MINED_DAY)
