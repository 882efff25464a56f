"""Learning, as of a day: a window of evidence to goal posteriors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.graph import (
    FIRST,
    FittedWeights,
    GoalIntents,
    PoolWeights,
    Refit,
    Vectors,
    ambiguous_utterances,
    anchor_candidates,
    by_words,
    first_messages,
    fit_refit,
    fit_strengths,
    fit_to_outcomes,
    fit_weights,
    goal_intents,
    goal_masses,
    goal_names,
    goal_prior,
    graph_edges,
    graph_nodes,
    launch_calibration_error,
    links,
    merge_messages,
    outcome_candidates,
    own_beliefs,
    pool_evidence,
    significant,
    sum_window,
    window_days,
    with_refit,
)
from selflearn.graph.weights import MAX_ANCHORS, MIN_ANCHORS
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import landing
from selflearn.nlu import Example
from selflearn.pipeline.encoders import pretrained_vectors
from selflearn.pipeline.stage import Stage, StageContext
from selflearn.turns import read_launch_set


def run_graph(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Evidence of the window that ends with the last day to `graph_nodes`, `graph_edges`, `ambiguous_utterances`."""
    lake, settings, as_of = context.lake, context.settings.graph, max(days)
    evidence = lake.read(tables.EVIDENCE, turn_date=window_days(as_of, settings))
    # What was served under a rewrite says nothing of the utterance itself.
    window = sum_window(evidence.where("kind <> 'rewrite'"), as_of, settings)
    context.replace(tables.GRAPH_EDGES, graph_edges(window, as_of), as_of=[as_of])
    edges = significant(lake.read(tables.GRAPH_EDGES, as_of=[as_of]))
    with landing(lake, context.label.run_id) as land:
        masses = land(goal_masses(window))
        prior = goal_prior(masses)
        words = land(by_words(window.utterances))
        strengths = fit_strengths(words, prior)
        context.metrics.update({f"context_strength_{locale}": found for locale, found in strengths.items()})
        beliefs = land(own_beliefs(words, settings, FIRST, prior, strengths))
        messages = first_messages(links(edges, _variants(context, as_of)), beliefs)
        merged = merge_messages(window.merges, masses, prior)
        pooled = land(pool_evidence(beliefs, messages, merged, settings, FIRST, prior))
        vectors = pretrained_vectors(context)
        weights, refit = _fitted(context, pooled, masses, vectors)
        if vectors is not None and refit is not None and refit.dimension:
            pooled = pooled.join(vectors.select("utterance_id", "vector"), "utterance_id", "left")
        nodes = graph_nodes(pooled, goal_names(masses), weights, as_of, refit)
        context.replace(tables.GRAPH_NODES, nodes, as_of=[as_of])
    unclear = ambiguous_utterances(lake.read(tables.GRAPH_NODES, as_of=[as_of]))
    context.replace(tables.AMBIGUOUS_UTTERANCES, unclear, as_of=[as_of])
    return [as_of]


GRAPH = Stage(
    "graph",
    run_graph,
    (tables.EVIDENCE, tables.UTTERANCES, tables.GOAL_VARIANTS),
    (tables.GRAPH_EDGES, tables.GRAPH_NODES, tables.AMBIGUOUS_UTTERANCES),
)


def _variants(context: StageContext, as_of: date) -> DataFrame | None:
    """Goal variants as of the day, where the lake has such a table."""
    if not context.lake.exists(tables.GOAL_VARIANTS):
        return None
    return context.lake.read(tables.GOAL_VARIANTS, as_of=[as_of])


def _fitted(
    context: StageContext, pooled: DataFrame, masses: DataFrame, vectors: DataFrame | None
) -> tuple[PoolWeights, Refit | None]:
    """The refit, and weights fitted on the outcomes of the traffic, the defaults where there are too few.

    What the launch set would make of them is noted beside them, and how well either truth calibrates those in use.
    """
    launch, candidates = launch_set(context), outcome_candidates(pooled)
    anchors = None if launch is None else anchor_candidates(pooled, launch)
    learnt_from = _examples(launch)
    known = _vectors_at_hand(vectors, (candidates, anchors, learnt_from))
    refit = _refit(candidates, goal_intents(masses), learnt_from, known)
    if refit is not None:
        candidates = with_refit(candidates, refit, known)
    context.metrics["pool_is_refitted"] = float(refit is not None)
    fitted = fit_to_outcomes(candidates)
    _note_fit(context, "pool", fitted)
    if anchors is not None:
        anchors = anchors if refit is None else with_refit(anchors, refit, known)
        by_launch = fit_weights(anchors)
        _note_fit(context, "launch_pool", by_launch)
        if min(by_launch.n_anchors, fitted.n_anchors) >= MIN_ANCHORS:
            error = launch_calibration_error(anchors, fitted.weights)
            context.metrics["pool_calibration_error_launch"] = error
            context.metrics["pool_calibration_drift"] = error - fitted.calibration_error
    return fitted.weights, refit


def _examples(launch: DataFrame | None) -> pd.DataFrame:
    """Sentences that a refit learns from: `utterance_id, normalised_text, context, intent`, as many as of the log."""
    columns = ["utterance_id", "normalised_text", "context", "intent"]
    if launch is None:
        return pd.DataFrame(columns=columns)
    return launch.select(*columns).distinct().orderBy(*columns).limit(MAX_ANCHORS).toPandas()


def _vectors_at_hand(vectors: DataFrame | None, rows: Iterable[pd.DataFrame | None]) -> Vectors | None:
    """Vectors of the texts of some rows with an `utterance_id`."""
    if vectors is None:
        return None
    wanted = pd.concat([some["utterance_id"] for some in rows if some is not None]).drop_duplicates().to_frame()
    ids = vectors.sparkSession.createDataFrame(wanted.astype(str), "utterance_id string")
    found = vectors.join(F.broadcast(ids), "utterance_id", "left_semi").select("text", "vector").toPandas()
    return dict(zip(found["text"], found["vector"], strict=True))


def _refit(
    candidates: pd.DataFrame, intents: GoalIntents | None, learnt_from: pd.DataFrame, vectors: Vectors | None
) -> Refit | None:
    if intents is None:
        return None
    known = learnt_from[["normalised_text", "context", "intent"]].itertuples(index=False)
    return fit_refit(candidates, intents, [Example(*row) for row in known], vectors)


def _note_fit(context: StageContext, name: str, fitted: FittedWeights) -> None:
    context.metrics[f"{name}_anchors"] = float(fitted.n_anchors)
    context.metrics.update({f"{name}_weight_{source}": weight for source, weight in vars(fitted.weights).items()})
    if fitted.n_anchors >= MIN_ANCHORS:
        for measure in ("log_likelihood_default", "log_likelihood_fitted", "calibration_error"):
            context.metrics[f"{name}_{measure}"] = getattr(fitted, measure)


def launch_set(context: StageContext) -> DataFrame | None:
    """The launch set, None where the settings name none."""
    source = context.settings.launch
    if source is None:
        return None
    return read_launch_set(context.spark, source, context.settings.turns.mask_personal_data)
