"""Utterances to vectors, day by day; vectors and evidence of a window to goal variants, as of a day."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.encoding.encoder import Encoder
from selflearn.encoding.static_encoder import StaticEncoder
from selflearn.graph import sum_window, window_days
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import Land, landing
from selflearn.lakehouse.store import versions
from selflearn.pipeline.days import with_changed_day_before
from selflearn.pipeline.encoders import encoded, encoder_in_use
from selflearn.pipeline.learning import launch_set
from selflearn.pipeline.stage import Stage, StageContext
from selflearn.variants import Limits, at_hand, goal_variants, known_goals, nearest_pairs
from selflearn.variants.embedding import embed_utterances

logger = logging.getLogger(__name__)


def run_embed(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Distinct utterances of the days' turns, and of the launch set, that are not encoded yet to `utterances`."""
    lake, (name, encoder) = context.lake, encoder_in_use(context)
    days = with_changed_day_before(context, "embed", "ingest", days)
    lake.create(tables.UTTERANCES)
    encoded(context, encoder)
    seen = versions(lake, [tables.UTTERANCES])[tables.UTTERANCES.name]
    columns = ("locale", "utterance_id", F.col("normalised_text").alias("text"))
    said, launch = lake.read(tables.TURNS, turn_date=days).select(*columns), launch_set(context)
    if launch is not None:
        said = said.unionByName(launch.select(*columns))
    said = said.withColumn("encoder_id", F.lit(encoder.encoder_id))
    with landing(lake, context.label.run_id) as land:
        new = land(lake.absent(tables.UTTERANCES, said.distinct()))
        # An insert of nothing would still be a version, and make the stages after this one look undone.
        if not new.isEmpty():
            context.insert(tables.UTTERANCES, embed_utterances(new, name), seen)
    return days


def run_variants(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Evidence of the window that ends with the last day, and vectors, to `goal_variants` and `variant_models`."""
    settings, as_of = context.settings.variants, max(days)
    _, encoder = encoder_in_use(context)
    with landing(context.lake, context.label.run_id) as land:
        utterances = _utterances(context, encoder, as_of, land)
        limits = Limits(**settings.model_dump(exclude={"encoder"}))
        pairs, metrics = nearest_pairs(_with_vectors(context, encoder, utterances), limits, land)
        found = goal_variants(land(pairs), utterances, settings, isinstance(encoder, StaticEncoder), land)
        context.metrics.update(metrics | found.metrics)
        rows = found.rows.withColumn("as_of", F.lit(as_of))
        context.replace(tables.GOAL_VARIANTS, rows, as_of=[as_of])
    model = context.spark.createDataFrame(
        [(as_of, encoder.encoder_id, found.model.to_json())], tables.VARIANT_MODELS.schema
    )
    context.replace(tables.VARIANT_MODELS, model.coalesce(1), as_of=[as_of])
    return [as_of]


EMBED = Stage("embed", run_embed, (tables.TURNS,), (tables.UTTERANCES,))
VARIANTS = Stage(
    "variants",
    run_variants,
    (tables.EVIDENCE, tables.UTTERANCES),
    (tables.GOAL_VARIANTS, tables.VARIANT_MODELS),
)


def _utterances(context: StageContext, encoder: Encoder, as_of: date, land: Land) -> DataFrame:
    """The window's utterances that are encoded: `known_goals.KNOWN` and text."""
    vectors = encoded(context, encoder)
    graph = context.settings.graph
    # What was served under a rewrite says nothing of the utterance itself; pairs are not looked at here.
    kinds = F.col("kind").isin("utterance", "reading")
    evidence = context.lake.read(tables.EVIDENCE, turn_date=window_days(as_of, graph)).where(kinds)
    said = known_goals(sum_window(evidence, as_of, graph).utterances, launch_set(context))
    texts = vectors.select("utterance_id", "text")
    utterances = land(said.join(texts, "utterance_id", "left"))
    n_without = utterances.where(F.col("text").isNull()).count()
    context.metrics["utterances_not_encoded"] = float(n_without)
    if n_without:
        logger.warning(
            "%d utterances of the window have no vector by %s: run the stage embed over the window's days",
            n_without,
            encoder.encoder_id,
        )
    return utterances.where(F.col("text").isNotNull())


def _with_vectors(context: StageContext, encoder: Encoder, utterances: DataFrame) -> DataFrame:
    """What `nearest_pairs` takes."""
    # Of several people two are enough to tell that it was not one.
    said = at_hand(utterances.select("locale", "utterance_id", F.slice("users", 1, 2).alias("users")))
    return said.join(encoded(context, encoder).select("utterance_id", "vector"), "utterance_id")
