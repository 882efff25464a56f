"""`selflearn release`: list, show, diff, export, rollback, veto."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markdown import Markdown

from selflearn.cli.common import SettingsFile, console
from selflearn.errors import SettingsError

if TYPE_CHECKING:
    from selflearn.lakehouse.store import Lakehouse
    from selflearn.settings import Settings

release_app = typer.Typer(no_args_is_help=True, help="List, compare, export, take back training sets.")

LakeFolder = Annotated[str, typer.Option("--lake", help="lake folder")]


@release_app.command(name="list")
def list_command(lake: LakeFolder) -> None:
    """List every release, its state, and why."""
    from selflearn.release import read_releases
    from selflearn.report import releases_table

    console.print(releases_table(read_releases(lake)))


@release_app.command(name="show")
def show_command(
    lake: LakeFolder,
    release: Annotated[str | None, typer.Argument(help="release id; the one in use where left out")] = None,
) -> None:
    """Show a release: its card, what the gate measured, what to look at."""
    from selflearn.release import Issues, find_release
    from selflearn.report import issues_table

    found = find_release(lake, release)
    console.print(Markdown(str(found["card"])))
    console.print()
    console.print(issues_table(Issues.from_json(found["issues"])))
    console.print(f"\n{found['state']}: {found['reason']}")


@release_app.command(name="diff")
def diff_command(
    before: Annotated[str, typer.Argument(help="release id")],
    after: Annotated[str, typer.Argument(help="release id")],
    lake: LakeFolder,
) -> None:
    """Show what one release has that another has not."""
    from selflearn.release import compare_releases
    from selflearn.report import difference_table

    console.print(difference_table(compare_releases(lake, before, after)))


@release_app.command(name="export")
def export_command(
    lake: LakeFolder,
    out: Annotated[Path, typer.Option(help="file to write (jsonl), or folder (all others)")],
    format_name: Annotated[str, typer.Option("--format", help="jsonl, parquet, massive, rasa or delta")] = "jsonl",
    release: Annotated[str | None, typer.Option(help="release id; the one in use where left out")] = None,
) -> None:
    """Write a training set: JSON lines, Parquet with a Hugging Face card, MASSIVE, Rasa or Delta."""
    from selflearn.release import export_release

    exported = export_release(lake, out, format_name, release)
    console.print(f"{exported.n_written:,} examples: {out}")
    if exported.refused:
        console.print(f"{len(exported.refused):,} examples are left out, for {format_name} cannot carry them, such as:")
        for row in exported.refused[:3]:
            console.print(f"  {row['annotated_utterance']!r}", markup=False)


@release_app.command(name="rollback")
def rollback_command(
    settings: SettingsFile,
    reason: Annotated[str, typer.Option(help="why, for those who come after")] = "withdrawn by hand",
) -> None:
    """Withdraw the release in use; the one published before is in use again."""
    from selflearn.pipeline.withdrawal import roll_back

    known, lake = _open(settings)
    withdrawn, in_use = roll_back(lake, known, reason)
    console.print(f"Withdrawn: {withdrawn}. In use now: {in_use or 'none'}.")


@release_app.command(name="veto")
def veto_command(
    settings: SettingsFile,
    text: Annotated[str, typer.Option(help="a wording that is never to be released")] = "",
    intent: Annotated[str, typer.Option(help="an intent; with --text, that wording with this intent")] = "",
    locale: Annotated[str, typer.Option(help="only in this locale")] = "",
    reason: Annotated[str, typer.Option(help="why, for those who come after")] = "given by hand",
    remove: Annotated[str, typer.Option(help="id of a veto to take back instead")] = "",
) -> None:
    """Keep a wording, an intent, or a wording with an intent out of every later release."""
    from selflearn.pipeline.withdrawal import remove_veto, set_veto
    from selflearn.release import veto

    if remove and (text or intent or locale):
        raise SettingsError("--remove is given with what to veto", "give one of the two")
    given = None if remove else veto(locale, text, intent, reason)
    known, lake = _open(settings)
    if given is None:
        remove_veto(lake, known, remove)
        console.print(f"Taken back: {remove}")
    else:
        set_veto(lake, known, given, datetime.now(UTC).replace(tzinfo=None))
        console.print(f"Veto {given.veto_id}: later releases leave it out; releases that are there stay as they are.")


@release_app.command(name="vetoes")
def vetoes_command(lake: LakeFolder) -> None:
    """List what is never released."""
    from selflearn.release import read_vetoes
    from selflearn.report import vetoes_table

    console.print(vetoes_table(read_vetoes(lake)))


def _open(file: Path) -> tuple[Settings, Lakehouse]:
    from selflearn.lakehouse.store import Lakehouse
    from selflearn.session import build_session
    from selflearn.settings import load_settings

    settings = load_settings(file)
    with console.status("starting Spark"):
        return settings, Lakehouse(build_session(), settings.lake)
