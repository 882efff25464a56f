"""A pair explained from the lake's tables, without Spark: as a table for the terminal and as a waterfall chart."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from rich.table import Table

from selflearn.detect import PAIR_CLASSES, PAIR_SIGNALS, LevelModel, pair_classes, read_pinned
from selflearn.detect.comparison import compare_sessions
from selflearn.detect.explanation import Step, explain, supervised_step
from selflearn.detect.pair_classes import PairClass
from selflearn.detect.supervised import SupervisedModel
from selflearn.errors import DataError
from selflearn.report.chart import new_figure
from selflearn.report.model import label_free_model
from selflearn.settings import Detect

_SHOWN_WEIGHT = 0.005


@dataclass(frozen=True)
class PairExplanation:
    """What two turns say, their class, and the steps to the probability that the second says the first again."""

    source_text: str
    target_text: str
    pair_class: PairClass
    steps: Sequence[Step]

    @property
    def p_rephrase(self) -> float:
        return self.steps[-1].probability


def explain_pair(lake: str, source: str, target: str, settings: Detect | None = None) -> PairExplanation:
    """Explain the pair of two turns, by their ids, with the detector of the source's day.

    Raises:
        DataError: the lake holds no such pair, or no detector of its day.
    """
    pairs = _rows(lake, "rephrase_pairs", [("source_turn_id", "=", source), ("target_turn_id", "=", target)])
    if not pairs:
        raise DataError(
            f"{lake} holds no candidate pair {source!r}, {target!r}",
            "give the ids of two turns of one session, the earlier one first; table rephrase_pairs lists all pairs",
        )
    day, session = pairs[0]["turn_date"], pairs[0]["session_id"]
    turns = _observed(_table(lake, "turns", [("turn_date", "=", day), ("session_id", "=", session)]))
    models = _rows(lake, "detectors", [("turn_date", "=", day), ("model", "=", "pair")])
    if not models:
        raise DataError(f"{lake} holds no detector of {day}", "run the stage detect for that day")
    compared = compare_sessions(turns, settings or Detect())
    ids = turns["turn_id"].to_pylist()
    place = int(np.flatnonzero((compared.source == ids.index(source)) & (compared.target == ids.index(target)))[0])
    model = _model_of(models[0]["content"], day, settings)
    label_free = model.label_free if isinstance(model, SupervisedModel) else model
    steps = explain(label_free, PAIR_SIGNALS, compared.signals[place], float(compared.seeds[place]))
    if isinstance(model, SupervisedModel):
        steps.append(supervised_step(steps[-1].total, float(model.pair_log_odds(compared)[place])))
    texts = turns["normalised_text"].to_pylist()
    of_class = pair_classes([pairs[0]["pattern"]], np.array([pairs[0]["p_rephrase"]]))[0]
    return PairExplanation(texts[ids.index(source)], texts[ids.index(target)], PAIR_CLASSES[of_class], steps)


def _model_of(record: str, day: date, settings: Detect | None) -> LevelModel | SupervisedModel:
    """The day's model of pairs; of one learnt from gold the lake keeps the fingerprint, the file is the settings'."""
    fields = json.loads(record)
    if "sha256" not in fields:
        return label_free_model(record, day)
    pinned = read_pinned(settings.model, settings.encoder) if settings and settings.model else None
    if not isinstance(pinned, SupervisedModel) or pinned.sha256 != fields["sha256"]:
        raise DataError(
            f"the pairs of {day} were scored by the pinned model with sha256 {fields['sha256'][:12]}",
            "name its file as detect.model in the settings, then explain again",
        )
    return pinned


def explanation_table(explanation: PairExplanation) -> Table:
    """Each step with its value, level, weight and the probability so far."""
    title = f"{explanation.source_text!r} -> {explanation.target_text!r}: p_rephrase {explanation.p_rephrase:.3f}"
    of_class = f"{explanation.pair_class.name}: {explanation.pair_class.meaning}"
    table = Table(title=f"{title}\n{of_class}", title_justify="left", box=None)
    for name in ("signal", "value", "level", "weight", "total", "p so far"):
        table.add_column(name, justify="left" if name == "signal" else "right", no_wrap=True)
    table.add_column("meaning", style="dim", overflow="fold")
    for step in explanation.steps:
        value = (
            ""
            if step.name in ("base rate", "learnt from gold")
            else "missing"
            if math.isnan(step.value)
            else f"{step.value + 0.0:.3g}"
        )
        level = f"{step.level} of {step.n_levels}" if step.n_levels else ""
        numbers = (f"{step.weight:+.2f}", f"{step.total:+.2f}", f"{step.probability:.3f}")
        table.add_row(step.name, value, level, *numbers, step.meaning)
    return table


def plot_waterfall(explanation: PairExplanation, file: Path) -> None:
    """Write the steps as a waterfall chart; the suffix of the file says in which format.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    steps = [step for step in explanation.steps if abs(step.weight) >= _SHOWN_WEIGHT]
    figure = new_figure(8, 0.35 * len(steps) + 1.5)
    axes: Any = figure.subplots()
    starts = [step.total - step.weight for step in steps]
    colours = ["#2a9d8f" if step.weight > 0 else "#e76f51" for step in steps]
    axes.barh(range(len(steps)), [step.weight for step in steps], left=starts, color=colours)
    axes.set_yticks(range(len(steps)), [step.name for step in steps])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.5)
    axes.set_xlabel(f"log-odds; together p_rephrase = {explanation.p_rephrase:.3f}")
    axes.set_title(f"{explanation.source_text} -> {explanation.target_text}", fontsize=9)
    figure.savefig(file)


def _observed(turns: pa.Table) -> pa.Table:
    """Turns of one session in the words of the comparison; the twin of `detect.detection.observed`."""
    turns = turns.sort_by("turn_index").combine_chunks()

    def no(name: str) -> pa.ChunkedArray:
        return pc.fill_null(turns[name], False)

    def listed(name: str, field: str, kind: pa.DataType) -> pa.Array:
        rows = turns[name].to_pylist()
        return pa.array([None if row is None else [entry[field] for entry in row] for row in rows], pa.list_(kind))

    made = {
        "at": pc.cast(pc.cast(turns["ts"], pa.timestamp("us")), pa.int64()),
        "texts": listed("text_alternatives", "text", pa.string()),
        "goals": listed("nlu_alternatives", "goal", pa.string()),
        "goal_scores": listed("nlu_alternatives", "score", pa.float64()),
        "failed": pc.or_(no("error"), no("cancelled")),
    }
    for name, column in made.items():
        turns = turns.drop_columns(name) if name in turns.column_names else turns
        turns = turns.append_column(name, column)
    return turns


def _rows(lake: str, name: str, filters: list[tuple[str, str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _table(lake, name, filters).to_pylist()
    return found


def _table(lake: str, name: str, filters: list[tuple[str, str, Any]]) -> pa.Table:
    try:
        return DeltaTable(f"{lake}/{name}").to_pyarrow_table(filters=filters)
    except TableNotFoundError:
        raise DataError(
            f"{lake} is no lake with pairs: it has no table {name}", "give the folder named `lake` in your settings"
        ) from None
