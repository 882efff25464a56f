"""What a piece of work takes besides time: memory and processor time of all processes, bytes that Spark shuffles."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

_MIB = 2**20
_EVERY_SECONDS = 0.5
_PARENT, _USER_TICKS, _SYSTEM_TICKS = 1, 11, 12


class Usage:
    """What has been used since it was last asked, by this process and all below it: driver, JVM, Python workers."""

    def __init__(self, spark: SparkSession) -> None:
        self._status: Any = spark.sparkContext._jsc.sc().statusStore()
        self._shuffled = self._shuffle_bytes()
        self._peak = 0.0
        self._processor: dict[int, float] = {}
        self.look()
        self._processor_before = sum(self._processor.values())

    def taken(self) -> dict[str, float]:
        """`processor_seconds` of all cores, `peak_memory_mib` and `shuffled_mib`."""
        self.look()
        shuffled, processor = self._shuffle_bytes(), sum(self._processor.values())
        found = {
            "processor_seconds": processor - self._processor_before,
            "peak_memory_mib": self._peak / _MIB,
            "shuffled_mib": (shuffled - self._shuffled) / _MIB,
        }
        self._shuffled, self._processor_before, self._peak = shuffled, processor, 0.0
        return found

    def look(self) -> None:
        """Note what is in use; of a process that ends, what it took after the last look is lost."""
        ticks = _ticks_of_tree(os.getpid())
        self._peak = max(self._peak, _resident(ticks))
        # Another thread may be adding up the old ones.
        self._processor = self._processor | {process: n / os.sysconf("SC_CLK_TCK") for process, n in ticks.items()}

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


def _ticks_of_tree(root: int) -> dict[int, int]:
    """Clock ticks that each process of a tree has run for; Linux alone."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[_PARENT])
        ticks[int(entry.name)] = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    tree = {root}
    while grown := {process for process, parent in parents.items() if parent in tree} - tree:
        tree |= grown
    return {process: ticks[process] for process in tree & ticks.keys()}


def _resident(processes: Iterable[int]) -> float:
    """Proportional set size of processes, so that memory shared by forked workers counts once; Linux alone."""
    total = 0.0
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(float(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
