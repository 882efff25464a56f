"""Placement on Spark: vectors in whole numbers, and the cells that each utterance is laid into.

In whole numbers a vector is one string of bytes: what Spark writes and reads of a list of numbers, it does one by one.
"""

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
_KEPT = ("group", "locale", "utterance_id", "n_people", "person")
_UTTERANCE = "group string, locale string, utterance_id string, n_people int, person bigint"
WHOLE = f"{_UTTERANCE}, dimension int, vector binary, fault string"
PLACED = f"{_UTTERANCE}, vector binary, cells array<int>"
NO_DIRECTION, NOT_FINITE = "no direction", "not finite"
_SEED = 20
_HASHES = 1 << 20


def in_whole_numbers(grouped: DataFrame) -> DataFrame:
    """Utterances with their vector as `cells.whole` makes it, rows of `WHOLE`.

    `dimension` is 0 of a vector that is missing; `fault` says why one can have no neighbours, null where it can.
    """
    return grouped.mapInArrow(_in_whole_numbers, WHOLE)


def count_vectors(whole_rows: DataFrame) -> tuple[dict[str, int], int]:
    """Utterances of each `group`, and how many of all have a vector without direction.

    Raises:
        DataError: a vector is missing, not finite, or of another dimension than the others.
    """
    counts: Counter[str] = Counter()
    by_dimension: Counter[int] = Counter()
    by_fault: Counter[str | None] = Counter()
    for row in whole_rows.groupBy("group", "dimension", "fault").agg(F.count(F.lit(1)).alias("n")).collect():
        counts[row["group"]] += row["n"]
        by_dimension[row["dimension"]] += row["n"]
        by_fault[row["fault"]] += row["n"]
    if 0 in by_dimension or len(by_dimension) > 1:
        found = ", ".join(f"{n:,} of dimension {size}" for size, n in sorted(by_dimension.items()) if size)
        raise DataError(
            f"vectors must be of one dimension: there are {found or 'none'}, and {by_dimension[0]:,} are missing",
            "encode all utterances anew, with one encoder",
        )
    if by_fault[NOT_FINITE]:
        raise DataError(
            f"{by_fault[NOT_FINITE]:,} vectors hold numbers that are missing or not finite",
            "encode their utterances anew; if that does not help, the encoder is broken",
        )
    return dict(counts), by_fault[NO_DIRECTION]


def learn_cells(comparable: DataFrame, counts: Mapping[str, int]) -> dict[str, Vectors]:
    """Centres of each large group's cells, from a sample that is chosen by the utterances' ids."""
    wanted = {group: SAMPLED_PER_CELL * n_cells(n) for group, n in counts.items() if n_cells(n) > 1}
    if not wanted:
        return {}
    fits = min(1.0, MAX_SAMPLE / sum(wanted.values()))
    is_sampled = [(F.col("group") == group) & _is_chosen(fits * n / counts[group]) for group, n in wanted.items()]
    sample = comparable.where(reduce(or_, is_sampled)).select("group", "utterance_id", "vector").toArrow()
    sample = sample.sort_by([("group", "ascending"), ("utterance_id", "ascending")])
    centres = {}
    for group in wanted:
        found = sample.filter(pc.equal(sample["group"], group))["vector"]
        if len(found):
            centres[group] = learn_centres(decoded(found.combine_chunks()), n_cells(counts[group]), _SEED)
    return centres


def place(comparable: DataFrame, centres: Mapping[str, Vectors]) -> DataFrame:
    """Each utterance with its `PROBES` nearest cells, as rows of `PLACED`; all of a group without centres in cell 0."""
    return comparable.mapInArrow(_placer(dict(centres)), PLACED)


def decoded(vectors: pa.BinaryArray) -> Whole:
    """The vectors of a column of `WHOLE` or `PLACED`, shape (rows, dimensions)."""
    _, offsets, data = vectors.buffers()
    start, end = np.frombuffer(offsets, np.int32)[[vectors.offset, vectors.offset + len(vectors)]]
    return np.frombuffer(data, np.uint8)[start:end].view(np.int16).reshape(len(vectors), -1)


def _is_chosen(share: float) -> Column:
    return F.pmod(F.xxhash64("utterance_id"), F.lit(_HASHES)) < int(np.ceil(share * _HASHES))


def _in_whole_numbers(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        dimension = pc.fill_null(pc.list_value_length(batch["vector"]), 0)
        # Batches of which some differ, or are missing, end the run as soon as they are counted.
        is_even = len(pc.unique(dimension)) == 1 and dimension[0].as_py() > 0
        vectors, fault = _whole(batch["vector"]) if is_even else _nothing(len(batch))
        columns = {
            **{name: batch[name] for name in _KEPT},
            "dimension": dimension,
            "vector": _encoded(vectors),
            "fault": pa.array(fault.astype(object), pa.string(), mask=fault == ""),
        }
        yield pa.RecordBatch.from_pydict(columns)


def _nothing(n: int) -> tuple[Whole, npt.NDArray[np.str_]]:
    return np.zeros((n, 1), dtype=np.int16), np.full(n, "")


def _placer(centres: Mapping[str, Vectors]) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            groups = batch["group"].dictionary_encode()
            for code, group in enumerate(groups.dictionary.to_pylist()):
                rows = batch.filter(pc.equal(groups.indices, code))
                cells = np.zeros((len(rows), 1), dtype=np.int32)
                if group in centres:
                    cells = nearest_cells(decoded(rows["vector"]), centres[group], PROBES)
                offsets = pa.array(np.arange(len(cells) + 1, dtype=np.int32) * cells.shape[1])
                lists = pa.ListArray.from_arrays(offsets, pa.array(cells.ravel()))
                yield rows.select([*_KEPT, "vector"]).append_column("cells", lists)

    return run


def _whole(column: pa.Array) -> tuple[Whole, npt.NDArray[np.str_]]:
    """Vectors in whole numbers, and why one can have no neighbours; "" where it can."""
    vectors = np.asarray(column.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)).reshape(len(column), -1)
    is_finite = np.isfinite(vectors).all(axis=1)
    found, is_zero = whole(np.where(is_finite[:, None], vectors, np.float32(0)))
    return found, np.where(is_finite, np.where(is_zero, NO_DIRECTION, ""), NOT_FINITE)


def _encoded(vectors: Whole) -> pa.BinaryArray:
    width = vectors.shape[1] * vectors.itemsize
    binary = pa.Array.from_buffers(pa.binary(width), len(vectors), [None, pa.py_buffer(vectors)])
    return binary.cast(pa.binary())
