"""Ingest: what a log says of an assistant's turns, made fit to learn from."""

from selflearn.turns.ingest import Ingested, ingest
from selflearn.turns.launch import LAUNCH_COLUMNS, read_launch_set
from selflearn.turns.read_errors import clear_read_errors
from selflearn.turns.source import has_logs, read_source
from selflearn.turns.text import (
    canonical_locale,
    clean_text,
    frame_goal,
    hash_user,
    mask_personal_data,
    normalise_text,
    utterance_id,
)

__all__ = [
    "LAUNCH_COLUMNS",
    "Ingested",
    "canonical_locale",
    "clean_text",
    "clear_read_errors",
    "frame_goal",
    "has_logs",
    "hash_user",
    "ingest",
    "mask_personal_data",
    "normalise_text",
    "read_launch_set",
    "read_source",
    "utterance_id",
]
