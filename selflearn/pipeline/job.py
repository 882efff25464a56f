"""What every spark-submit entry point in `jobs/` does: parse, run one stage, report, exit with a telling code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from selflearn.errors import SelflearnError
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline.days import day_range
from selflearn.pipeline.run import STAGES
from selflearn.pipeline.stage import run_stage
from selflearn.session import build_session
from selflearn.settings import load_settings


def main(stage: str, arguments: Sequence[str] | None = None) -> None:
    """Run a stage for `--from` to `--to` with `--settings`; the manifest's id and counts go to standard output."""
    parser = argparse.ArgumentParser(description=f"Run the stage {stage} over one day or a range of days.")
    parser.add_argument("--settings", type=Path, required=True, help="settings file (YAML)")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, required=True, help="first day, YYYY-MM-DD")
    parser.add_argument("--to", dest="last", type=date.fromisoformat, help="last day; the first where left out")
    given = parser.parse_args(arguments)
    try:
        days = day_range(given.first, given.last or given.first)
        settings = load_settings(given.settings)
        lake = Lakehouse(build_session(f"selflearn {stage}"), settings.lake)
        manifest = run_stage(STAGES[stage], lake, settings, days)
    except SelflearnError as error:
        print(f"selflearn {stage}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    counts = ", ".join(f"{table} {count}" for table, count in manifest.row_counts.items())
    print(f"selflearn {stage}: run {manifest.run_id} done in {manifest.seconds:.1f} s; rows: {counts}")
