"""An evaluation of weak labels for people: tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from selflearn.evaluate import LabelEvaluation, LabelScores


def vote_table(evaluation: LabelEvaluation) -> Table:
    """Where each signal votes on labels, where others do too, and where they disagree."""
    title = (
        f"{evaluation.n_labels:,} labels as of {evaluation.as_of}: {evaluation.n_new:,} new, "
        f"{evaluation.n_intent_only:,} of their intent alone"
    )
    table = Table(title=title, title_justify="left", box=None)
    for name in evaluation.votes.columns:
        table.add_column(name, justify="left" if name == "signal" else "right")
    for signal, *shares in evaluation.votes.to_numpy().tolist():
        table.add_row(signal, *(f"{share:.1%}" for share in shares))
    return table


def label_score_table(evaluation: LabelEvaluation) -> Table:
    """What the run noted of its calibration, and scores where the truth is known."""
    table = Table(title_justify="left", show_header=False, box=None)
    table.add_column()
    table.add_column(justify="right")
    for name, value in evaluation.metrics.items():
        table.add_row(name, f"{value:,.3f}")
    if evaluation.scores:
        for name, shown in _score_rows(evaluation.scores):
            table.add_row(name, shown)
    return table


def _score_rows(scores: LabelScores) -> list[tuple[str, str]]:
    return [
        ("labelled turns", f"{scores.n:,}"),
        ("right", f"{scores.precision:.3f}"),
        ("the deployed NLU on them", f"{scores.deployed_precision:.3f}"),
        ("turns labelled otherwise than read", f"{scores.n_differing:,}"),
        ("right of those", f"{scores.precision_differing:.3f}"),
        *((f"right of the first {rank}", f"{share:.3f}") for rank, share in scores.precision_at.items()),
        ("calibration error of p_correct", f"{scores.calibration_error:.3f}"),
    ]
