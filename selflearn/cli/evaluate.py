"""`selflearn evaluate`: pairs, goal variants, labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selflearn.cli.common import ChartFile, SettingsFile, console

evaluate_app = typer.Typer(no_args_is_help=True, help="Compare results with a gold standard.")


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


@evaluate_app.command(name="labels")
def evaluate_labels_command(
    settings: SettingsFile,
    truth: Annotated[
        Path | None, typer.Option(help="what turns meant: turn_id, intent, slots; a .jsonl file or a folder of them")
    ] = None,
) -> None:
    """Say what each signal votes on the newest labels, how calibrated they are, and how right by a given truth."""
    from selflearn.evaluate import evaluate_labels, read_truth_goals
    from selflearn.report import label_score_table, vote_table
    from selflearn.settings import load_settings

    evaluation = evaluate_labels(load_settings(settings).lake, read_truth_goals(truth) if truth else None)
    console.print(vote_table(evaluation))
    console.print()
    console.print(label_score_table(evaluation))
