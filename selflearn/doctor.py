"""Checks of the machine and the installation: what is there, whether it will do, and what to do where not."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from rich.table import Table
from rich.text import Text

from selflearn.errors import InfrastructureError, SelflearnError
from selflearn.java import find_java
from selflearn.lakehouse.jars import find_jars
from selflearn.session import build_session, driver_memory

_PYTHON_FROM, _PYTHON_BELOW = (3, 11), (3, 14)
_GIB = 1024**3
_UNITS = {"k": 1024, "m": 1024**2, "g": _GIB, "t": 1024 * _GIB}
_DISK_NEEDED = 2 * _GIB
_EXTRAS = {"encoder": "sentence_transformers", "airflow": "airflow", "report": "matplotlib"}


@dataclass(frozen=True)
class Check:
    """One thing looked at; `next_step` is empty where there is nothing to do."""

    name: str
    ok: bool
    found: str
    next_step: str = ""


def run_checks(lake: Path, *, spark: bool = False) -> list[Check]:
    """Everything selflearn needs to mine into `lake`; with `spark`, also a real session and a tiny table.

    Nothing is changed and nothing raised: a check that cannot be made has failed.
    """
    checks = [
        _check_python(),
        _checked("Java", _java),
        _checked("Delta jars", _jars),
        _check_packages(),
        _check_memory(),
        _check_folder("Lake folder", lake),
        _check_folder("Temporary folder", Path(tempfile.gettempdir())),
        *(_check_extra(name, module) for name, module in _EXTRAS.items()),
    ]
    if spark:
        checks.append(_checked("Spark and Delta", _round_trip))
    return checks


def render(checks: Sequence[Check]) -> Table:
    """The checks as a table for a terminal."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "found", "next"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("failed", "red")
        table.add_row(mark, *map(Text, (check.name, check.found, check.next_step)))
    return table


def _checked(name: str, look: Callable[[], str]) -> Check:
    """The check that `look` passes by returning what it found and fails by raising."""
    try:
        return Check(name, True, look())
    except SelflearnError as error:
        return Check(name, False, error.what, error.next_step)
    except Exception as error:  # a doctor reports what it did not foresee
        return Check(name, False, f"{type(error).__name__}: {error}".splitlines()[0], "report this as a defect")


def _check_python() -> Check:
    ok = _PYTHON_FROM <= sys.version_info[:2] < _PYTHON_BELOW
    wanted = f"{'.'.join(map(str, _PYTHON_FROM))} or newer, below {'.'.join(map(str, _PYTHON_BELOW))}"
    next_step = "" if ok else f"make the environment anew with Python {wanted}"
    return Check("Python", ok, f"{sys.version.split()[0]} in {sys.prefix}", next_step)


def _java() -> str:
    java = find_java()
    return f"{java.version} in {java.home}"


def _jars() -> str:
    jars = find_jars()
    return f"{len(jars)} in {jars[0].parent}"


def _check_packages() -> Check:
    """Every installed package against the range selflearn declares for it; extras only where installed."""
    try:
        requirements = [Requirement(line) for line in requires("selflearn") or []]
    except PackageNotFoundError:
        return Check("Packages", False, "selflearn itself is not installed", "run `make setup`")
    wrong = [mismatch for requirement in requirements if (mismatch := _mismatch(requirement))]
    if wrong:
        next_step = "install selflearn again with its constraints: `make setup`"
        return Check("Packages", False, "; ".join(wrong), next_step)
    return Check("Packages", True, f"pyspark {version('pyspark')}, delta-spark {version('delta-spark')}")


def _mismatch(requirement: Requirement) -> str | None:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return None if requirement.marker else f"{requirement.name} is missing"
    if requirement.specifier.contains(installed, prereleases=True):
        return None
    return f"{requirement.name} is {installed}, must be {requirement.specifier}"


def _check_memory() -> Check:
    heap, available = _bytes(driver_memory()), _available_memory()
    if heap is None:
        found = f"SELFLEARN_DRIVER_MEMORY={driver_memory()} is no size"
        return Check("Memory", False, found, "write it like 4g or 2500m")
    ok = available is None or available >= heap
    found = f"{_gib(available)} available, heap {driver_memory()}" if available is not None else "not known"
    next_step = "" if ok else "free some, or set SELFLEARN_DRIVER_MEMORY to a smaller heap (2g mines small logs)"
    return Check("Memory", ok, found, next_step)


def _bytes(size: str) -> int | None:
    """Bytes of a size in Spark's notation, which counts in mebibytes where no unit is named."""
    match = re.fullmatch(r"(\d+)([kmgt]?)b?", size.strip().lower())
    return int(match[1]) * _UNITS[match[2] or "m"] if match else None


def _available_memory() -> int | None:
    """Bytes that this process may still use, by the system's word and the container's limit."""
    system = re.search(r"MemAvailable:\s+(\d+) kB", _text("/proc/meminfo"))
    limits = [_text("/sys/fs/cgroup/memory.max"), _text("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    known = [int(limit) for limit in limits if limit.strip().isdigit()]
    if system:
        known.append(int(system[1]) * 1024)
    return min(known, default=None)


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _check_folder(name: str, folder: Path) -> Check:
    """Room and the right to write, in the nearest folder that exists; the folder itself is not made."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        found = f"{there} cannot be written: {error.strerror}"
        return Check(name, False, found, "choose another folder, or make this one writable")
    ok = free >= _DISK_NEEDED
    next_step = "" if ok else f"free some: at least {_gib(_DISK_NEEDED)} are needed"
    return Check(name, ok, f"{_gib(free)} free in {there}", next_step)


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"


def _check_extra(name: str, module: str) -> Check:
    if find_spec(module):
        return Check(f"Extra {name}", True, "installed")
    return Check(f"Extra {name}", True, "not installed (optional)", f"pip install 'selflearn[{name}]'")


def _round_trip() -> str:
    """A session that writes a tiny Delta table and reads it back."""
    started = time.monotonic()
    spark = build_session("selflearn doctor")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/table"
        spark.range(3).write.format("delta").save(path)
        count = spark.read.format("delta").load(path).count()
    if count != 3:
        raise InfrastructureError(f"wrote 3 rows and read {count}", "report this as a defect")
    return f"Spark {spark.version} wrote and read a table in {time.monotonic() - started:.0f} s"
