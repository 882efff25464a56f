"""Placement on Spark: vectors in whole numbers, and the cells that each utterance is laid into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from operator import or_

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from selflearn.errors import DataError
from selflearn.variants.cells import SAMPLED_PER_CELL, Vectors, Whole, learn_centres, n_cells, nearest_cells, whole

PROBES = 4
MAX_SAMPLE = 131_072
PLACED = (
    "group string, locale string, utterance_id string, n_people int, person bigint, "
    "vector binary, cells array<int>, fault string"
)
NO_DIRECTION, NOT_FINITE = "no direction", "not finite"
_KEPT = ("group", "locale", "utterance_id", "n_people", "person")
_SEED = 20
_HASHES = 1 << 20


def count_vectors(grouped: DataFrame) -> dict[str, int]:
    """Utterances of each `group`.

    Raises:
        DataError: a `vector` is missing, or of another dimension than the others.
    """
    dimension = F.coalesce(F.size("vector"), F.lit(-1)).alias("dimension")
    counts: Counter[str] = Counter()
    by_dimension: Counter[int] = Counter()
    for row in grouped.groupBy("group", dimension).agg(F.count(F.lit(1)).alias("n")).collect():
        counts[row["group"]] += row["n"]
        by_dimension[max(0, row["dimension"])] += row["n"]
    if 0 in by_dimension or len(by_dimension) > 1:
        found = ", ".join(f"{n:,} of dimension {size}" for size, n in sorted(by_dimension.items()) if size)
        raise DataError(
            f"vectors must be of one dimension: there are {found or 'none'}, and {by_dimension[0]:,} are missing",
            "encode all utterances anew, with one encoder",
        )
    return dict(counts)


def learn_cells(grouped: DataFrame, counts: Mapping[str, int]) -> dict[str, Vectors]:
    """Centres of each large group's cells, from a sample that is chosen by the utterances' ids."""
    wanted = {group: SAMPLED_PER_CELL * n_cells(n) for group, n in counts.items() if n_cells(n) > 1}
    if not wanted:
        return {}
    fits = min(1.0, MAX_SAMPLE / sum(wanted.values()))
    is_sampled = [(F.col("group") == group) & _is_chosen(fits * n / counts[group]) for group, n in wanted.items()]
    sample = grouped.where(reduce(or_, is_sampled)).select("group", "utterance_id", "vector").toArrow()
    sample = sample.sort_by([("group", "ascending"), ("utterance_id", "ascending")])
    centres = {}
    for group in wanted:
        found, fault = _whole(sample.filter(pc.equal(sample["group"], group))["vector"].combine_chunks())
        if (fault == "").any():
            centres[group] = learn_centres(found[fault == ""], n_cells(counts[group]), _SEED)
    return centres


def place(grouped: DataFrame, centres: Mapping[str, Vectors]) -> DataFrame:
    """Each utterance with its `PROBES` nearest cells, as rows of `PLACED`; all of a group without centres in cell 0.

    `fault` says why a vector can have no neighbours; null where it can.
    """
    return grouped.mapInArrow(_placer(dict(centres)), PLACED)


def _is_chosen(share: float) -> Column:
    return F.pmod(F.xxhash64("utterance_id"), F.lit(_HASHES)) < int(np.ceil(share * _HASHES))


def _placer(centres: Mapping[str, Vectors]) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            groups = batch["group"].dictionary_encode()
            for code, group in enumerate(groups.dictionary.to_pylist()):
                rows = batch.filter(pc.equal(groups.indices, code))
                found, fault = _whole(rows["vector"])
                cells = np.zeros((len(found), 1), dtype=np.int32)
                if group in centres:
                    cells = nearest_cells(found, centres[group], PROBES)
                yield _as_placed(rows, found, cells, fault)

    return run


def _whole(column: pa.Array) -> tuple[Whole, npt.NDArray[np.str_]]:
    """Vectors in whole numbers, and why one can have no neighbours; "" where it can."""
    vectors = np.asarray(column.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)).reshape(len(column), -1)
    is_finite = np.isfinite(vectors).all(axis=1)
    found, is_zero = whole(np.where(is_finite[:, None], vectors, np.float32(0)))
    return found, np.where(is_finite, np.where(is_zero, NO_DIRECTION, ""), NOT_FINITE)


def _as_placed(
    rows: pa.RecordBatch, vectors: Whole, cells: npt.NDArray[np.int32], fault: npt.NDArray[np.str_]
) -> pa.RecordBatch:
    width = vectors.shape[1] * vectors.itemsize
    binary = pa.Array.from_buffers(pa.binary(width), len(vectors), [None, pa.py_buffer(vectors)])
    offsets = np.arange(len(cells) + 1, dtype=np.int32) * cells.shape[1]
    columns = {
        **{name: rows[name] for name in _KEPT},
        "vector": binary.cast(pa.binary()),
        "cells": pa.ListArray.from_arrays(pa.array(offsets), pa.array(cells.ravel())),
        "fault": pa.array(fault.astype(object), mask=fault == ""),
    }
    return pa.RecordBatch.from_pydict(columns)
