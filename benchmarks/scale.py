"""Time of every stage on growing simulated logs, beside the floor: `--turns N [N ...] --out DIR`.

The floor reads the same rows, shuffles and sorts them once by session, and writes them: what no pipeline over these
logs can do without. It is timed before and after the pipeline, and its mean counts, for machines change their pace.
Each size runs in a process of its own, whose JVM compiles as it goes, as in a run that a scheduler starts. `warm` is
the first size once more in its process: what both take when everything is compiled.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from common import print_figures, write_scores
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import day_range, run_pipeline
from selflearn.session import build_session, effective_configuration
from selflearn.settings import USER_KEY_VARIABLE, Settings, Source
from selflearn.simulate import simulate
from selflearn.turns.mapping import TURN
from usage import watched

_START = date(2026, 1, 5)
_DAYS = 7
_SEED = 11


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, nargs="+", default=[1_000_000, 5_000_000], help="sizes of the logs")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    parser.add_argument("--master", default="local[*]", help="Spark master, for example local-cluster[2,1,2048]")
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "simulated people have no secrets")
    figures: dict[str, Any] = {"seed": _SEED, "days": _DAYS, "master": given.master}
    configuration: dict[str, str] = {}
    processes = get_context("spawn")
    for place, n_turns in enumerate(given.turns):
        with ProcessPoolExecutor(1, mp_context=processes) as fresh:
            runs = ["warm"] if place == 0 else []
            for name in (str(n_turns), *runs):
                figures[name], configuration = fresh.submit(measure, n_turns, given.out / "work", given.master).result()
                print_figures(f"{n_turns:,} turns{', warm' if name == 'warm' else ''}", figures[name])
                write_scores(given.out, figures, configuration)
    for name, value in configuration.items():
        print(f"{name} = {value}")


def measure(n_turns: int, work: Path, master: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Seconds of the floor and what every stage of the pipeline takes, on one log; and the configuration."""
    spark = build_session("selflearn benchmark scale", master=master)
    shutil.rmtree(work, ignore_errors=True)
    simulate(work / "sample", n_turns=n_turns, days=_DAYS, start=_START, seed=_SEED)
    floors = [time_floor(spark, work / "sample" / "logs", work / "floor before")]
    settings = Settings(
        lake=str(work / "lake"),
        source=Source(path=str(work / "sample" / "logs" / "{date}.jsonl")),
        launch=Source(path=str(work / "sample" / "launch.jsonl")),
    )
    days = day_range(_START, _START + timedelta(days=_DAYS - 1))
    stages: dict[str, dict[str, Any]] = {}
    started = time.perf_counter()
    with watched(spark) as usage:
        for manifest, _ in run_pipeline(Lakehouse(spark, settings.lake), settings, days):
            stages[manifest.stage] = {"seconds": manifest.seconds, "rows": manifest.row_counts, **usage.taken()}
    total = time.perf_counter() - started
    floors.append(time_floor(spark, work / "sample" / "logs", work / "floor after"))
    floor = sum(floors) / len(floors)
    shutil.rmtree(work)
    found = {
        "floor_seconds": floor,
        "floor_before_seconds": floors[0],
        "floor_after_seconds": floors[1],
        "stages": stages,
        "total_seconds": total,
        "processor_seconds": sum(stage["processor_seconds"] for stage in stages.values()),
        "times_the_floor": total / floor,
        "microseconds_per_turn": total / n_turns * 1e6,
        "peak_memory_mib": max(stage["peak_memory_mib"] for stage in stages.values()),
        "shuffled_mib": sum(stage["shuffled_mib"] for stage in stages.values()),
    }
    return found, effective_configuration(spark)


def time_floor(spark: SparkSession, logs: Path, out: Path) -> float:
    """Seconds to read the logs, shuffle and sort them by session, and write them as Delta."""
    started = time.perf_counter()
    rows = spark.read.schema(TURN.json_columns).json(str(logs))
    ordered = rows.repartition("session_id").sortWithinPartitions("session_id", "ts")
    ordered.write.format("delta").save(str(out))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
