"""`selflearn explain`: a pair, a model, an utterance, a label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selflearn.cli.common import ChartFile, SettingsFile, console, parse_day

explain_app = typer.Typer(no_args_is_help=True, help="Say why a result is what it is.")


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


@explain_app.command(name="label")
def explain_label_command(
    text: Annotated[str, typer.Argument(help="the words, as they stand in table weak_labels")],
    settings: SettingsFile,
    day: Annotated[str, typer.Option(help="as-of day of the label, YYYY-MM-DD; the newest where left out")] = "",
) -> None:
    """Say why these words got their label: support, votes, the goals it was chosen from, pairs, and the turns."""
    from selflearn.report import explain_label, label_tree
    from selflearn.settings import load_settings

    known = load_settings(settings)
    for explanation in explain_label(known.lake, text, known.graph, parse_day(day) if day else None):
        console.print(label_tree(explanation))


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
