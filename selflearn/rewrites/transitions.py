"""From evidence to the chain of wordings and its result, on the driver or, above a limit, on the workers.

Utterances and goals go by 64-bit hashes: of 100 million, two share one with a chance of one in 4,000.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from selflearn.errors import DataError
from selflearn.lakehouse.landing import Land
from selflearn.ragged import Floats, Ints
from selflearn.rewrites.chain import ABANDONED, OTHER_GOALS, TOLERANCE, Block, Chain, blocks
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
    chain, vertices, component, names = _chain(masses)
    # What is not needed any more is let go of, for the rest takes as much memory again.
    del masses
    _, of_vertex, sizes = np.unique(component, return_inverse=True, return_counts=True)
    n = len(vertices)
    ends = _Ends.of(blocks(chain, of_vertex, _LEAST), n)
    if ends.residual > 10 * TOLERANCE:
        raise DataError(
            f"the chain's residual is {ends.residual:.1e}, at most {10 * TOLERANCE:.0e} may be",
            "this is a defect of the solver; report it with this message",
        )
    is_none = ends.exit <= OTHER_GOALS
    columns = {
        "utterance": vertices,
        "component": component,
        "goal": pa.array(np.append(names, 0)[np.where(is_none, -1, ends.exit - OTHER_GOALS - 1)], mask=is_none),
        "p_success": ends.p_success,
        "p_abandoned": ends.p_abandoned,
        "n_states": sizes[of_vertex],
        "residual": np.full(n, ends.residual),
    }
    return pa.table(columns)


def _chain(masses: pa.Table) -> tuple[Chain, Ints, Ints, Ints]:
    """The chain, its states in order and the component of each, and the goals that have an exit, in order."""
    is_link = pc.is_valid(masses["target"])
    links = masses.select(["source", "target", "mass"]).filter(is_link)
    left = masses.select(["source", "goal", "mass"]).filter(pc.invert(is_link))
    source, target = links["source"].to_numpy(), links["target"].to_numpy()
    vertices, component = components(source, target)
    start, end = verify(source, target, vertices, component)
    goals = left["goal"].combine_chunks().dictionary_encode()
    names = goals.dictionary.to_numpy()
    by_name = np.argsort(names)
    rank = np.append(np.argsort(by_name), ABANDONED - OTHER_GOALS - 1)
    exit = OTHER_GOALS + 1 + rank[goals.indices.fill_null(-1).to_numpy()]
    at, n = np.searchsorted(vertices, left["source"].to_numpy()), len(vertices)
    chain = Chain.of_masses(
        sparse.coo_array((links["mass"].to_numpy(), (start, end)), (n, n)),
        sparse.coo_array((left["mass"].to_numpy(), (at, exit)), (n, len(names) + 2)),
    )
    return chain, vertices, component, names[by_name]


@dataclass
class _Ends:
    """What becomes of those who begin in each state.

    Attributes:
        exit: the goal that they reach most often, the first of equals; `ABANDONED` where they reach none.
        p_success: how often they do.
        p_abandoned: how often they give up.
        residual: the largest of all blocks.
    """

    exit: Ints
    p_success: Floats
    p_abandoned: Floats
    residual: float = 0.0

    @classmethod
    def of(cls, solved: Iterable[Block], n_states: int) -> _Ends:
        ends = cls(np.full(n_states, ABANDONED), np.zeros(n_states), np.zeros(n_states))
        for block in solved:
            ends._learn(block)
        return ends

    def _learn(self, block: Block) -> None:
        is_left, is_goal = block.exit == ABANDONED, block.exit > OTHER_GOALS
        self.p_abandoned[block.state[is_left]] = block.chance[is_left]
        self.residual = max(self.residual, block.residual)
        state, exit, chance = (column[is_goal] for column in block[:3])
        first = np.flatnonzero(np.diff(state, prepend=-1))
        most = np.maximum.reduceat(chance, first) if len(first) else chance
        is_most = np.flatnonzero(chance == np.repeat(most, np.diff(first, append=len(state))))
        likeliest = is_most[np.flatnonzero(np.diff(state[is_most], prepend=-1))]
        of, exit = state[first], exit[likeliest]
        is_more = most > self.p_success[of]
        self.exit[of[is_more]], self.p_success[of[is_more]] = exit[is_more], most[is_more]


def _solve_bucket(masses: pa.Table) -> pa.Table:
    return solve(masses.drop_columns("bucket"))
