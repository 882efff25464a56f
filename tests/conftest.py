"""What tests share: one small Spark session a process, made when the first test asks for it, and a lake folder each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir
from pyspark.sql import SparkSession

from selflearn.session import build_session

# Spark's cold start is no slow example, nothing is to be kept in the checkout, and every run tries the same examples.
settings.register_profile("selflearn", deadline=None, database=None, derandomize=True)
settings.load_profile("selflearn")
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "selflearn-hypothesis")

TINY = {
    "spark.driver.memory": "2g",
    "spark.sql.shuffle.partitions": "2",
    # Tests run much code, none of it for long: the quick compiler, with room for what it makes, saves most.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m",
    # A few hundred rows are read faster than code for them is compiled.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the session and run it last: a mistake that needs no JVM shows first."""
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker("spark")
    items.sort(key=lambda item: item.get_closest_marker("spark") is not None)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The session all tests share; what a test sets on it, it sets back."""
    session = build_session("selflearn tests", master="local[2]", extra=TINY)
    yield session
    session.stop()


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake folder of this test alone, not made yet."""
    return tmp_path / "lake"
