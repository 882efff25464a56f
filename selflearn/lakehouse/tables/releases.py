"""Tables of what is released, and of every run."""

from __future__ import annotations

from pyspark.sql.types import ArrayType, MapType

from selflearn.lakehouse.schema import (
    BOOLEAN,
    DATE,
    DOUBLE,
    LONG,
    SPAN,
    STRING,
    TIMESTAMP,
    WEIGHED_INTENT,
    Table,
    columns,
    optional,
    required,
)

TRAINING_SETS = Table(
    "training_sets",
    columns(
        required("release_id", STRING),
        required("example_id", STRING),
        required("split", STRING),
        required("origin", STRING),
        required("locale", STRING),
        required("context", STRING),
        required("text", STRING),
        required("intent", STRING),
        required("slots", ArrayType(SPAN)),
        required("is_intent_only", BOOLEAN),
        required("annotated_utterance", STRING),
        required("weight", DOUBLE),
        required("other_intents", ArrayType(WEIGHED_INTENT)),
        optional("utterance_id", STRING),
        optional("reason", STRING),
    ),
    key=("release_id", "example_id"),
    partition=("release_id",),
    checks={
        "split_is_known": "split IN ('train', 'validation', 'test')",
        "origin_is_known": "origin IN ('launch', 'corrected', 'hard_negative', 'confirmed', 'unsure')",
        "weight_is_positive": "weight > 0 AND weight <= 1",
    },
    published=True,
)

RELEASES = Table(
    "releases",
    columns(
        required("release_id", STRING),
        required("as_of", DATE),
        required("state", STRING),
        required("created_at", TIMESTAMP),
        required("settings_fingerprint", STRING),
        required("n_launch", LONG),
        required("n_corrected", LONG),
        required("n_hard_negatives", LONG),
        required("n_confirmed", LONG),
        required("n_unsure", LONG),
        optional("champion_id", STRING),
        required("reason", STRING),
        required("figures", MapType(STRING, DOUBLE)),
        required("issues", STRING),
        required("card", STRING),
    ),
    key=("release_id",),
    partition=("release_id",),
    checks={"state_is_known": "state IN ('published', 'rejected', 'withdrawn')"},
    published=True,
)

VETOES = Table(
    "vetoes",
    columns(
        required("veto_id", STRING),
        required("created_at", TIMESTAMP),
        optional("locale", STRING),
        optional("normalised_text", STRING),
        optional("intent", STRING),
        required("reason", STRING),
    ),
    key=("veto_id",),
    partition=("veto_id",),
    checks={"names_something": "normalised_text IS NOT NULL OR intent IS NOT NULL"},
)

RUNS = Table(
    "runs",
    columns(
        required("run_id", STRING),
        required("stage", STRING),
        required("days", ArrayType(DATE)),
        required("state", STRING),
        required("started_at", TIMESTAMP),
        required("finished_at", TIMESTAMP),
        required("settings_fingerprint", STRING),
        required("versions_read", MapType(STRING, LONG)),
        required("versions_written", MapType(STRING, LONG)),
        required("row_counts", MapType(STRING, LONG)),
        required("metrics", MapType(STRING, DOUBLE)),
        optional("message", STRING),
    ),
    key=("run_id",),
    partition=(),
    checks={"state_is_known": "state IN ('succeeded', 'failed')"},
)
