"""What one more day costs on histories of different lengths: `--days N [N ...] --turns N --out DIR`.

A log of so many days, each with as many turns, is mined but for its last day; then that day is, and learning after it,
in a process of its own. Mining reads the day and its neighbours' edges, whatever lies before; learning reads the
window's evidence, which grows with the distinct wordings that the window holds: `learning_rows` are how many rows of
evidence that is. Processor time tells more than seconds where a machine does other work, too.
"""

from __future__ import annotations

import argparse
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from common import print_figures, write_scores
from selflearn.graph import window_days
from selflearn.lakehouse import tables
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import day_range, run_pipeline
from selflearn.pipeline.run import LEARNING, MINING, backfill
from selflearn.session import build_session, effective_configuration
from selflearn.settings import USER_KEY_VARIABLE, Settings, Source
from selflearn.simulate import simulate
from usage import watched

_START = date(2026, 1, 5)
_SEED = 12


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, nargs="+", default=[9, 90], help="lengths of the history")
    parser.add_argument("--turns", type=int, default=5_000, help="turns of each day")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "simulated people have no secrets")
    figures: dict[str, Any] = {"seed": _SEED, "turns_per_day": given.turns}
    for n_days in given.days:
        work = given.out / "work"
        shutil.rmtree(work, ignore_errors=True)
        simulate(work / "sample", n_turns=given.turns * n_days, days=n_days, start=_START, seed=_SEED)
        days = day_range(_START, _START + timedelta(days=n_days - 1))
        in_a_process_of_its_own(mine_history, work, days[:-1])
        figures[str(n_days)], configuration = in_a_process_of_its_own(measure_day, work, days[-1:])
        print_figures(f"One day after {n_days - 1}", figures[str(n_days)])
        write_scores(given.out, figures, configuration)
        shutil.rmtree(work)


def in_a_process_of_its_own(what: Any, *given: Any) -> Any:
    """What a function returns, called where no JVM has compiled anything yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(what, *given).result()


def mine_history(work: Path, days: list[date]) -> None:
    """Mine all but the last day, as a backfill does."""
    settings = _settings(work)
    lake = Lakehouse(build_session("selflearn benchmark increment"), settings.lake)
    for manifest, _ in backfill(lake, settings, days):
        print(f"{manifest.stage}: {manifest.seconds:.1f} s", flush=True)


def measure_day(work: Path, days: list[date]) -> tuple[dict[str, Any], dict[str, str]]:
    """Time, memory and shuffled bytes of every stage of the last day, and the configuration."""
    settings = _settings(work)
    spark = build_session("selflearn benchmark increment")
    stages: dict[str, dict[str, Any]] = {}
    lake = Lakehouse(spark, settings.lake)
    with watched(spark) as usage:
        for manifest, _ in run_pipeline(lake, settings, days):
            stages[manifest.stage] = {"seconds": manifest.seconds, "rows": manifest.row_counts, **usage.taken()}
    figures = {
        "stages": stages,
        **{
            f"{part}_{name}": sum(stages[stage.name][name] for stage in of_part)
            for part, of_part in (("mining", MINING), ("learning", LEARNING))
            for name in ("seconds", "processor_seconds")
        },
        "learning_rows": lake.read(tables.EVIDENCE, turn_date=window_days(max(days), settings.graph)).count(),
    }
    return figures, effective_configuration(spark)


def _settings(work: Path) -> Settings:
    return Settings(
        lake=str(work / "lake"),
        source=Source(path=str(work / "sample" / "logs" / "{date}.jsonl")),
        launch=Source(path=str(work / "sample" / "launch.jsonl")),
    )


if __name__ == "__main__":
    main()
