"""Labelling, as of a day: goal posteriors to weak labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.encoding import Encoder, load_encoder, load_on_worker
from selflearn.graph import window_days
from selflearn.labels import (
    MAX_UTTERANCES,
    Calibration,
    chosen_labels,
    fit_calibration,
    launch_error,
    learn_tags,
    weak_labels,
    with_outcomes,
    with_support,
)
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import landing
from selflearn.pipeline.encoders import encoder_name
from selflearn.pipeline.learning import launch_set
from selflearn.pipeline.stage import Stage, StageContext


def run_label(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Goal posteriors as of the last day to `weak_labels`."""
    lake, as_of = context.lake, max(days)
    nodes = lake.read(tables.GRAPH_NODES, as_of=[as_of])
    evidence = lake.read(tables.EVIDENCE, turn_date=window_days(as_of, context.settings.graph))
    edges = lake.read(tables.GRAPH_EDGES, as_of=[as_of])
    with landing(lake, context.label.run_id) as land:
        chosen = land(chosen_labels(nodes, context.settings.labels, _calibration(context, nodes)))
        load = _encoder(context)
        labels = with_support(weak_labels(chosen, learn_tags(chosen, load), load), evidence, edges)
        context.replace(tables.WEAK_LABELS, labels, as_of=[as_of])
        left_out = chosen.count() - lake.read(tables.WEAK_LABELS, as_of=[as_of]).count()
        context.metrics["labels_contradicted"] = float(left_out)
    return [as_of]


LABEL = Stage("label", run_label, (tables.GRAPH_NODES, tables.GRAPH_EDGES, tables.EVIDENCE), (tables.WEAK_LABELS,))


def _encoder(context: StageContext) -> Callable[[], Encoder] | None:
    """What loads the encoder in use; the untrained one knows no more than the letters do, and is not asked."""
    name = encoder_name(context)
    return partial(load_on_worker, name, load_encoder(name).encoder_id) if name else None


def _calibration(context: StageContext, nodes: DataFrame) -> Calibration:
    """Fitted on what outcomes tell; how well it holds on them, and on the launch set, is noted."""
    fitted = fit_calibration(with_outcomes(nodes))
    noted = {f"label_calibration_{name}": value for name, value in vars(fitted.calibration).items()}
    noted["label_calibration_utterances"] = float(fitted.n_utterances)
    noted["label_calibration_error_before"] = fitted.error_before
    noted["label_calibration_error"] = fitted.error
    launch = launch_set(context)
    if launch is not None:
        known = launch.select("utterance_id", "goal").distinct().orderBy("utterance_id", "goal").limit(MAX_UTTERANCES)
        rows = nodes.join(F.broadcast(known.select("utterance_id").distinct()), "utterance_id", "left_semi").toPandas()
        error = launch_error(rows.sort_values(["utterance_id", "goal"]), known.toPandas(), fitted.calibration)
        noted["label_calibration_error_launch"] = error
        noted["label_calibration_drift"] = error - fitted.error
    context.metrics.update({name: value for name, value in noted.items() if not math.isnan(value)})
    return fitted.calibration
