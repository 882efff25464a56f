"""Learning: a week of evidence to a training set, once all seven days of the week are mined.

A release that its gate rejects is no failed run: `selflearn release list` tells of it, and the one before stays in use.

A run is a partition; its key is the week's Monday, and what it learns is as of the week's Sunday. A run as of another
day: start it with the parameter `as_of`.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, Param, PartitionedAssetTimetable, RollupMapper, StartOfWeekMapper, WeekWindow

from selflearn_jobs import DAY_FORMAT, DEFAULT_ARGS, LEARNING_POOL, MINED_DAY, finished_within, job_chain

STAGES = ("variants", "graph", "rewrite", "label", "release")
AS_OF = "{{ params.as_of or macros.ds_add(dag_run.partition_key, 6) }}"
WEEK_OF_DAYS = RollupMapper(
    upstream_mapper=StartOfWeekMapper(timezone="UTC", input_format=DAY_FORMAT, output_format=DAY_FORMAT),
    window=WeekWindow(),
)

with DAG(
    dag_id="selflearn_learning",
    description="Evidence to a training set, week by week",
    schedule=PartitionedAssetTimetable(assets=MINED_DAY, default_partition_mapper=WEEK_OF_DAYS),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={"as_of": Param(None, type=["null", "string"], format="date", description="day, where not the week's last")},
    default_args=DEFAULT_ARGS,
    deadline=finished_within(hours=12),
    tags=["selflearn"],
) as dag:
    job_chain(STAGES, AS_OF, LEARNING_POOL)
