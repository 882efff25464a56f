"""The Delta tables of goal variants; `tables` lists them with all others."""

from __future__ import annotations

from pyspark.sql.types import ArrayType

from selflearn.lakehouse.schema import DATE, DOUBLE, FLOAT, STRING, Table, columns, optional, probability, required

UTTERANCES = Table(
    "utterances",
    columns(
        required("locale", STRING),
        required("utterance_id", STRING),
        required("encoder_id", STRING),
        required("text", STRING),
        required("vector", ArrayType(FLOAT)),
    ),
    key=("utterance_id", "encoder_id"),
    partition=("locale",),
)

GOAL_VARIANTS = Table(
    "goal_variants",
    columns(
        required("as_of", DATE),
        required("left_locale", STRING),
        required("right_locale", STRING),
        required("left_utterance", STRING),
        required("right_utterance", STRING),
        required("kind", STRING),
        optional("cosine", DOUBLE),
        required("p_same_goal", DOUBLE),
    ),
    key=("as_of", "left_utterance", "right_utterance"),
    partition=("as_of",),
    checks={
        **probability("p_same_goal"),
        "kind_is_known": "kind IN ('exact', 'semantic')",
        "ends_are_in_order": "left_utterance < right_utterance",
    },
)

VARIANT_MODELS = Table(
    "variant_models",
    columns(
        required("as_of", DATE),
        required("encoder_id", STRING),
        required("content", STRING),
    ),
    key=("as_of",),
    partition=("as_of",),
)
