"""Utterances to vectors on Spark: an encoder is loaded once in each worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from selflearn.encoding import load_encoder, load_on_worker

logger = logging.getLogger(__name__)

EMBEDDED = "locale string, utterance_id string, text string, encoder_id string, vector array<float>"


def embed_utterances(utterances: DataFrame, encoder: str | None) -> DataFrame:
    """Add `encoder_id` and `vector` to utterances (`locale, utterance_id, text`); `encoder` as in `load_encoder`.

    Raises:
        SelflearnError: the encoder cannot be loaded; the driver tries before any worker does.
    """
    if encoder is None:
        logger.warning(
            "no encoder is set: utterances are compared by their spelling alone; "
            "`selflearn encoder train` makes one that knows more"
        )
    expected = load_encoder(encoder).encoder_id
    return utterances.select("locale", "utterance_id", "text").mapInArrow(embedder(encoder, expected), EMBEDDED)


def embedder(encoder: str | None, expected_id: str) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a worker runs: batches of utterances in, the same rows with their vectors out."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        loaded = load_on_worker(encoder, expected_id)
        for batch in batches:
            yield _with_vectors(batch, loaded.encode(batch["text"].to_pylist()), expected_id)

    return run


def _with_vectors(batch: pa.RecordBatch, vectors: np.ndarray, encoder_id: str) -> pa.RecordBatch:
    rows, dimension = vectors.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * dimension)
    lists = pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()))
    ids = pa.array([encoder_id] * rows, pa.string())
    columns = [batch["locale"], batch["utterance_id"], batch["text"], ids, lists]
    return pa.RecordBatch.from_arrays(columns, ["locale", "utterance_id", "text", "encoder_id", "vector"])
