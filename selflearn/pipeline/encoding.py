"""Training an encoder on the tables of a lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import selflearn
from selflearn.graph import cap_users
from selflearn.lakehouse import tables
from selflearn.lakehouse.store import Lakehouse, versions
from selflearn.settings import Settings
from selflearn.turns import read_launch_set
from selflearn.variants.sample import sample_corpus
from selflearn.variants.training import TrainedEncoder, require_torch, train_encoder

_READ = (tables.TURNS, tables.TURN_OUTCOMES, tables.REPHRASE_PAIRS)


def train_on_lake(
    lake: Lakehouse, settings: Settings, days: Sequence[date] | None, seed: int = 0
) -> tuple[TrainedEncoder, Mapping[str, Any]]:
    """Train on what was said on some days, or on all there are, and on the launch set where the settings name one.

    Returns the encoder, and what it was trained on.

    Raises:
        DataError: the lake has no such turns, or too little to learn from.
        InfrastructureError: the extra `encoder` is not installed.
    """
    require_torch()
    turns, outcomes, pairs = (lake.read(table) if days is None else lake.read(table, turn_date=days) for table in _READ)
    # One who talks all day counts as much as in the graph.
    turns, _ = cap_users(turns, settings.graph)
    launch = None
    if settings.launch:
        launch = read_launch_set(lake.spark, settings.launch, settings.turns.mask_personal_data)
    provenance = {
        "selflearn": selflearn.__version__,
        "settings_fingerprint": settings.fingerprint(),
        "tables": dict(versions(lake, _READ)),
        "days": None if days is None else [min(days).isoformat(), max(days).isoformat()],
        "is_launch_set_read": launch is not None,
    }
    return train_encoder(sample_corpus(turns, outcomes, pairs, launch), seed), provenance
