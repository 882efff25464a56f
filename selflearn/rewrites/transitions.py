"""From evidence to the chain of wordings and its result, on the driver or, above a limit, on the workers.

Utterances and goals go by 64-bit hashes: of 100 million, two share one with a chance of one in 4,000.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from selflearn.errors import DataError
from selflearn.lakehouse.landing import Land
from selflearn.ragged import Floats, Ints, max_of
from selflearn.rewrites.chain import ABANDONED, OTHER_GOALS, TOLERANCE, Chain, absorb
from selflearn.rewrites.components import components, spark_components, spark_verify, verify

CHANCES = (
    "utterance bigint, component bigint, goal bigint, p_success double, p_abandoned double, n_states bigint, "
    "residual double"
)
"""Of each linked utterance: its component and that one's size, the goal that those who begin with it reach most often
(null where they reach none), how often they do, and how often they give up."""
_LEAST = 1e-4
_LINKS_AT_ONCE = 2_000_000


def key(name: Column) -> Column:
    """What stands for an utterance or a goal in a chain."""
    return F.xxhash64(name)


def exits(evidence: DataFrame) -> DataFrame:
    """How an utterance was left: `utterance_id, goal, mass`.

    The mass of a goal is that of the turns that were acted on as that goal and worked, the mass of none (null) that of
    the turns that were given up. `evidence` has rows of `graph.weighted`.
    """
    is_reading = F.col("kind") == "reading"
    worked = F.greatest(F.lit(0.0), F.col("n_outcomes") - F.col("friction_sum"))
    return (
        evidence.where("kind IN ('reading', 'utterance')")
        .groupBy(F.col("source_utterance").alias("utterance_id"), F.when(is_reading, F.col("target")).alias("goal"))
        .agg(F.sum(F.col("weight") * F.when(is_reading, worked).otherwise(F.col("gave_up_sum"))).alias("mass"))
        .where("mass > 0")
    )


def transitions(edges: DataFrame, left: DataFrame) -> DataFrame:
    """The chain's masses: `source, target, goal, mass`, by keys; no target and no goal stand for giving up.

    `edges` has columns of `tables.GRAPH_EDGES`, `left` those of `exits`; utterances without a link are left out.
    """
    mass = (F.col("n_pairs") * F.col("p_rephrase")).alias("mass")
    links = edges.select(
        key(F.col("source_utterance")).alias("source"),
        key(F.col("target_utterance")).alias("target"),
        F.lit(None).cast("bigint").alias("goal"),
        mass,
    )
    linked = links.select(F.explode(F.array("source", "target")).alias("source")).distinct()
    goal = F.when(F.col("goal").isNotNull(), key(F.col("goal"))).alias("goal")
    ways_out = left.select(key(F.col("utterance_id")).alias("source"), goal, "mass").join(linked, "source", "left_semi")
    return links.unionByName(ways_out.withColumn("target", F.lit(None).cast("bigint")))


def chances(masses: DataFrame, most_on_driver: int, land: Land) -> DataFrame:
    """Solve the chain of `transitions`; columns of `CHANCES`.

    Up to `most_on_driver` rows are solved by the driver. Above that, components are found by Spark, and each worker
    solves some whole ones; the result is the same.

    Raises:
        DataError: components or the solution do not stand the check.
    """
    masses = land(masses)
    n_rows = masses.count()
    if n_rows <= most_on_driver:
        solved = solve(masses.toArrow())
        return masses.sparkSession.createDataFrame(solved, CHANCES)
    links = masses.where("target IS NOT NULL")
    labelled = land(spark_components(links, land))
    spark_verify(links, labelled)
    bucket = F.pmod(F.xxhash64("component"), F.lit(-(-n_rows // _LINKS_AT_ONCE))).alias("bucket")
    of_vertex = labelled.select(F.col("vertex").alias("source"), bucket)
    return masses.join(of_vertex, "source").groupBy("bucket").applyInArrow(_solve_bucket, CHANCES)


def solve(masses: pa.Table) -> pa.Table:
    """`CHANCES` from `transitions` of whole components, in whatever order; sorted by utterance.

    Raises:
        DataError: components or the solution do not stand the check.
    """
    is_link = pc.is_valid(masses["target"])
    links, left = masses.filter(is_link), masses.filter(pc.invert(is_link))
    source, target = links["source"].to_numpy(), links["target"].to_numpy()
    vertices, component = components(source, target)
    start, end = verify(source, target, vertices, component)
    n = len(vertices)
    goals = left["goal"].combine_chunks().dictionary_encode()
    names = goals.dictionary.to_numpy()
    column = goals.indices.fill_null(-1).to_numpy()
    by_name = np.argsort(names)
    rank = np.append(np.argsort(by_name), ABANDONED - OTHER_GOALS - 1)
    at = np.searchsorted(vertices, left["source"].to_numpy())
    chain = Chain.of_masses(
        sparse.coo_array((links["mass"].to_numpy(), (start, end)), (n, n)),
        sparse.coo_array((left["mass"].to_numpy(), (at, OTHER_GOALS + 1 + rank[column])), (n, len(names) + 2)),
    )
    _, of_vertex, sizes = np.unique(component, return_inverse=True, return_counts=True)
    found = absorb(chain, of_vertex, _LEAST)
    if found.residual > 10 * TOLERANCE:
        raise DataError(
            f"the chain's residual is {found.residual:.1e}, at most {10 * TOLERANCE:.0e} may be",
            "this is a defect of the solver; report it with this message",
        )
    goal, p_success = _likeliest(found.chances, names[by_name])
    columns = {
        "utterance": vertices,
        "component": component,
        "goal": goal,
        "p_success": p_success,
        "p_abandoned": found.chances[:, [ABANDONED]].toarray().ravel(),
        "n_states": sizes[of_vertex],
        "residual": np.full(n, found.residual),
    }
    return pa.table(columns)


def _likeliest(chances: sparse.csr_array, names: Ints) -> tuple[pa.Array, Floats]:
    """The goal that each state ends at most often, the first of equals, and how often; null where there is none."""
    is_goal = chances.indices > OTHER_GOALS
    offsets = np.concatenate([[0], np.cumsum(is_goal)])[chances.indptr]
    data, exit = chances.data[is_goal], chances.indices[is_goal]
    most = max_of(data, offsets, 0.0)
    row = np.repeat(np.arange(len(most)), np.diff(offsets))
    is_most = np.flatnonzero(data == most[row])
    first = np.unique(row[is_most], return_index=True)
    goal = np.zeros(len(most), dtype=np.int64)
    goal[first[0]] = names[exit[is_most[first[1]]] - OTHER_GOALS - 1]
    return pa.array(goal, mask=most == 0), most


def _solve_bucket(masses: pa.Table) -> pa.Table:
    return solve(masses.drop_columns("bucket"))
