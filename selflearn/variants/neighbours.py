"""Neighbours on Spark: pairs of utterances of different users whose vectors point the same way.

A vector travels once for each cell that it is laid into, and what shares a cell is compared as one block: the inverted
file of Jégou, Douze and Schmid (2011), joined with itself. A pair that shares none of its nearest cells is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from selflearn.errors import VolumeError
from selflearn.lakehouse.landing import Land, not_landed
from selflearn.variants.blocks import Block, nearest_in_block
from selflearn.variants.placement import count_vectors, decoded, in_whole_numbers, learn_cells, place

PAIRS = "left_locale string, right_locale string, left_utterance string, right_utterance string, cosine double"
_DIRECTED = "from_locale string, from_utterance string, to_locale string, to_utterance string, cosine double"
_SIDES = ("left", "right")
_PART = 1 << 32

Sizes = Mapping[tuple[str, int], int]
"""Utterances in each cell, or block, of a group."""


@dataclass(frozen=True)
class Limits:
    """What counts as a neighbour, and how much may be compared.

    Attributes:
        min_cosine: least cosine of a pair, above 0.
        max_neighbours: a pair is kept where one is among this many nearest of the other.
        max_cell: about how many utterances are compared with each other; a larger cell is cut into random parts.
        max_pairs: a run that would compare more stops before it does.
        across_locales: compare utterances of different locales too.
    """

    min_cosine: float = 0.8
    max_neighbours: int = 20
    max_cell: int = 20_000
    max_pairs: int = 200_000_000_000
    across_locales: bool = False


def nearest_pairs(vectors: DataFrame, limits: Limits, land: Land = not_landed) -> tuple[DataFrame, dict[str, float]]:
    """Pairs of near utterances that at least two users said between them, each once, as rows of `PAIRS`.

    Args:
        vectors: `locale, utterance_id, vector array<float>, users array<bigint>` (a sketch of `graph.people`), one
            row for each utterance; ids differ between locales, too. Read once where they are landed.
        limits: see there.
        land: see `Land`.

    Returns:
        The pairs, `left_utterance < right_utterance`; and metrics: `utterances`, of these `utterances_without_vector`
        (all zeros: they have no neighbours), `cells`, `pairs_forecast` (will be compared) and `pairs_over_cell_cap`
        (will not, because their cell is cut into parts).

    Raises:
        DataError: a vector is missing, not finite, or of another dimension than the others.
        VolumeError: more than `limits.max_pairs` pairs would be compared.
    """
    whole_rows = land(in_whole_numbers(_grouped(vectors, limits)))
    counts, n_without = count_vectors(whole_rows)
    comparable = whole_rows.where(F.col("fault").isNull())
    placed = land(place(comparable, learn_cells(comparable, counts)))
    cells = _sizes(placed, "cells")
    in_blocks = placed.withColumn("blocks", _blocks(cells, limits.max_cell))
    is_any_cut = max(cells.values(), default=0) > limits.max_cell
    blocks = _sizes(in_blocks, "blocks") if is_any_cut else cells
    metrics = {
        "utterances": float(sum(counts.values())),
        "utterances_without_vector": float(n_without),
        "cells": float(len(cells)),
        "pairs_forecast": _n_pairs(blocks),
        "pairs_over_cell_cap": _n_pairs(cells) - _n_pairs(blocks),
    }
    _check_forecast(metrics["pairs_forecast"], limits)
    return _undirected(_compared(in_blocks, limits), limits.max_neighbours), metrics


def _grouped(vectors: DataFrame, limits: Limits) -> DataFrame:
    n_users = F.coalesce(F.size("users"), F.lit(0))
    return vectors.select(
        (F.lit("") if limits.across_locales else F.col("locale")).alias("group"),
        "locale",
        "utterance_id",
        F.least(F.greatest(n_users, F.lit(0)), F.lit(2)).alias("n_people"),
        F.when(n_users == 1, F.get("users", F.lit(0))).otherwise(F.lit(0)).alias("person"),
        "vector",
    )


def _sizes(rows: DataFrame, lists: str) -> Sizes:
    held = rows.select("group", F.explode(lists).alias("number"))
    counts = held.groupBy("group", "number").agg(F.count(F.lit(1)).alias("n")).collect()
    return {(row["group"], row["number"]): row["n"] for row in counts}


def _blocks(cells: Sizes, max_cell: int) -> Column:
    """Numbers of the blocks an utterance lies in: its cells, and of a cell over the cap the part its id falls into."""
    n_parts = {f"{cell} {group}": -(-n // max_cell) for (group, cell), n in cells.items() if n > max_cell}
    if not n_parts:
        return F.col("cells").cast("array<bigint>")
    parts = F.create_map(*(F.lit(item) for entry in n_parts.items() for item in entry))

    def block(cell: Column) -> Column:
        n = F.coalesce(F.try_element_at(parts, F.concat_ws(" ", cell.cast("string"), F.col("group"))), F.lit(1))
        return cell + F.lit(_PART) * F.pmod(F.xxhash64("utterance_id"), n)

    return F.transform("cells", block)


def _n_pairs(sizes: Sizes) -> float:
    return float(sum(n * (n - 1) // 2 for n in sizes.values()))


def _check_forecast(n_pairs: float, limits: Limits) -> None:
    if n_pairs > limits.max_pairs:
        raise VolumeError(
            f"{n_pairs:,.0f} pairs of utterances would be compared, at most {limits.max_pairs:,} may be",
            "take fewer days or locales, lower variants.max_cell, or raise variants.max_pairs",
        )


def _compared(in_blocks: DataFrame, limits: Limits) -> DataFrame:
    """Each utterance's nearest of each block it lies in, as rows of `_DIRECTED`."""
    each = in_blocks.withColumn("block", F.explode("blocks")).drop("cells").repartition("group", "block")
    # Hashes are told apart at their first bytes.
    ordered = each.sortWithinPartitions(F.xxhash64("group", "block"), "group", "block", "utterance_id")
    return ordered.mapInArrow(_comparer(limits.min_cosine, limits.max_neighbours), _DIRECTED)


def _undirected(directed: DataFrame, most: int) -> DataFrame:
    """Pairs of which one end is among the `most` nearest of the other."""
    # Ids differ between locales, too, and are told apart at their first bytes.
    nearest_first = Window.partitionBy("from_utterance").orderBy(F.desc("cosine"), "to_utterance")
    best = directed.withColumn("rank", F.row_number().over(nearest_first)).where(F.col("rank") <= most)
    is_left = F.col("from_utterance") < F.col("to_utterance")

    def end(name: str, left: bool) -> Column:
        return F.when(is_left if left else ~is_left, F.col(f"from_{name}")).otherwise(F.col(f"to_{name}"))

    ends = {f"{side}_{name}": end(name, side == "left") for name in ("locale", "utterance") for side in _SIDES}
    return best.select(*(column.alias(name) for name, column in ends.items()), "cosine").distinct()


def _comparer(min_cosine: float, most: int) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a worker runs: rows in order of their blocks to rows of `_DIRECTED`."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in _whole_blocks(batches):
            near = nearest_in_block(_as_block(rows), min_cosine, most)
            ids = rows.select(["locale", "utterance_id"])
            start, end = ids.take(pa.array(near.row)), ids.take(pa.array(near.neighbour))
            columns = [start["locale"], start["utterance_id"], end["locale"], end["utterance_id"], near.cosine]
            names = ["from_locale", "from_utterance", "to_locale", "to_utterance", "cosine"]
            yield from pa.table(columns, names=names).combine_chunks().to_batches()

    return run


def _whole_blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches cut anew where blocks end."""
    held: pa.Table | None = None
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        rows = pa.concat_tables([held, rows]) if held else rows
        group, block = (rows[name].combine_chunks() for name in ("group", "block"))
        is_new = pc.or_(pc.not_equal(group[1:], group[:-1]), pc.not_equal(block[1:], block[:-1]))
        starts = [0, *(np.flatnonzero(is_new) + 1).tolist()]
        for start, end in pairwise(starts):
            yield rows.slice(start, end - start).combine_chunks()
        held = rows.slice(starts[-1])
    if held:
        yield held.combine_chunks()


def _as_block(rows: pa.Table) -> Block:
    others = rows["blocks"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    return Block(
        rows["block"][0].as_py(),
        decoded(rows["vector"].combine_chunks()),
        others,
        rows["n_people"].to_numpy().astype(np.int64),
        rows["person"].to_numpy(),
    )
