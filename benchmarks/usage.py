"""What a piece of work takes besides time: memory of all processes, and bytes that Spark shuffles."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

_MIB = 2**20
_EVERY_SECONDS = 0.5


class Usage:
    """What has been used since it was last asked."""

    def __init__(self, spark: SparkSession) -> None:
        self._status: Any = spark.sparkContext._jsc.sc().statusStore()
        self._shuffled = self._shuffle_bytes()
        self._peak = 0.0

    def taken(self) -> dict[str, float]:
        """`peak_memory_mib` of this process and all below it (driver, JVM, Python workers), and `shuffled_mib`."""
        shuffled, peak = self._shuffle_bytes(), max(self._peak, _resident(os.getpid()))
        found = {"peak_memory_mib": peak / _MIB, "shuffled_mib": (shuffled - self._shuffled) / _MIB}
        self._shuffled, self._peak = shuffled, 0.0
        return found

    def look(self) -> None:
        """Note how much memory is in use."""
        self._peak = max(self._peak, _resident(os.getpid()))

    def _shuffle_bytes(self) -> float:
        executors = self._status.executorList(False)
        return float(sum(executors.apply(k).totalShuffleWrite() for k in range(executors.size())))


@contextmanager
def watched(spark: SparkSession) -> Iterator[Usage]:
    """Usage from here on."""
    usage, stop = Usage(spark), threading.Event()

    def watch() -> None:
        while not stop.wait(_EVERY_SECONDS):
            usage.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield usage
    finally:
        stop.set()
        thread.join()


def _resident(root: int) -> float:
    """Proportional set size of a process tree, so that memory shared by forked workers counts once; Linux alone."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    tree = {root}
    while grown := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= grown
    total = 0.0
    for pid in tree:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(float(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
