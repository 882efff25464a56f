"""Every figure in the README stands in a committed results file."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURE = re.compile(r"<!--(\w+):([\w.-]+)-->(-?[\d.,]+\d)")


def test_the_figures_are_those_that_were_measured() -> None:
    found = FIGURE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found
    for name, key, shown in found:
        value = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))["figures"]
        for part in key.split("."):
            value = value[part]
        digits = len(shown.partition(".")[2])
        assert f"{float(shown.replace(',', '')):.{digits}f}" == f"{value:.{digits}f}", key


def test_it_names_commands_that_exist() -> None:
    targets = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", readme, re.MULTILINE))
    assert {"demo", "test"} <= named
    assert named <= set(targets)


def test_it_names_files_that_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"(?<![\w./-])((?:jobs|dags|docs)/[\w.]+\.\w+)", readme):
        assert (ROOT / name).exists(), name
