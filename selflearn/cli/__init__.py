"""The command line: `selflearn run`, `explain`, `evaluate`, `fit`, `encoder`, `release`, `forget`, `demo` and more."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selflearn.cli.common import OutFolder, SettingsFile, console, parse_day
from selflearn.cli.evaluate import evaluate_app
from selflearn.cli.explain import explain_app
from selflearn.cli.forget import forget_command
from selflearn.cli.release import release_app
from selflearn.cli.train import encoder_app, fit_app
from selflearn.errors import SelflearnError, SettingsError

if TYPE_CHECKING:
    from selflearn.pipeline import Stage
    from selflearn.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
app.add_typer(explain_app, name="explain")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(fit_app, name="fit")
app.add_typer(encoder_app, name="encoder")
app.command(name="forget")(forget_command)
app.add_typer(release_app, name="release")
errors = Console(stderr=True)

_state = {"debug": False}


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show whole traces of errors")] = False,
) -> None:
    """Mine assistants' logs for weakly labelled NLU training sets."""
    _state["debug"] = debug
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(message)s")
    for noisy in ("py4j", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@app.command()
def run(
    settings: SettingsFile,
    first: Annotated[str, typer.Option("--from", help="first day, YYYY-MM-DD")],
    last: Annotated[str, typer.Option("--to", help="last day, YYYY-MM-DD; the same as --from where left out")] = "",
    stage: Annotated[list[str] | None, typer.Option(help="run this stage alone; may be given several times")] = None,
    resume: Annotated[bool, typer.Option(help="skip stages that are done and unchanged")] = False,
) -> None:
    """Run the pipeline: by day ingest, detect, embed, evidence; as of the last one all others."""
    from selflearn.pipeline import STAGES, day_range
    from selflearn.settings import load_settings

    unknown = [name for name in stage or () if name not in STAGES]
    if unknown:
        raise SettingsError(f"unknown stage {', '.join(unknown)}", f"choose from {', '.join(STAGES)}")
    days = day_range(parse_day(first), parse_day(last or first))
    _run(load_settings(settings), days, [STAGES[name] for name in stage or STAGES], resume)


@app.command()
def demo(
    out: OutFolder = Path("selflearn-demo"),
    turns: Annotated[int, typer.Option(help="turns to simulate")] = 30_000,
) -> None:
    """Simulate a week of logs and mine them from start to end."""
    from selflearn.demo import FIRST_DAY, N_DAYS, prepare_demo
    from selflearn.pipeline import STAGES, day_range
    from selflearn.report import mined_table, sample_labels_table
    from selflearn.settings import load_settings

    file, summary = prepare_demo(out, turns)
    console.print(
        f"Simulated {summary.n_turns:,} turns of {summary.n_users:,} people over {N_DAYS} days: {out / 'sample'}"
    )
    settings = load_settings(file)
    days = day_range(FIRST_DAY, FIRST_DAY.replace(day=FIRST_DAY.day + N_DAYS - 1))
    _run(settings, days, list(STAGES.values()), False)
    console.print()
    console.print(mined_table(settings.lake, days))
    console.print()
    console.print(sample_labels_table(settings.lake, max(days)))
    console.print(f"\nTables:   {settings.lake}\nSettings: {file}")
    console.print(f'Read it:  python -c "import selflearn; print(selflearn.load_training_set({settings.lake!r}))"')


@app.command()
def simulate(
    out: OutFolder,
    turns: Annotated[int, typer.Option(help="how many turns")] = 100_000,
    days: Annotated[int, typer.Option(help="over how many days")] = 7,
    start: Annotated[str, typer.Option(help="first day, YYYY-MM-DD")] = "2026-01-05",
    seed: Annotated[int, typer.Option(help="same seed, same logs")] = 7,
    locales: Annotated[str | None, typer.Option(help="what people speak, such as en-GB,tr-TR,zh-CN")] = None,
) -> None:
    """Write sample logs, a launch set, and the truth about them."""
    from selflearn.simulate import simulate as write

    spoken = None if locales is None else [name.strip() for name in locales.split(",")]
    summary = write(out, n_turns=turns, days=days, start=parse_day(start), seed=seed, locales=spoken)
    for name, value in vars(summary).items():
        console.print(
            f"  {name.removeprefix('n_').replace('_', ' '):<18} {value:,}"
            if isinstance(value, int)
            else f"  {name:<18} {value}"
        )


@app.command(name="settings")
def settings_schema() -> None:
    """Print the JSON schema of settings files: every key with its meaning, limits and default."""
    from selflearn.settings import Settings

    typer.echo(json.dumps(Settings.model_json_schema(), indent=2))


@app.command()
def doctor(
    lake: Annotated[Path, typer.Option(help="lake folder to check for write access")] = Path("lake"),
    spark: Annotated[bool, typer.Option("--spark", help="also start Spark and write a tiny Delta table")] = False,
) -> None:
    """Tell what is missing on this machine, and how to mend it."""
    from selflearn.doctor import render, run_checks
    from selflearn.errors import InfrastructureError

    checks = run_checks(lake, spark=spark)
    console.print(render(checks))
    failed = [check.name for check in checks if not check.ok]
    if failed:
        raise InfrastructureError(
            f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}", "see the column `next`"
        )


@app.command()
def setup() -> None:
    """Find or install Java, and fetch Delta's jars."""
    from selflearn.provision import provision

    provision()


def _run(settings: Settings, days: Sequence[date], stages: Sequence[Stage], resume: bool) -> None:
    from selflearn.lakehouse.store import Lakehouse
    from selflearn.pipeline import run_pipeline
    from selflearn.report import stage_line
    from selflearn.session import build_session

    with console.status("starting Spark") as status:
        lake = Lakehouse(build_session(), settings.lake)
        manifests = run_pipeline(
            lake, settings, days, stages, resume, announce=lambda stage: status.update(f"{stage.name} ...")
        )
        for manifest, skipped in manifests:
            console.print(stage_line(manifest, skipped))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors become a message and an exit code, never a trace unless --debug is given."""
    try:
        app(args=list(arguments) if arguments is not None else None, standalone_mode=True)
    except SelflearnError as error:
        if _state["debug"]:
            traceback.print_exc()
        errors.print("[bold red]Error:[/] ", end="")
        errors.print(str(error), markup=False, highlight=False)
        sys.exit(error.exit_code)
