"""What the commands share: the console, option types, and how a day is read."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from selflearn.errors import SettingsError

console = Console()

SettingsFile = Annotated[Path, typer.Option("--settings", help="settings file (YAML)")]
ChartFile = Annotated[Path | None, typer.Option("--plot", help="also write a chart; .png, .svg or .pdf")]
OutFolder = Annotated[Path, typer.Option("--out", help="folder to write to")]


def parse_day(text: str) -> date:
    """A day from the command line. Raises SettingsError where it is none."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise SettingsError(f"{text!r} is no day", "write it as YYYY-MM-DD, for example 2026-01-05") from None
