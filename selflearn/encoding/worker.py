"""Encoders on Spark's workers: loaded once in each, and the same as the driver's."""

from __future__ import annotations

import os

from pyspark import TaskContext

from selflearn.encoding.encoder import Encoder, load_encoder
from selflearn.errors import InfrastructureError


def load_on_worker(name: str | None, expected_id: str) -> Encoder:
    """The encoder of a name, on a worker, with the threads of its task.

    Raises:
        SelflearnError: the encoder cannot be loaded, or is another one than `expected_id`, the driver's.
    """
    task = TaskContext.get()
    if task:
        _use_threads(task.cpus())
    loaded = load_encoder(name)
    if loaded.encoder_id != expected_id:
        raise InfrastructureError(
            f"encoder {name} is {loaded.encoder_id} on a worker, {expected_id} on the driver",
            "put the same folder on every machine",
        )
    return loaded


def _use_threads(count: int) -> None:
    """Spark gives a task so many cores, and tells BLAS and torch; tokenizers ask elsewhere."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if count > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = str(count)
