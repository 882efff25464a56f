"""What the DAGs share: a job in `jobs/` as an Airflow task, the pools, the asset, when to try again and when to call.

The Airflow connection `spark_default` names the cluster; environment variables of the Airflow processes name the rest:
`SELFLEARN_HOME`, the folder that holds `jobs/`; `SELFLEARN_SETTINGS`, the settings file; `SELFLEARN_JARS`, the folder
of the Delta jars. `SELFLEARN_KEY_CONNECTION` is the id of the connection whose password is the key of user ids, where
it lies in one. `SELFLEARN_DRIVERS=kubernetes` runs drivers in pods, of an image that holds all of these folders.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import (
    Asset,
    Context,
    DeadlineAlert,
    DeadlineReference,
    RetryDecision,
    RetryPolicy,
    SyncCallback,
    chain,
)

HOME = Path(os.environ.get("SELFLEARN_HOME", str(Path(__file__).resolve().parent.parent)))
SETTINGS = os.environ.get("SELFLEARN_SETTINGS", str(HOME / "settings.yaml"))
JARS = Path(os.environ.get("SELFLEARN_JARS", "/opt/selflearn/jars"))
DRIVERS_IN_PODS = os.environ.get("SELFLEARN_DRIVERS") == "kubernetes"
KEY_CONNECTION = os.environ.get("SELFLEARN_KEY_CONNECTION")

# One writer per table: each pool has one slot.
MINING_POOL, LEARNING_POOL = "selflearn_mining", "selflearn_learning"

DAY_FORMAT = "%Y-%m-%d"
MINED_DAY = Asset(name="selflearn_mined_day", uri="selflearn://mined_day")
"""A day whose evidence is there; its partition key is the day."""

_EXIT_CODE = re.compile(r"Error code is: (\d+)")
_NEEDS_A_PERSON = {"2": "settings", "3": "data", "4": "volume"}

logger = logging.getLogger(__name__)


class RetryWhatMayPass(RetryPolicy):
    """Tries again after what time may mend; wrong settings, data or volumes fail at once."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        found = _EXIT_CODE.search(str(exception))
        kind = found and _NEEDS_A_PERSON.get(found[1])
        return RetryDecision.fail(f"the {kind} must be looked at first") if kind else RetryDecision.default()


DEFAULT_ARGS = {
    "retries": 4,
    "retry_delay": timedelta(seconds=int(os.environ.get("SELFLEARN_RETRY_SECONDS", "120"))),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(hours=1),
    "retry_policy": RetryWhatMayPass(),
    "execution_timeout": timedelta(hours=6),
}


def job_chain(stages: Iterable[str], day: str, pool: str, outlet: Asset | None = None) -> list[SparkSubmitOperator]:
    """One task per stage, each after the one before; the last one emits the asset.

    Args:
        stages: names of scripts in `jobs/`.
        day: template of the day, YYYY-MM-DD.
        pool: of one slot, shared by all who write the same tables.
        outlet: emitted with the partition key of the run.
    """
    names = list(stages)
    tasks = [_job(name, day, pool, [outlet] if outlet and name == names[-1] else []) for name in names]
    chain(*tasks)
    return tasks


def _job(stage: str, day: str, pool: str, outlets: list[Asset]) -> SparkSubmitOperator:
    key = {"SELFLEARN_USER_KEY": f"{{{{ conn.{KEY_CONNECTION}.password }}}}"} if KEY_CONNECTION else None
    place = "local://" if DRIVERS_IN_PODS else ""
    return SparkSubmitOperator(
        task_id=stage,
        conn_id="spark_default",
        application=f"{place}{HOME / 'jobs' / stage}.py",
        application_args=["--settings", SETTINGS, "--from", day],
        jars=",".join(f"{place}{jar}" for jar in sorted(JARS.glob("*.jar"))),
        name=f"selflearn {stage} {day}",
        env_vars=key,
        pool=pool,
        outlets=outlets,
        # A task whose worker died finds its driver again, where that does not run beside it.
        durable=True,
        track_driver_via_k8s_api=DRIVERS_IN_PODS,
    )


def finished_within(hours: float) -> DeadlineAlert:
    """Says so in the log of the executor where a run is not done that long after it was queued."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(hours=hours),
        callback=SyncCallback(report_late, kwargs={"hours": hours}),
    )


def report_late(hours: float, context: Context | None = None) -> None:
    """What a missed deadline calls; put a pager's notifier here."""
    run = (context or {}).get("dag_run")
    logger.error("not done within %s hours: %s", hours, run)
