"""The Java that Spark runs on: found wherever it lies, installed where no one needs to be asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from selflearn.errors import InfrastructureError

SUPPORTED = (17, 21, 25)
"""What Spark 4.2 runs on, best proven with Delta first."""

_PLACES = (
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/opt/java/*",
    "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "/usr/local/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "~/.sdkman/candidates/java/*",
    "~/.jdks/*",
)
# Spark passes this to every JVM it starts; some cut-down runtimes come without the module and die of it.
_MODULE_SPARK_NEEDS = "--add-modules=jdk.incubator.vector"
_PROBE_SECONDS = 20


@dataclass(frozen=True)
class Java:
    """One Java runtime: its home folder and its major version."""

    home: Path
    version: int

    @property
    def program(self) -> str:
        """Path of its `java`."""
        return str(self.home / "bin" / "java")


@dataclass(frozen=True)
class _Installer:
    """How one kind of system gets a Java; `packages` are in order of preference."""

    program: str
    refresh: tuple[str, ...]
    look_up: tuple[str, ...]
    install: tuple[str, ...]
    packages: tuple[str, ...]
    needs_root: bool

    def package(self) -> str:
        """The first package this release of the system has: Debian 12 has no 21, Debian 13 no 17."""
        known = (package for package in self.packages if _succeeds(_run(*self.look_up, package)))
        return next(known, self.packages[0])

    def advice(self) -> str:
        """The command for a person to type."""
        sudo = "sudo " if self.needs_root else ""
        return f"`{sudo}{' '.join(self.install)} {self.package()}`"

    def may_run_unasked(self) -> bool:
        """Whether installing needs neither a password nor a right we do not have."""
        return not self.needs_root or os.geteuid() == 0


_INSTALLERS = (
    _Installer(
        program="apt-get",
        refresh=("apt-get", "update", "-qq"),
        look_up=("apt-cache", "show"),
        install=("apt-get", "install", "-y", "--no-install-recommends"),
        packages=("openjdk-17-jre-headless", "openjdk-21-jre-headless", "openjdk-25-jre-headless"),
        needs_root=True,
    ),
    _Installer(
        program="dnf",
        refresh=(),
        look_up=("dnf", "--quiet", "info"),
        install=("dnf", "install", "-y"),
        packages=("java-17-openjdk-headless", "java-21-openjdk-headless", "java-25-openjdk-headless"),
        needs_root=True,
    ),
    _Installer(
        program="brew",
        refresh=(),
        look_up=("brew", "info"),
        install=("brew", "install"),
        packages=("openjdk@17", "openjdk@21"),
        needs_root=False,
    ),
)


def find_java() -> Java:
    """The Java to use: JAVA_HOME's if it will do, else that on PATH, else the best one installed.

    Raises:
        InfrastructureError: none of a supported version is there; names those that were found.
    """
    rejected: list[str] = []
    for program in _candidates():
        java = _probe(program)
        if java is None:
            continue
        if java.version not in SUPPORTED:
            rejected.append(f"Java {java.version} in {java.home}")
        elif not _succeeds(_run(java.program, _MODULE_SPARK_NEEDS, "-version")):
            rejected.append(f"a cut-down Java {java.version} in {java.home}")
        else:
            return java
    wanted = f"{', '.join(map(str, SUPPORTED[:-1]))} or {SUPPORTED[-1]}"
    raise InfrastructureError(
        f"Spark needs Java {wanted}; found {', '.join(rejected) or 'none'}",
        f"{installation_command()}; or point JAVA_HOME at a fitting one that is installed elsewhere",
    )


def ensure_java() -> Java:
    """The Java to use, installed first if there is none and the system lets us do so without asking.

    Raises:
        InfrastructureError: there is none and it could not be installed; names the command that installs it.
    """
    try:
        return find_java()
    except InfrastructureError:
        installer = _installer()
        if installer is None or not installer.may_run_unasked():
            raise
    _install(installer)
    return find_java()


def installation_command() -> str:
    """The one command that installs a fitting Java on this kind of system."""
    installer = _installer()
    return installer.advice() if installer else "install OpenJDK 17 with the package manager of your system"


def _candidates() -> Iterator[Path]:
    """Programs called `java` in order of preference, each once."""
    home, on_path = os.environ.get("JAVA_HOME"), shutil.which("java")
    chosen = [Path(home).expanduser() / "bin" / "java"] if home else []
    chosen += [Path(on_path)] if on_path else []
    seen: set[Path] = set()
    for program in (*chosen, *_installed()):
        real = program.resolve()
        if real not in seen and real.is_file():
            seen.add(real)
            yield program


def _installed() -> list[Path]:
    """Programs in the usual places, first those whose folder names a better proven version."""
    patterns = [f"{Path(place).expanduser()}/bin/java".lstrip("/") for place in _PLACES]
    programs = [program for pattern in patterns for program in Path("/").glob(pattern)]
    return sorted(programs, key=lambda program: (_rank(str(program)), str(program)))


def _rank(name: str) -> int:
    return next((rank for rank, version in enumerate(SUPPORTED) if str(version) in name), len(SUPPORTED))


def _probe(program: Path) -> Java | None:
    """What the program says of itself: version managers put shims on PATH, and folder names lie."""
    output = _run(str(program), "-XshowSettings:properties", "-version")
    if output is None:
        return None
    home = re.search(r"^\s*java\.home = (.+)$", output.stderr, re.MULTILINE)
    version = re.search(r"^\s*java\.specification\.version = (?:1\.)?(\d+)", output.stderr, re.MULTILINE)
    return Java(Path(home[1].strip()), int(version[1])) if home and version else None


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _succeeds(output: subprocess.CompletedProcess[str] | None) -> bool:
    return output is not None and output.returncode == 0


def _installer() -> _Installer | None:
    return next((installer for installer in _INSTALLERS if shutil.which(installer.program)), None)


def _install(installer: _Installer) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    if installer.refresh:
        # A stale package list may still hold the package, so a failure here is not yet one.
        subprocess.run(installer.refresh, env=environment, check=False)
    if subprocess.run((*installer.install, installer.package()), env=environment, check=False).returncode:
        raise InfrastructureError(
            f"{installer.program} could not install {installer.package()}; its own words stand above",
            f"mend what it names, then {installer.advice()}",
        )
