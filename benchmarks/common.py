"""What every benchmark does with its figures: write `scores.json`, print a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_KIB_PER_MIB = 1024


def write_scores(out: Path, figures: Mapping[str, Any], configuration: Mapping[str, str]) -> None:
    """Write `out/scores.json`: the figures, and the configuration and versions that they were measured with."""
    out.mkdir(parents=True, exist_ok=True)
    content = {"figures": _plain(figures), "configuration": dict(configuration)}
    (out / "scores.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def print_figures(title: str, figures: Mapping[str, Any]) -> None:
    """Print nested figures as one table, a dotted name per row."""
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in _flat(_plain(figures)):
        table.add_row(name, f"{value:,.3f}" if isinstance(value, float) else str(value))
    Console(width=120).print(table)


def peak_memory_mib() -> float:
    """Most resident memory that this process has taken; Linux alone."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / _KIB_PER_MIB
    return float("nan")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value


def _flat(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in figures.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return rows
