"""An evaluation of pairs for people: tables for the terminal, and a chart of precision, recall and calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from sklearn.metrics import precision_recall_curve

from selflearn.evaluate import PairEvaluation, PairScores
from selflearn.report.chart import new_figure

_BINS = 10


def score_table(evaluation: PairEvaluation) -> Table:
    """Scores over all pairs, by locale, class and cause."""
    table = Table(title=f"{len(evaluation.pairs):,} gold pairs", title_justify="left", box=None)
    for name in ("", "pairs", "rephrases", "AP", "best F1", "R at P .8", "R at P .9", "ECE"):
        table.add_column(name, justify="right" if name else "left", no_wrap=name != "")
    table.add_row("all", *_cells(evaluation.overall))
    parts = {"locale": evaluation.by_locale, "class": evaluation.by_class, "cause": evaluation.by_cause}
    for title, scores in parts.items():
        for name, found in scores.items():
            table.add_row(f"{title} {name}", *_cells(found))
    return table


def threshold_table(evaluation: PairEvaluation) -> Table:
    """What each threshold on `p_rephrase` would flag."""
    table = Table(title="thresholds on p_rephrase", title_justify="left", box=None)
    for name in evaluation.thresholds.columns:
        table.add_column(name, justify="right")
    for threshold, n_flagged, *rates in evaluation.thresholds.to_numpy().tolist():
        table.add_row(f"{threshold:.2f}", f"{n_flagged:,.0f}", *(f"{rate:.3f}" for rate in rates))
    return table


def plot_evaluation(evaluation: PairEvaluation, file: Path) -> None:
    """Write the precision-recall curve and the reliability of `p_rephrase` side by side.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    is_positive, p = evaluation.pairs["is_rephrase"].to_numpy(dtype=bool), evaluation.pairs["p_rephrase"].to_numpy()
    precision, recall, _ = precision_recall_curve(is_positive, p)
    figure = new_figure(9, 4)
    curve, reliability = _axes(figure)
    curve.plot(recall, precision, color="#264653")
    curve.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    curve.set_title(f"average precision {evaluation.overall.average_precision:.3f}")
    bins = np.minimum((p * _BINS).astype(int), _BINS - 1)
    filled = np.unique(bins)
    reliability.plot([0, 1], [0, 1], color="black", linewidth=0.5)
    mean_p, share = ([values[bins == k].mean() for k in filled] for values in (p, is_positive))
    reliability.plot(mean_p, share, marker="o", color="#e76f51")
    reliability.set(xlabel="p_rephrase", ylabel="share of rephrases", xlim=(0, 1), ylim=(0, 1))
    reliability.set_title(f"calibration error {evaluation.overall.calibration_error:.3f}")
    figure.savefig(file)


def _axes(figure: Any) -> tuple[Any, Any]:
    left, right = figure.subplots(1, 2)
    return left, right


def _cells(scores: PairScores) -> tuple[str, ...]:
    rates = (
        scores.average_precision,
        scores.best_f1,
        scores.recall_at_precision_80,
        scores.recall_at_precision_90,
        scores.calibration_error,
    )
    return (f"{scores.n:,}", f"{scores.n_positive:,}", *(f"{rate:.3f}" for rate in rates))
