"""A day's model of pairs as a table: how often each level occurs among rephrases and among the rest, and its weight."""

from __future__ import annotations

import json
from datetime import date

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from rich.table import Table

from selflearn.detect import PAIR_SIGNALS, LevelModel, OtherSignalsError
from selflearn.detect.signals import Signal
from selflearn.errors import DataError


def read_pair_model(lake: str, day: date | None = None) -> tuple[date, LevelModel]:
    """The model that scored the pairs of a day, the newest where none is given; and its day.

    Of a model learnt from gold: the label-free one that it builds on.

    Raises:
        DataError: the lake holds no model of that day, or one of another version.
    """
    filters = [("model", "=", "pair"), *([("turn_date", "=", day)] if day else [])]
    try:
        rows = DeltaTable(f"{lake}/detectors").to_pyarrow_table(filters=filters).to_pylist()
    except TableNotFoundError:
        rows = []
    if not rows:
        raise DataError(
            f"{lake} holds no model of pairs{f' of {day}' if day else ''}", "run the stage detect for that day"
        )
    newest = max(rows, key=lambda row: row["turn_date"])
    content = newest["content"]
    return newest["turn_date"], label_free_model(json.loads(content).get("label_free", content), newest["turn_date"])


def label_free_model(content: str, day: date) -> LevelModel:
    """A day's model of pairs.

    Raises:
        DataError: another version fitted it, with other signals.
    """
    try:
        return LevelModel.from_json(content)
    except OtherSignalsError as error:
        raise DataError(
            f"another version fitted the model of {day}: {error}", "run the stage detect for that day again"
        ) from None


def model_table(model: LevelModel, day: date) -> Table:
    """One row per level of every signal; weights are what the level adds to a pair's log-odds."""
    title = (
        f"Pairs of {day}: {model.n:,.0f} pairs, {model.steps} step{'s' if model.steps > 1 else ''}; base rate "
        f"{model.offset:+.2f}, and {model.seed_weight:.2f} times the log-odds of the seed"
    )
    table = Table(title=title, title_justify="left", box=None)
    for name in ("signal", "level", "of rephrases", "of the rest", "weight"):
        table.add_column(name, justify="left" if name == "signal" else "right", no_wrap=True)
    for signal, match, unmatch, row in zip(PAIR_SIGNALS, model.match, model.unmatch, model.weights(), strict=True):
        for level in range(1, signal.n_levels):
            shares = (f"{match[level]:.1%}", f"{unmatch[level]:.1%}", f"{model.slope * row[level]:+.2f}")
            table.add_row(signal.name if level == 1 else "", _range(signal, level), *shares)
    return table


def _range(signal: Signal, level: int) -> str:
    """What values a level holds: `below 0.3`, `0.3 to 0.5`, `0.5 and more`."""
    if level == 1:
        return f"below {signal.edges[0]:g}"
    if level == len(signal.edges) + 1:
        return f"{signal.edges[-1]:g} and more"
    return f"{signal.edges[level - 2]:g} to {signal.edges[level - 1]:g}"
