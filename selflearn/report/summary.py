"""Tables for the terminal: what each stage did, what was mined, and why some labels were given."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pandas as pd
from deltalake import DeltaTable
from rich.table import Table
from rich.text import Text

from selflearn.detect import PAIR_CLASS_NAMES, PROBABLE, pair_classes
from selflearn.lakehouse.manifest import Manifest


def stage_line(manifest: Manifest, skipped: bool) -> Text:
    """One line per stage: its time, the rows it wrote, and what it has to say."""
    rows = ", ".join(f"{count:,} {name}" for name, count in manifest.row_counts.items())
    time = "done already" if skipped else f"{manifest.seconds:5.1f} s"
    told = "; ".join(part for part in (rows, manifest.message) if part)
    return Text.assemble((f"  {manifest.stage:<9}", "bold"), f"{time:>12}  ", (told, "dim"))


def mined_table(lake: str, days: list[date]) -> Table:
    """Counts over the days mined and the newest learning run."""
    turns = _read(lake, "turns", ["turn_date", "user_id", "session_id", "utterance_id", "locale"], days)
    bad = _read(lake, "quarantine", ["turn_date", "reason"], days)
    pairs = _read(lake, "rephrase_pairs", ["turn_date", "pattern", "p_rephrase"], days)
    is_rephrase = pairs["p_rephrase"] >= PROBABLE
    outcomes = _read(lake, "turn_outcomes", ["turn_date", "p_failed", "p_gave_up"], days)
    labels = read_labels(lake, max(days))
    table = Table(title="What was mined", title_justify="left", show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right")
    table.add_column(style="dim")
    reasons = ", ".join(f"{reason} {n}" for reason, n in bad["reason"].value_counts().items())
    rows = [
        (
            "turns",
            len(turns),
            f"{turns['session_id'].nunique():,} sessions, {turns['user_id'].nunique():,} people",
        ),
        ("quarantined rows", len(bad), reasons),
        ("distinct utterances", turns["utterance_id"].nunique(), f"in {turns['locale'].nunique()} locales"),
        (
            "expected failures",
            round(outcomes["p_failed"].sum() + outcomes["p_gave_up"].sum()),
            f"{round(outcomes['p_failed'].sum()):,} of them said again, the others given up",
        ),
        (
            "rephrase pairs",
            int(is_rephrase.sum()),
            f"p_rephrase of {PROBABLE} or more: {_class_counts(pairs[is_rephrase])}",
        ),
        (
            "other pairs",
            int((~is_rephrase).sum()),
            _class_counts(pairs[~is_rephrase]),
        ),
        (
            "weak labels",
            len(labels),
            f"{labels['is_new'].sum():,} new to the deployed NLU, the others confirm it",
        ),
    ]
    for name, count, note in rows:
        table.add_row(name, f"{count:,}", note)
    return table


def sample_labels_table(lake: str, as_of: date, n: int = 10) -> Table:
    """The n new labels with most people behind them, each with its reason; spread over the locales."""
    labels = read_labels(lake, as_of)
    new = labels[labels["is_new"]].sort_values(["n_users_behind", "p_correct", "utterance_id"], ascending=False)
    new = new.assign(turn=new.groupby("locale").cumcount()).sort_values(["turn"], kind="stable").head(n)
    table = Table(title=f"{len(new)} new labels, and why", title_justify="left", show_header=False, box=None)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for row in new.itertuples():
        context = str(row.context)
        after = f", after {context}" if context else ""
        read = readable_goal(str(row.nlu_goal)) if row.nlu_goal else "nothing"
        table.add_row("heard", Text.assemble((str(row.text), "bold"), (f"  [{row.locale}{after}]", "dim")))
        table.add_row("was read as", Text(read))
        means = readable_goal(row.goal) if isinstance(row.goal, str) else f"{row.intent}, whatever its values,"
        table.add_row("means", Text(f"{means} with {row.p_correct:.2f}"))
        table.add_row("because", Text(str(row.reason)), end_section=True)
        table.add_row()
    return table


def readable_goal(goal: str) -> str:
    """A canonical goal for people.

    >>> readable_goal('{"intent":"alarm","slots":[{"name":"time","value":"7 am"}]}')
    'alarm(time=7 am)'
    """
    frame = json.loads(goal)
    slots = ", ".join(f"{slot['name']}={slot['value']}" for slot in frame["slots"])
    return f"{frame['intent']}({slots})"


def read_labels(lake: str, as_of: date) -> pd.DataFrame:
    """Weak labels as of a day."""
    return _table(lake, "weak_labels").to_pandas(filters=[("as_of", "=", as_of)])


def _class_counts(pairs: pd.DataFrame) -> str:
    """How many pairs are of each class: `rephrase 9, repeat 4`."""
    places = pair_classes(pairs["pattern"].tolist(), pairs["p_rephrase"].to_numpy())
    counts = pd.Series(np.array(PAIR_CLASS_NAMES)[places]).value_counts()
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def _read(lake: str, name: str, columns: list[str], days: list[date]) -> pd.DataFrame:
    return _table(lake, name).to_pandas(columns=columns, filters=[("turn_date", "in", days)])


def _table(lake: str, name: str) -> DeltaTable:
    return DeltaTable(f"{lake}/{name}")
