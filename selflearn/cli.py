"""The command line: `selflearn run`, `explain`, `evaluate`, `fit`, `encoder`, `export`, `demo`, `doctor` and more."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from selflearn.errors import DataError, SelflearnError, SettingsError

if TYPE_CHECKING:
    from selflearn.pipeline import Stage
    from selflearn.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
explain_app = typer.Typer(no_args_is_help=True, help="Say why a result is what it is.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Compare results with a gold standard.")
fit_app = typer.Typer(no_args_is_help=True, help="Learn from what people judged.")
encoder_app = typer.Typer(no_args_is_help=True, help="Train what finds utterances of one meaning.")
app.add_typer(explain_app, name="explain")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(fit_app, name="fit")
app.add_typer(encoder_app, name="encoder")
console = Console()
errors = Console(stderr=True)

_state = {"debug": False}
SettingsFile = Annotated[Path, typer.Option("--settings", help="settings file (YAML)")]
ChartFile = Annotated[Path | None, typer.Option("--plot", help="also write a chart; .png, .svg or .pdf")]
OutFolder = Annotated[Path, typer.Option("--out", help="folder to write to")]


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


@app.command()
def export(
    lake: Annotated[str, typer.Option(help="lake folder")],
    out: Annotated[Path, typer.Option(help="file to write, .jsonl")],
    release: Annotated[str | None, typer.Option(help="release id; the newest where left out")] = None,
) -> None:
    """Write a training set as JSONL."""
    from selflearn.release import export_jsonl, load_training_set

    n = export_jsonl(load_training_set(lake, release), out)
    console.print(f"{n:,} examples: {out}")


@explain_app.command(name="pair")
def explain_pair_command(
    source: Annotated[str, typer.Argument(help="id of the earlier turn")],
    target: Annotated[str, typer.Argument(help="id of the later turn")],
    settings: SettingsFile,
    plot: ChartFile = None,
) -> None:
    """Say why a later turn is held to say an earlier one again, or not: each signal, its weight, the running total."""
    from selflearn.report import explain_pair, explanation_table, plot_waterfall
    from selflearn.settings import load_settings

    known = load_settings(settings)
    explanation = explain_pair(known.lake, source, target, known.detect)
    console.print(explanation_table(explanation))
    if plot:
        plot_waterfall(explanation, plot)
        console.print(f"Chart: {plot}")


@explain_app.command(name="utterance")
def explain_utterance_command(
    text: Annotated[str, typer.Argument(help="the words, as they stand in table graph_nodes")],
    settings: SettingsFile,
    day: Annotated[str, typer.Option(help="as-of day of the graph, YYYY-MM-DD; the newest where left out")] = "",
    graphml: Annotated[Path | None, typer.Option(help="also write the utterance's component; .graphml")] = None,
) -> None:
    """Say what became of people who said this: the wordings they went on to, where they ended, and the rewrite."""
    from selflearn.report import explain_utterance, utterance_table, write_graphml
    from selflearn.settings import load_settings

    known = load_settings(settings)
    explained = explain_utterance(known.lake, text, known.graph, parse_day(day) if day else None)
    for explanation in explained:
        console.print(utterance_table(explanation))
    if graphml:
        write_graphml(explained[0], graphml)
        console.print(f"Component: {graphml}")


@explain_app.command(name="model")
def explain_model_command(
    settings: SettingsFile,
    day: Annotated[str, typer.Option(help="day of the model, YYYY-MM-DD; the newest where left out")] = "",
) -> None:
    """Show what a day's model of pairs has learnt: each level's share among rephrases and the rest, and its weight."""
    from selflearn.report import model_table, read_pair_model
    from selflearn.settings import load_settings

    found, model = read_pair_model(load_settings(settings).lake, parse_day(day) if day else None)
    console.print(model_table(model, found))


@evaluate_app.command(name="pairs")
def evaluate_pairs_command(
    gold: Annotated[Path, typer.Option(help="source_turn_id, target_turn_id, is_rephrase; .jsonl, .csv or .parquet")],
    settings: SettingsFile,
    plot: ChartFile = None,
) -> None:
    """Compare the pairs' probabilities with gold: precision and recall, by locale and cause, for each threshold."""
    from selflearn.evaluate import evaluate_pairs, read_gold
    from selflearn.report import plot_evaluation, score_table, threshold_table
    from selflearn.settings import load_settings

    evaluation = evaluate_pairs(load_settings(settings).lake, read_gold(gold))
    console.print(score_table(evaluation))
    console.print()
    console.print(threshold_table(evaluation))
    if evaluation.n_unknown:
        console.print(
            f"{evaluation.n_unknown:,} gold pairs are no candidates in the lake; they count as probability 0."
        )
    if plot:
        plot_evaluation(evaluation, plot)
        console.print(f"Chart: {plot}")


@evaluate_app.command(name="variants")
def evaluate_variants_command(settings: SettingsFile, plot: ChartFile = None) -> None:
    """Say how well `p_same_goal` held, in the newest run, on pairs of known goals that its model had not seen."""
    from selflearn.evaluate import evaluate_variants
    from selflearn.report import plot_reliability, reliability_table
    from selflearn.settings import load_settings

    evaluation = evaluate_variants(load_settings(settings).lake)
    console.print(reliability_table(evaluation))
    if plot:
        plot_reliability(evaluation, plot)
        console.print(f"Chart: {plot}")


@fit_app.command(name="pairs")
def fit_pairs_command(
    settings: SettingsFile,
    out: Annotated[Path, typer.Option("--out", help="file to write the model to, .json")],
    gold: Annotated[
        Path | None, typer.Option(help="source_turn_id, target_turn_id, is_rephrase; .jsonl, .csv or .parquet")
    ] = None,
    corpus: Annotated[bool, typer.Option("--corpus", help="learn from the launch set of the settings too")] = False,
) -> None:
    """Fit a model of rephrase pairs to gold, to a labelled corpus, or to both; `detect.model` names it then."""
    from selflearn.evaluate import read_gold
    from selflearn.lakehouse.store import Lakehouse
    from selflearn.pipeline.fitting import fit_pairs
    from selflearn.session import build_session
    from selflearn.settings import load_settings

    if gold is None and not corpus:
        raise SettingsError("there is nothing to learn from", "give --gold FILE, --corpus, or both")
    known, pairs = load_settings(settings), read_gold(gold) if gold else None
    if pairs is not None and pairs.empty:
        raise DataError(f"gold file {gold} has no pairs", "judge some; table rephrase_pairs lists candidates")
    with console.status("starting Spark"):
        model = fit_pairs(Lakehouse(build_session(), known.lake), known, pairs, corpus)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(model.to_json(), encoding="utf-8")
    for name, value in model.provenance.items():
        if isinstance(value, int):
            console.print(f"  {name.removeprefix('n_').replace('_', ' '):<22} {value:,}")
    console.print(f"Model: {out} (name it in the settings as detect.model)")


@encoder_app.command(name="train")
def train_encoder_command(
    settings: SettingsFile,
    out: Annotated[Path | None, typer.Option("--out", help="folder to write to; left out: the lake's newest")] = None,
    first: Annotated[str, typer.Option("--from", help="first day, YYYY-MM-DD; all days where left out")] = "",
    last: Annotated[str, typer.Option("--to", help="last day, YYYY-MM-DD; the same as --from where left out")] = "",
    seed: Annotated[int, typer.Option(help="same seed, same encoder")] = 0,
) -> None:
    """Train an encoder on the log, and on the launch set where the settings name one; writes a folder."""
    from selflearn.lakehouse.store import Lakehouse
    from selflearn.pipeline import day_range
    from selflearn.pipeline.encoding import train_on_lake
    from selflearn.pipeline.variants import new_encoder
    from selflearn.session import build_session
    from selflearn.settings import load_settings
    from selflearn.variants.training import check_folder, require_torch

    if last and not first:
        raise SettingsError(f"--to {last} is given without --from", "give the first day too")
    known, days = load_settings(settings), day_range(parse_day(first), parse_day(last or first)) if first else None
    folder = out or new_encoder(known.lake, datetime.now(UTC))
    check_folder(folder)
    require_torch()
    with console.status("training an encoder"):
        trained, provenance = train_on_lake(Lakehouse(build_session(), known.lake), known, days, seed)
    trained.save(folder, provenance)
    for name, value in trained.figures.items():
        console.print(f"  {name.removeprefix('n_').replace('_', ' '):<16} {value:,}")
    console.print(f"Encoder: {folder}")


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


def parse_day(text: str) -> date:
    """A day from the command line. Raises SettingsError where it is none."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise SettingsError(f"{text!r} is no day", "write it as YYYY-MM-DD, for example 2026-01-05") from None


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


if __name__ == "__main__":
    main()
