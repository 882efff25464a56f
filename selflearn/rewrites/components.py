"""Connected components of a graph of wordings, by the driver or by Spark, with one result, verified after every run.

A component is named by its smallest vertex. On Spark it is found by large-star and small-star in turns (Kiveris et
al. 2014): the edges of each vertex are bent to its smallest neighbour until only stars are left.
"""

from __future__ import annotations

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from selflearn.errors import DataError
from selflearn.lakehouse.landing import Land
from selflearn.ragged import Ints

_MOST_ROUNDS = 60
_DEFECT = "this is a defect of the search for components; report it with this message"


def components(source: Ints, target: Ints) -> tuple[Ints, Ints]:
    """Vertices that the edges name, sorted, and the component of each.

    >>> components(np.array([7, 2]), np.array([9, 7]))[1].tolist()
    [2, 2, 2]
    """
    vertices, ends = np.unique(np.concatenate([source, target]), return_inverse=True)
    start, end = np.split(ends, 2)
    ones = np.ones(len(start), dtype=np.int8)
    graph = sparse.coo_array((ones, (start, end)), (len(vertices), len(vertices)))
    _, label = connected_components(graph.tocsr(), directed=False)
    # Vertices are sorted, so the first one of each label is its smallest.
    return vertices, vertices[np.unique(label, return_index=True)[1]][label]


def verify(source: Ints, target: Ints, vertices: Ints, component: Ints) -> tuple[Ints, Ints]:
    """Check a labelling of all vertices, sorted, against the edges; returns the places of both ends of each edge.

    Raises:
        DataError: it lacks a vertex or has one too many, an edge leaves its component, or a component's name is no
            vertex of its own.
    """
    start, end = np.searchsorted(vertices, source), np.searchsorted(vertices, target)
    is_linked = np.zeros(len(vertices) + 1, dtype=bool)
    is_linked[start] = is_linked[end] = True
    is_known = not is_linked[-1] and np.array_equal(vertices[start], source) and np.array_equal(vertices[end], target)
    if not is_known or not is_linked[:-1].all():
        raise DataError("the utterances in components are not those that are linked", _DEFECT)
    _check(len(source), int(np.count_nonzero(component[start] != component[end])))
    name = np.minimum(np.searchsorted(vertices, component), max(0, len(vertices) - 1))
    if not (np.array_equal(vertices[name], component) and np.array_equal(component[name], component)):
        raise DataError("a component is named by a vertex that is not its own", _DEFECT)
    return start, end


def spark_components(edges: DataFrame, land: Land) -> DataFrame:
    """`components` of `source, target`, found by Spark: `vertex, component`, every vertex once.

    Each round is written down, for a plan that grows by the round would be planned for longer than it runs.

    Raises:
        DataError: no result after `_MOST_ROUNDS` rounds, of which log2(vertices) are needed.
    """
    bent = land(_ordered(edges.where("source <> target")).distinct())
    before = None
    for _ in range(_MOST_ROUNDS):
        bent = land(_small_star(_large_star(bent)))
        seen = bent.agg(F.count(F.lit(1)).alias("n"), F.bit_xor(F.xxhash64("high", "low")).alias("hash")).first()
        if seen == before:
            break
        before = seen
    else:
        raise DataError(f"components are not found after {_MOST_ROUNDS} rounds", _DEFECT)
    alone = edges.select(F.explode(F.array("source", "target")).alias("vertex"))
    of_star = bent.select(F.col("high").alias("vertex"), F.col("low").alias("component"))
    return (
        alone.distinct()
        .join(of_star, "vertex", "left")
        .select("vertex", F.coalesce("component", "vertex").alias("component"))
    )


def spark_verify(edges: DataFrame, labelled: DataFrame) -> None:
    """Check `vertex, component` against the edges as `verify` does."""
    ends = edges.select(F.explode(F.array("source", "target")).alias("vertex")).distinct()
    n = labelled.groupBy("vertex").count().join(ends.withColumn("is_linked", F.lit(1)), "vertex", "full")
    if not n.where("count IS NULL OR count > 1 OR is_linked IS NULL").isEmpty():
        raise DataError("the utterances in components are not those that are linked", _DEFECT)
    of_source = labelled.select(F.col("vertex").alias("source"), F.col("component").alias("of_source"))
    of_target = labelled.select(F.col("vertex").alias("target"), F.col("component").alias("of_target"))
    joined = edges.join(of_source, "source").join(of_target, "target")
    _check(edges.count(), joined.where("of_source <> of_target").count())
    own = labelled.where("vertex = component").select("component")
    if not labelled.join(own, "component", "left_anti").isEmpty():
        raise DataError("a component is named by a vertex that is not its own", _DEFECT)


def _check(n_edges: int, n_leaving: int) -> None:
    if n_leaving:
        raise DataError(f"{n_leaving:,} of {n_edges:,} links leave their component", _DEFECT)


def _ordered(edges: DataFrame) -> DataFrame:
    """Edges without direction: `high, low`."""
    return edges.select(F.greatest("source", "target").alias("high"), F.least("source", "target").alias("low"))


def _large_star(edges: DataFrame) -> DataFrame:
    """Every vertex hands its larger neighbours to the smallest vertex it knows."""
    both = edges.select(F.col("high").alias("vertex"), F.col("low").alias("neighbour")).unionByName(
        edges.select(F.col("low").alias("vertex"), F.col("high").alias("neighbour"))
    )
    smallest = both.groupBy("vertex").agg(F.min("neighbour").alias("smallest"))
    joined = both.where("neighbour > vertex").join(smallest, "vertex")
    return joined.select(F.col("neighbour").alias("high"), F.least("smallest", "vertex").alias("low")).distinct()


def _small_star(edges: DataFrame) -> DataFrame:
    """Every vertex hands itself and its smaller neighbours to the smallest of them."""
    smallest = edges.groupBy("high").agg(F.min("low").alias("smallest"))
    joined = edges.join(smallest, "high")
    handed = joined.where("low <> smallest").select(F.col("low").alias("high"), F.col("smallest").alias("low"))
    return handed.unionByName(smallest.select("high", F.col("smallest").alias("low"))).distinct()
