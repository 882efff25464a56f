"""Start of the JVM that Spark runs in, so that its failure has a cause and its chatter no audience."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import pyspark
from py4j.java_gateway import JavaGateway
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.java_gateway import launch_gateway

from selflearn.errors import InfrastructureError
from selflearn.java import find_java

# Java's own warnings, on incubating modules and the like, concern Spark's authors. No log line starts so.
_CHATTER = (b"WARNING: ", b"Picked up ")
_LINES_KEPT = 20
_STDERR = 2
_PATIENCE_SECONDS = 5


def start_jvm(configuration: Mapping[str, str]) -> None:
    """Start the JVM of a Spark session with the best Java found; one that runs, or spark-submit's, is kept.

    `configuration` is what must be known before the JVM starts: its heap, its options, its class path.

    Raises:
        InfrastructureError: no Java, or the JVM died at its start; its own last words are in the message.
    """
    if SparkContext._gateway is not None:
        return
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        SparkContext._ensure_initialized()
        return
    os.environ["JAVA_HOME"] = str(find_java().home)
    # Another Spark on this machine must not lend its jars to this PySpark.
    os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
    SparkContext._ensure_initialized(gateway=_launch(configuration))


def _launch(configuration: Mapping[str, str]) -> JavaGateway:
    conf = SparkConf(loadDefaults=False).setAll(list(configuration.items()))
    output = _Output()
    try:
        with output as write_end:
            return launch_gateway(conf, {"stdout": write_end, "stderr": write_end})  # type: ignore[no-untyped-call]
    except (PySparkRuntimeError, OSError) as error:
        raise InfrastructureError(
            f"the Java of Spark did not start: {output.last_words()}",
            "`selflearn doctor` checks Java and memory; with little memory, set SELFLEARN_DRIVER_MEMORY=2g",
        ) from error


class _Output(threading.Thread):
    """Passes on to our error stream what the JVM says, less the chatter, and remembers the end of it.

    Both of its streams: some of its last words go to the standard output, which is ours to keep clean.
    """

    def __init__(self) -> None:
        super().__init__(name="spark-output", daemon=True)
        self._read_end, self._write_end = os.pipe()
        self._kept: deque[bytes] = deque(maxlen=_LINES_KEPT)
        self._is_passed_on = False

    def __enter__(self) -> int:
        self.start()
        return self._write_end

    def __exit__(self, failure: object, *_: object) -> None:
        # The JVM holds a copy; ours would keep the stream open after its death.
        os.close(self._write_end)
        # What is said at a start that fails goes into the error raised, once.
        self._is_passed_on = failure is None

    def run(self) -> None:
        with os.fdopen(self._read_end, "rb") as stream:
            for line in stream:
                if line.startswith(_CHATTER):
                    continue
                self._kept.append(line.strip())
                if self._is_passed_on:
                    # Not sys.stderr: an interpreter that ends while a thread holds its lock dies of it.
                    os.write(_STDERR, line)

    def last_words(self) -> str:
        """The last lines written, without stack traces, once the stream has ended."""
        self.join(timeout=_PATIENCE_SECONDS)
        lines = [line for line in self._kept if not line.startswith(b"at ")]
        return b" | ".join(lines).decode(errors="replace") or "it said nothing"
