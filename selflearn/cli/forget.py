"""`selflearn forget`: erasing people from a lake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selflearn.cli.common import SettingsFile, console
from selflearn.errors import SettingsError


def forget_command(
    settings: SettingsFile,
    user: Annotated[list[str] | None, typer.Option(help="id as in the source; may be given several times")] = None,
    users_from: Annotated[Path | None, typer.Option(help="file of ids, one a line")] = None,
) -> None:
    """Erase users: from every table, with their days made again without them, and from every file of the lake."""
    from selflearn.lakehouse.store import Lakehouse
    from selflearn.pipeline.forgetting import forget, read_requests
    from selflearn.report import stage_line
    from selflearn.session import build_session
    from selflearn.settings import load_settings

    if not user and users_from is None:
        raise SettingsError("nobody is named", "give --user ID, or --users-from FILE")
    known = load_settings(settings)
    with console.status("starting Spark") as status:
        lake = Lakehouse(build_session(), known.lake)
        users = [*(user or ()), *(read_requests(lake, str(users_from.absolute())) if users_from else ())]
        manifests = forget(lake, known, users, announce=lambda stage: status.update(f"{stage.name} ..."))
        told = False
        for manifest in manifests:
            told = True
            console.print(stage_line(manifest, False))
            if manifest.message:
                console.print(f"            {manifest.message}", highlight=False)
    console.print("Erased." if told else "Erased before; nothing was left to do.")
