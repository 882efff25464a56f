"""Releases for people: a list, one with all that was measured, and what changed between two."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
from rich.table import Table

from selflearn.release import Difference, Issues, Row

_SHOWN = 20


def releases_table(releases: pd.DataFrame) -> Table:
    """All releases, oldest first; the one in use is marked."""
    in_use = releases.loc[releases["state"] == "published", "release_id"].tail(1).tolist()
    table = Table(title="Releases", title_justify="left", box=None)
    table.add_column("release", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("launch + mined", justify="right")
    table.add_column("reason", overflow="fold")
    for row in releases.to_dict("records"):
        state = "in use" if row["release_id"] in in_use else row["state"]
        n_mined = sum(int(row[f"n_{name}"]) for name in ("corrected", "hard_negatives", "confirmed", "unsure"))
        table.add_row(row["release_id"], state, f"{int(row['n_launch']):,} + {n_mined:,}", row["reason"])
    return table


def issues_table(issues: Issues) -> Table:
    """The first issues of each kind."""
    table = Table(title="What to look at", title_justify="left", box=None)
    for name in ("kind", "locale", "text", "note"):
        table.add_column(name, overflow="fold")
    shown: Counter[str] = Counter()
    for issue in issues.listed:
        shown[issue.kind] += 1
        if shown[issue.kind] <= _SHOWN:
            table.add_row(issue.kind.replace("_", " "), issue.locale, issue.text, issue.note)
    return table


def difference_table(difference: Difference) -> Table:
    """Counts by origin, and the first examples that came and went."""
    table = Table(title=_counted(difference), title_justify="left", box=None)
    for name in ("", "locale", "text", "means", "why"):
        table.add_column(name, overflow="fold")
    for sign, rows in (("+", difference.added), ("-", difference.removed)):
        for row in rows[:_SHOWN]:
            table.add_row(sign, row["locale"], row["annotated_utterance"], row["intent"], row["reason"] or "")
    return table


def vetoes_table(vetoes: pd.DataFrame) -> Table:
    """All vetoes."""
    table = Table(title="Never released", title_justify="left", box=None)
    for name in ("veto", "locale", "text", "intent", "reason"):
        table.add_column(name, overflow="fold")
    for row in vetoes.sort_values("created_at").itertuples():
        table.add_row(str(row.veto_id), *map(_or_any, (row.locale, row.normalised_text, row.intent)), str(row.reason))
    return table


def _or_any(value: Any) -> str:
    return str(value) if value else "any"


def _counted(difference: Difference) -> str:
    def by_origin(rows: list[Row]) -> str:
        counts = Counter(row["origin"] for row in rows)
        return ", ".join(f"{n:,} {name}" for name, n in counts.most_common()) or "none"

    added, removed = by_origin(difference.added), by_origin(difference.removed)
    return f"Added: {added}; removed: {removed}; in another split, or of another weight: {len(difference.moved):,}"
