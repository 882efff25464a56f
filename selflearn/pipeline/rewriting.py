"""Rewriting, as of a day: the graph of wordings, solved as a chain, to rewrites and their states."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.graph import significant, weighted, window_days
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import landing
from selflearn.pipeline.stage import Stage, StageContext
from selflearn.rewrites import candidates, chances, exits, judged, priors, select_rewrites, transitions


def run_rewrite(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Graph and evidence as of the last day to `rewrites`."""
    lake, settings, as_of = context.lake, context.settings, max(days)
    window = lake.read(tables.EVIDENCE, turn_date=window_days(as_of, settings.graph))
    evidence = weighted(window, as_of, settings.graph)
    nodes = lake.read(tables.GRAPH_NODES, as_of=[as_of])
    edges = significant(lake.read(tables.GRAPH_EDGES, as_of=[as_of]))
    with landing(lake, context.label.run_id) as land:
        left = land(exits(evidence))
        chained = land(chances(transitions(edges, left), settings.rewrites.max_links_on_driver, land))
        _note_chain(context, chained)
        possible = candidates(evidence, nodes, edges, left, chained, settings.rewrites, land)
        found = land(judged(possible, evidence, priors(nodes), settings.rewrites))
        context.metrics["rewrite_candidates"] = float(found.count())
        rewrites = select_rewrites(found, _earlier(context, as_of), as_of, settings.rewrites)
        context.replace(tables.REWRITES, rewrites, as_of=[as_of])
    return [as_of]


REWRITE = Stage("rewrite", run_rewrite, (tables.EVIDENCE, tables.GRAPH_NODES, tables.GRAPH_EDGES), (tables.REWRITES,))


def _note_chain(context: StageContext, chained: DataFrame) -> None:
    row = chained.agg(
        F.count(F.lit(1)).alias("chain_utterances"),
        F.count_if(F.col("utterance") == F.col("component")).alias("chain_components"),
        F.max("n_states").alias("chain_largest_component"),
        F.max("residual").alias("chain_residual"),
    ).first()
    if row is not None:
        context.metrics.update({name: float(value or 0) for name, value in row.asDict().items()})


def _earlier(context: StageContext, as_of: date) -> DataFrame:
    """Rewrites as of the newest day before, where there is one."""
    lake = context.lake
    if not lake.exists(tables.REWRITES):
        return context.spark.createDataFrame([], tables.REWRITES.schema)
    before = lake.read(tables.REWRITES).where(F.col("as_of") < F.lit(as_of))
    newest = before.agg(F.max("as_of").alias("as_of")).first()
    return before.where(F.col("as_of") == F.lit(newest["as_of"] if newest else None))
