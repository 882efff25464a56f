"""The search for a Java, on made-up ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from selflearn import java
from selflearn.errors import InfrastructureError

PROGRAM = """#!/bin/sh
case "$1" in --add-modules*) exit {module_status};; esac
printf '    java.home = {home}\\n    java.specification.version = {version}\\n' >&2
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any Java: none chosen, none on PATH, `jvm/*` the only usual place."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(java, "_PLACES", (f"{tmp_path}/jvm/*",))
    return tmp_path


def put_java(home: Path, version: str, *, is_whole: bool = True) -> Path:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM.format(home=home, version=version, module_status=0 if is_whole else 1))
    program.chmod(0o755)
    return home


def test_java_home_comes_first(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_java(machine / "jvm" / "java-17", "17")
    chosen = put_java(machine / "chosen", "21")
    monkeypatch.setenv("JAVA_HOME", str(chosen))
    assert java.find_java() == java.Java(chosen, 21)


@pytest.mark.parametrize("version", ["1.8", "11", "18", "24"])
def test_an_unfit_java_on_path_hides_no_fit_one(machine: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    put_java(machine / "old", version)
    monkeypatch.setenv("PATH", str(machine / "old" / "bin"))
    fit = put_java(machine / "jvm" / "java-17", "17")
    assert java.find_java() == java.Java(fit, 17)


def test_the_best_proven_installed_version_is_taken(machine: Path) -> None:
    for version in ("25", "17", "21"):
        put_java(machine / "jvm" / f"java-{version}-openjdk", version)
    assert java.find_java().version == 17


def test_a_shim_is_followed_to_the_home_it_names(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = put_java(machine / "managed", "17")
    shim = machine / "shims" / "java"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {home}/bin/java "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(shim.parent))
    assert java.find_java() == java.Java(home, 17)


def test_the_error_names_what_was_found_and_what_to_type(machine: Path) -> None:
    put_java(machine / "jvm" / "eleven", "11")
    put_java(machine / "jvm" / "small", "17", is_whole=False)
    (machine / "path").mkdir()
    (machine / "path" / "apt-get").touch(mode=0o755)
    with pytest.raises(InfrastructureError) as caught:
        java.find_java()
    assert "Java 11 in" in caught.value.what
    assert "cut-down Java 17 in" in caught.value.what
    assert "sudo apt-get install -y --no-install-recommends openjdk-17-jre-headless" in caught.value.next_step


def test_java_is_installed_where_no_one_need_be_asked(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = machine / "jvm" / "java-21"
    monkeypatch.setattr(java, "_INSTALLERS", (installer("brew", needs_root=False),))
    monkeypatch.setattr(java, "_install", lambda _: put_java(home, "21"))
    (machine / "path").mkdir()
    (machine / "path" / "brew").touch(mode=0o755)
    assert java.ensure_java() == java.Java(home, 21)


def test_java_is_not_installed_behind_anyones_back(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_INSTALLERS", (installer("apt-get", needs_root=True),))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (machine / "path").mkdir()
    (machine / "path" / "apt-get").touch(mode=0o755)
    with pytest.raises(InfrastructureError, match="found none"):
        java.ensure_java()


def installer(program: str, *, needs_root: bool) -> java._Installer:
    return java._Installer(program, (), ("true",), (program, "install"), ("java",), needs_root)
