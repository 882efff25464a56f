"""Upkeep, every Sunday at 03:00 UTC: days beyond their time go, small files become large ones, unused ones go.

Each half waits for the runs that write its tables. After both, who asked to be forgotten is.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, CronPartitionTimetable, Param

from selflearn_jobs import DAY_FORMAT, DEFAULT_ARGS, LEARNING_POOL, MINING_POOL, finished_within, job_chain

DAY = "{{ dag_run.partition_key or params.day }}"

with DAG(
    dag_id="selflearn_maintenance",
    description="Retention, OPTIMIZE, VACUUM and erasure requests",
    schedule=CronPartitionTimetable("0 3 * * 0", timezone="UTC", key_format=DAY_FORMAT),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={"day": Param(None, type=["null", "string"], format="date", description="day of a run without a partition")},
    default_args=DEFAULT_ARGS,
    deadline=finished_within(hours=24),
    tags=["selflearn"],
) as dag:
    upkeep = job_chain(["maintain_mining"], DAY, MINING_POOL) + job_chain(["maintain_learning"], DAY, LEARNING_POOL)
    # It writes the tables of both: should learning be at work, the lease of the lake has it tried again later.
    upkeep >> job_chain(["forget"], DAY, MINING_POOL)[0]
