"""Utterances to vectors, day by day; vectors and evidence of a window to goal variants, as of a day."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.encoding.encoder import Encoder, check_dimensions, load_encoder
from selflearn.encoding.static_encoder import StaticEncoder
from selflearn.errors import SettingsError
from selflearn.graph import sum_window, window_days
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import Land, landing
from selflearn.lakehouse.store import versions
from selflearn.pipeline.days import with_changed_day_before
from selflearn.pipeline.learning import launch_set
from selflearn.pipeline.stage import Stage, StageContext
from selflearn.variants import Limits, at_hand, goal_variants, known_goals, nearest_pairs
from selflearn.variants.embedding import embed_utterances

logger = logging.getLogger(__name__)

ENCODERS = "_encoders"
"""Folder of the lake that holds the encoders trained for it, one folder each; the last by name is the newest."""


def run_embed(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Distinct utterances of the days' turns that are not encoded yet to `utterances`."""
    lake, (name, encoder) = context.lake, _encoder(context)
    days = with_changed_day_before(context, "embed", "ingest", days)
    lake.create(tables.UTTERANCES)
    _check_cached(context, encoder)
    seen = versions(lake, [tables.UTTERANCES])[tables.UTTERANCES.name]
    said = lake.read(tables.TURNS, turn_date=days).select(
        "locale", "utterance_id", F.lit(encoder.encoder_id).alias("encoder_id"), F.col("normalised_text").alias("text")
    )
    with landing(lake, context.label.run_id) as land:
        new = land(lake.absent(tables.UTTERANCES, said.distinct()))
        # An insert of nothing would still be a version, and make the stages after this one look undone.
        if not new.isEmpty():
            context.insert(tables.UTTERANCES, embed_utterances(new, name), seen)
    return days


def run_variants(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Evidence of the window that ends with the last day, and vectors, to `goal_variants` and `variant_models`."""
    settings, as_of = context.settings.variants, max(days)
    _, encoder = _encoder(context)
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


def newest_encoder(lake: str) -> str | None:
    """Folder of the newest encoder that was trained for the lake; none of a lake that is no local folder."""
    folder = Path(lake) / ENCODERS
    trained = sorted(folder.glob("*/modules.json"))
    return str(trained[-1].parent) if trained else None


def new_encoder(lake: str, now: datetime) -> Path:
    """Folder for an encoder that is trained now: the newest of the lake, once it is there.

    Raises:
        SettingsError: the lake is no local folder.
    """
    if "://" in lake:
        raise SettingsError(f"lake {lake} is no local folder", "give --out, and name that folder as variants.encoder")
    return Path(lake) / ENCODERS / f"{now:%Y%m%dT%H%M%SZ}"


def encoder_name(context: StageContext) -> str | None:
    """The encoder in use: that of the settings, else the newest that was trained for the lake, if there is any."""
    return context.settings.variants.encoder or newest_encoder(context.lake.root)


def _encoder(context: StageContext) -> tuple[str | None, Encoder]:
    name = encoder_name(context)
    encoder = load_encoder(name)
    context.message = f"encoder {encoder.encoder_id}"
    return name, encoder


def _check_cached(context: StageContext, encoder: Encoder) -> None:
    cached = _cached(context, encoder).select(F.size("vector").alias("dimension")).limit(1).collect()
    check_dimensions(encoder, [row["dimension"] for row in cached])


def _cached(context: StageContext, encoder: Encoder) -> DataFrame:
    return context.lake.read(tables.UTTERANCES).where(F.col("encoder_id") == encoder.encoder_id)


def _utterances(context: StageContext, encoder: Encoder, as_of: date, land: Land) -> DataFrame:
    """The window's utterances that are encoded: `known_goals.KNOWN` and text."""
    _check_cached(context, encoder)
    graph = context.settings.graph
    # What was served under a rewrite says nothing of the utterance itself; pairs are not looked at here.
    kinds = F.col("kind").isin("utterance", "reading")
    evidence = context.lake.read(tables.EVIDENCE, turn_date=window_days(as_of, graph)).where(kinds)
    said = known_goals(sum_window(evidence, as_of, graph).utterances, launch_set(context))
    texts = _cached(context, encoder).select("utterance_id", "text")
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
    return said.join(_cached(context, encoder).select("utterance_id", "vector"), "utterance_id")
