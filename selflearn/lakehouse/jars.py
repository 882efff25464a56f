"""The Delta jars that Spark loads: fetched once at set-up, so that no session ever waits for the network.

Ivy ships inside PySpark, so nothing but Java is needed to fetch them. What to fetch stands in `ivy/ivy.xml`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pyspark

from selflearn.errors import InfrastructureError
from selflearn.java import find_java

_IVY = Path(__file__).parent / "ivy"
_FETCH_SECONDS = 300
_ATTEMPTS = 3


def jar_folder() -> Path:
    """Where the jars lie: `SELFLEARN_JARS` where it is set, else a folder inside the Python environment."""
    chosen = os.environ.get("SELFLEARN_JARS")
    return Path(chosen).expanduser() if chosen else Path(sys.prefix) / "share" / "selflearn" / "jars"


def jar_names() -> list[str]:
    """File names of the jars, as `ivy/ivy.xml` declares them."""
    dependencies = ElementTree.parse(_IVY / "ivy.xml").iter("dependency")
    return [f"{dependency.attrib['name']}-{dependency.attrib['rev']}.jar" for dependency in dependencies]


def find_jars() -> list[Path]:
    """Paths of all jars.

    Raises:
        InfrastructureError: one is missing.
    """
    jars = [jar_folder() / name for name in jar_names()]
    if missing := [jar.name for jar in jars if not jar.is_file()]:
        raise InfrastructureError(
            f"{len(missing)} of {len(jars)} Delta jars are missing in {jar_folder()}: {', '.join(missing)}",
            "fetch them with `make setup` or `selflearn setup`",
        )
    return jars


def fetch_jars() -> list[Path]:
    """Paths of all jars, fetched first unless they are there.

    Each jar is verified, then moved into place whole: whoever looks meanwhile, or after a kill, finds all of
    it or nothing.

    Raises:
        InfrastructureError: the folder cannot be written, there is no Java, or the network refuses.
    """
    try:
        return find_jars()
    except InfrastructureError:
        folder = jar_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            _retrieve(Path(scratch))
            for name in jar_names():
                (Path(scratch) / name).replace(folder / name)
    except OSError as error:
        raise InfrastructureError(
            f"the Delta jars cannot be written to {folder}: {error.strerror or error}",
            "make that folder writable, or point SELFLEARN_JARS at one that is",
        ) from error
    return find_jars()


def _retrieve(target: Path) -> None:
    """Let Ivy download the jars and verify their checksums; an attempt goes on where the last one failed."""
    command, cause = _ivy_command(target), ""
    for _ in range(_ATTEMPTS):
        try:
            output = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            cause = f"no answer within {_FETCH_SECONDS} seconds"
            continue
        if output.returncode == 0 and all((target / name).is_file() for name in jar_names()):
            return
        cause = _cause(output.stdout + output.stderr)
    raise InfrastructureError(
        f"the Delta jars could not be fetched from Maven Central: {cause}",
        "check the network and run `selflearn setup` again. Behind a proxy, first set JAVA_TOOL_OPTIONS="
        "'-Dhttps.proxyHost=HOST -Dhttps.proxyPort=PORT'; for a mirror, name an Ivy settings file in "
        f"SELFLEARN_IVY_SETTINGS; without a network, copy {', '.join(jar_names())} into {jar_folder()}",
    )


def _ivy_command(target: Path) -> tuple[str, ...]:
    return (
        find_java().program,
        *("-cp", str(_ivy_jar()), "org.apache.ivy.Main"),
        *("-settings", os.environ.get("SELFLEARN_IVY_SETTINGS") or str(_IVY / "ivysettings.xml")),
        *("-ivy", str(_IVY / "ivy.xml")),
        *("-cache", str(target / "cache")),
        *("-retrieve", f"{target}/[artifact]-[revision].[ext]"),
    )


def _ivy_jar() -> Path:
    home = Path(pyspark.__file__).parent
    jar = next((home / "jars").glob("ivy-*.jar"), None)
    if jar is None:
        raise InfrastructureError(
            f"PySpark in {home} comes without its jars",
            "install it again: `pip install --force-reinstall --no-deps pyspark==4.2.0`",
        )
    return jar


def _cause(output: str) -> str:
    """Ivy's first word on what went wrong, out of pages of it."""
    exception = re.search(r"(\w+(?:\.\w+)+Exception: [^)\n]*)", output)
    first_problem = re.search(r"^:::: (?:WARNINGS|ERRORS)\s+(.*)", output, re.MULTILINE)
    telling = exception or first_problem
    return telling[1].strip() if telling else output.strip()[-200:]
