"""Reliability of `p_same_goal` for people: a table for the terminal, and a chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from selflearn.evaluate import VariantEvaluation
from selflearn.report.chart import new_figure


def reliability_table(evaluation: VariantEvaluation) -> Table:
    """Known pairs and calibration error, in all and by locale."""
    title = f"p_same_goal as of {evaluation.as_of}, {evaluation.encoder_id}: goals held out"
    table = Table(title=title, title_justify="left", box=None)
    for name in ("", "pairs", "of one goal", "ECE"):
        table.add_column(name, justify="right" if name else "left")
    for name, found in {"all": evaluation.overall, **evaluation.by_locale}.items():
        table.add_row(name, f"{found.n:,}", f"{found.n_same_goal:,}", f"{found.calibration_error:.3f}")
    return table


def plot_reliability(evaluation: VariantEvaluation, file: Path) -> None:
    """Write the share of pairs of one goal against `p_same_goal`, thin lines by locale.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    figure = new_figure(5, 5)
    axes: Any = figure.subplots()
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.5)
    for found in evaluation.by_locale.values():
        axes.plot(*_points(found.bins), color="#2a9d8f", linewidth=0.5)
    axes.plot(*_points(evaluation.overall.bins), marker="o", color="#e76f51")
    axes.set(xlabel="p_same_goal", ylabel="share of pairs of one goal", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"calibration error {evaluation.overall.calibration_error:.3f}")
    figure.savefig(file)


def _points(bins: tuple[tuple[float, float, float], ...]) -> tuple[list[float], list[float]]:
    return [p for _, p, _ in bins], [share for _, _, share in bins]
