"""The encoder of a lake, and the vectors that it made of the lake's utterances."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.encoding.encoder import Encoder, check_dimensions, load_encoder
from selflearn.encoding.static_encoder import StaticEncoder
from selflearn.errors import SettingsError
from selflearn.lakehouse import tables
from selflearn.pipeline.stage import StageContext

ENCODERS = "_encoders"
"""Folder of the lake that holds the encoders trained for it, one folder each; the last by name is the newest."""


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


def encoder_in_use(context: StageContext) -> tuple[str | None, Encoder]:
    """The encoder and its name; the run's message tells which it is."""
    name = encoder_name(context)
    encoder = load_encoder(name)
    context.message = f"encoder {encoder.encoder_id}"
    return name, encoder


def encoded(context: StageContext, encoder: Encoder) -> DataFrame:
    """Rows of `tables.UTTERANCES` that an encoder made.

    Raises:
        DataError: their vectors have another dimension than the encoder's.
    """
    rows = context.lake.read(tables.UTTERANCES).where(F.col("encoder_id") == encoder.encoder_id)
    cached = rows.select(F.size("vector").alias("dimension")).limit(1).collect()
    check_dimensions(encoder, [row["dimension"] for row in cached])
    return rows


def pretrained_vectors(context: StageContext) -> DataFrame | None:
    """`utterance_id, text, vector` of a pretrained encoder; None where none is in use, or nothing was encoded.

    One that was trained on the log has learnt how its utterances were read, and would have them confirm themselves.
    """
    name = encoder_name(context)
    if name is None or not context.lake.exists(tables.UTTERANCES):
        return None
    encoder = load_encoder(name)
    if isinstance(encoder, StaticEncoder):
        return None
    return encoded(context, encoder).select("utterance_id", "text", "vector")
