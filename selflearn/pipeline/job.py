"""What every spark-submit entry point in `jobs/` does: parse, run, report, exit with a telling code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path

from selflearn.errors import SelflearnError
from selflearn.lakehouse.manifest import Manifest
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline.days import day_range
from selflearn.pipeline.forgetting import forget, read_requests
from selflearn.pipeline.maintenance import MAINTENANCE
from selflearn.pipeline.run import STAGES, backfill, run_pipeline
from selflearn.session import build_session
from selflearn.settings import Settings, load_settings

_Run = Callable[[Lakehouse, Settings, Sequence[date]], Iterator[tuple[Manifest, bool]]]


def main(stage: str, arguments: Sequence[str] | None = None) -> None:
    """Run a stage for `--from` to `--to` with `--settings`; the manifest's id and counts go to standard output."""
    named = {**STAGES, **MAINTENANCE}[stage]
    _main(stage, lambda lake, settings, days: run_pipeline(lake, settings, days, [named]), arguments)


def backfill_main(arguments: Sequence[str] | None = None) -> None:
    """Run all that is not done yet for `--from` to `--to`, one line per stage and week to standard output."""
    _main("backfill", backfill, arguments)


def forget_main(arguments: Sequence[str] | None = None) -> None:
    """Erase the users in `maintenance.erasure_requests`, one line per stage to standard output; no day is read."""

    def run(lake: Lakehouse, settings: Settings, days: Sequence[date]) -> Iterator[tuple[Manifest, bool]]:
        requests = settings.maintenance.erasure_requests
        users = read_requests(lake, requests) if requests else []
        for manifest in forget(lake, settings, users):
            yield manifest, False

    _main("forget", run, arguments)


def _main(name: str, run: _Run, arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(description=f"Run {name} over one day or a range of days.")
    parser.add_argument("--settings", type=Path, required=True, help="settings file (YAML)")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, required=True, help="first day, YYYY-MM-DD")
    parser.add_argument("--to", dest="last", type=date.fromisoformat, help="last day; the first where left out")
    given = parser.parse_args(arguments)
    try:
        days = day_range(given.first, given.last or given.first)
        settings = load_settings(given.settings)
        lake = Lakehouse(build_session(f"selflearn {name}"), settings.lake)
        for manifest, was_done in run(lake, settings, days):
            print(f"selflearn {manifest.stage}: {_report(manifest, was_done)}", flush=True)
    except SelflearnError as error:
        print(f"selflearn {name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _report(manifest: Manifest, was_done: bool) -> str:
    counts = ", ".join(f"{table} {count}" for table, count in manifest.row_counts.items())
    how = "was done already" if was_done else f"done in {manifest.seconds:.1f} s"
    days = " to ".join(sorted({min(manifest.days).isoformat(), max(manifest.days).isoformat()}))
    told = f"; {manifest.message}" if manifest.message else ""
    return f"run {manifest.run_id} over {days} {how}; rows: {counts}{told}"
