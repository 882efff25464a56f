"""The demo: a week of simulated logs, mined from start to end."""

from __future__ import annotations

import os
import secrets
import shutil
from datetime import date
from pathlib import Path

from selflearn.errors import SettingsError
from selflearn.settings import USER_KEY_FILE_VARIABLE, USER_KEY_VARIABLE
from selflearn.simulate import SimulationSummary, simulate

FIRST_DAY = date(2026, 1, 5)
N_DAYS = 7
N_TURNS = 30_000
SEED = 7
_MARK = ".selflearn-demo"

SETTINGS = """\
# Settings of the demo; `selflearn settings` prints every key with its meaning.
lake: lake                          # where the Delta tables go
source:
  path: sample/logs/{date}.jsonl    # {date} stands for the day, YYYY-MM-DD
launch:
  path: sample/launch.jsonl         # sentences the deployed NLU was trained on
"""


def prepare_demo(folder: Path, n_turns: int = N_TURNS) -> tuple[Path, SimulationSummary]:
    """Write sample logs, a settings file and a user key below `folder`; an earlier demo there is replaced.

    Returns the settings file and what was simulated.

    Raises:
        SettingsError: the folder holds something that is not a demo.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise SettingsError(
            f"{folder} is not empty and holds no earlier demo",
            "name another folder with --out, or empty this one",
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _MARK).touch()
    settings = folder / "settings.yaml"
    settings.write_text(SETTINGS, encoding="utf-8")
    _provide_user_key(folder / "user.key")
    summary = simulate(folder / "sample", n_turns=n_turns, days=N_DAYS, start=FIRST_DAY, seed=SEED)
    return settings, summary


def _provide_user_key(file: Path) -> None:
    if os.environ.get(USER_KEY_VARIABLE) or os.environ.get(USER_KEY_FILE_VARIABLE):
        return
    file.touch(mode=0o600)
    file.write_text(secrets.token_hex(32) + "\n", encoding="utf-8")
    os.environ[USER_KEY_FILE_VARIABLE] = str(file)
