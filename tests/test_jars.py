"""The Delta jars: found, fetched from a repository on disk, and never half there."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from selflearn.errors import InfrastructureError
from selflearn.lakehouse import jars

SETTINGS = """<ivysettings><settings defaultResolver="disk"/><resolvers>
<ibiblio name="disk" m2compatible="true" checksums="" root="{root}"/></resolvers></ivysettings>"""
POM = """<project><modelVersion>4.0.0</modelVersion><groupId>io.delta</groupId>
<artifactId>{module}</artifactId><version>{revision}</version></project>"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository on disk, empty yet, in the place of Maven Central; and a folder of jars, not made yet."""
    folder = tmp_path / "repository"
    folder.mkdir()
    settings = tmp_path / "settings.xml"
    settings.write_text(SETTINGS.format(root=folder.as_uri()))
    monkeypatch.setenv("SELFLEARN_IVY_SETTINGS", str(settings))
    monkeypatch.setenv("SELFLEARN_JARS", str(tmp_path / "jars"))
    return folder


def publish(repository: Path, name: str) -> Path:
    module, _, revision = name.removesuffix(".jar").rpartition("-")
    folder = repository / "io" / "delta" / module / revision
    folder.mkdir(parents=True)
    (folder / f"{module}-{revision}.pom").write_text(POM.format(module=module, revision=revision))
    jar = folder / name
    jar.write_text(name)
    return jar


def test_jars_are_those_of_the_installed_delta_and_spark() -> None:
    spark = ".".join(version("pyspark").split(".")[:2])
    delta = version("delta-spark")
    assert f"delta-spark_{spark}_2.13-{delta}.jar" in jars.jar_names()
    assert all(name.endswith(f"-{delta}.jar") for name in jars.jar_names())


def test_missing_jars_are_named_with_the_next_step(repository: Path) -> None:
    with pytest.raises(InfrastructureError, match="5 of 5 Delta jars are missing") as caught:
        jars.find_jars()
    assert "make setup" in caught.value.next_step


def test_fetching_twice_fetches_once(repository: Path) -> None:
    published = [publish(repository, name) for name in jars.jar_names()]
    fetched = jars.fetch_jars()
    assert [jar.read_text() for jar in fetched] == jars.jar_names()
    assert sorted(fetched) == sorted(jars.jar_folder().iterdir())
    for jar in published:
        jar.unlink()
    assert jars.fetch_jars() == fetched


def test_a_refusal_leaves_nothing_behind(repository: Path) -> None:
    for name in jars.jar_names()[1:]:
        publish(repository, name)
    with pytest.raises(InfrastructureError, match=r"module not found: io\.delta#delta-spark_4\.2_2\.13;4\.4\.0"):
        jars.fetch_jars()
    assert list(jars.jar_folder().iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFLEARN_JARS", str(repository.parent / "settings.xml" / "jars"))
    with pytest.raises(InfrastructureError, match="cannot be written to"):
        jars.fetch_jars()
