"""Tables that mining writes, day by day."""

from __future__ import annotations

from pyspark.sql.types import ArrayType

from selflearn.lakehouse.schema import (
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    HEARD_TEXT,
    INTEGER,
    LONG,
    READING,
    SLOT,
    STRING,
    TIMESTAMP,
    Table,
    columns,
    optional,
    probability,
    required,
)

TURNS = Table(
    "turns",
    columns(
        required("turn_date", DATE),
        required("turn_id", STRING),
        required("session_id", STRING),
        required("turn_index", INTEGER),
        required("user_id", STRING),
        required("ts", TIMESTAMP),
        required("locale", STRING),
        required("context", STRING),
        required("text", STRING),
        required("normalised_text", STRING),
        required("utterance_id", STRING),
        optional("text_alternatives", ArrayType(HEARD_TEXT)),
        optional("asr_score", DOUBLE),
        optional("intent", STRING),
        optional("slots", ArrayType(SLOT)),
        optional("goal", STRING),
        optional("nlu_score", DOUBLE),
        optional("nlu_alternatives", ArrayType(READING)),
        optional("prompt", STRING),
        optional("response", STRING),
        optional("fallback", BOOLEAN),
        optional("barge_in", BOOLEAN),
        optional("error", BOOLEAN),
        optional("cancelled", BOOLEAN),
        optional("completed", BOOLEAN),
        optional("feedback", INTEGER),
        optional("rewrite_id", STRING),
        optional("model_version", STRING),
    ),
    key=("turn_id",),
    partition=("turn_date",),
    checks={
        **probability("asr_score", "nlu_score"),
        "text_is_not_empty": "length(normalised_text) > 0",
        "feedback_is_a_sign": "feedback IS NULL OR feedback IN (-1, 0, 1)",
    },
)

QUARANTINE = Table(
    "quarantine",
    columns(
        required("turn_date", DATE),
        required("row_hash", STRING),
        required("reason", STRING),
        optional("offending_value", STRING),
        required("raw_row", STRING),
        optional("source_file", STRING),
    ),
    key=("row_hash",),
    partition=("turn_date",),
)

LEVEL_PATTERNS = Table(
    "level_patterns",
    columns(
        required("turn_date", DATE),
        required("model", STRING),
        required("pattern", STRING),
        required("n", LONG),
        required("seed_sum", DOUBLE),
    ),
    key=("turn_date", "model", "pattern"),
    partition=("turn_date",),
)

DETECTORS = Table(
    "detectors",
    columns(
        required("turn_date", DATE),
        required("model", STRING),
        required("content", STRING),
    ),
    key=("turn_date", "model"),
    partition=("turn_date",),
)

REPHRASE_PAIRS = Table(
    "rephrase_pairs",
    columns(
        required("turn_date", DATE),
        required("session_id", STRING),
        required("locale", STRING),
        required("user_id", STRING),
        required("source_turn_id", STRING),
        required("target_turn_id", STRING),
        required("source_turn_index", INTEGER),
        required("target_turn_index", INTEGER),
        required("source_utterance", STRING),
        required("target_utterance", STRING),
        required("pattern", STRING),
        required("p_friction_source", DOUBLE),
        required("p_friction_target", DOUBLE),
        required("p_same_goal", DOUBLE),
        required("p_rephrase", DOUBLE),
        optional("merged_goal", STRING),
        optional("p_merged", DOUBLE),
    ),
    key=("source_turn_id", "target_turn_id"),
    partition=("turn_date",),
    checks=probability("p_friction_source", "p_friction_target", "p_same_goal", "p_rephrase", "p_merged"),
)

TURN_OUTCOMES = Table(
    "turn_outcomes",
    columns(
        required("turn_date", DATE),
        required("turn_id", STRING),
        required("user_id", STRING),
        required("utterance_id", STRING),
        required("p_friction", DOUBLE),
        required("p_failed", DOUBLE),
        required("p_gave_up", DOUBLE),
        required("p_friction_follow_up", DOUBLE),
        required("outcome_log_odds", DOUBLE),
        required("p_recognition", DOUBLE),
        required("p_understanding", DOUBLE),
        required("p_unsupported", DOUBLE),
        required("p_user", DOUBLE),
    ),
    key=("turn_id",),
    partition=("turn_date",),
    checks=probability(
        "p_friction",
        "p_failed",
        "p_gave_up",
        "p_friction_follow_up",
        "p_recognition",
        "p_understanding",
        "p_unsupported",
        "p_user",
    ),
)

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

EVIDENCE = Table(
    "evidence",
    columns(
        required("turn_date", DATE),
        required("kind", STRING),
        required("locale", STRING),
        required("source_utterance", STRING),
        required("target", STRING),
        optional("context", STRING),
        optional("text", STRING),
        required("n", DOUBLE),
        required("p_sum", DOUBLE),
        required("friction_sum", DOUBLE),
        required("gave_up_sum", DOUBLE),
        required("n_outcomes", DOUBLE),
        required("outcome_sum", DOUBLE),
        optional("users", ArrayType(LONG)),
    ),
    key=("turn_date", "kind", "locale", "source_utterance", "target"),
    partition=("turn_date",),
    checks={"kind_is_known": "kind IN ('utterance', 'reading', 'pair', 'merge', 'rewrite')"},
)

ERASURES = Table(
    "erasures",
    columns(
        required("erasure_id", STRING),
        required("state", STRING),
        required("at", TIMESTAMP),
        required("days", ArrayType(DATE)),
    ),
    key=("erasure_id", "state", "at"),
    partition=(),
    checks={"state_is_known": "state IN ('requested', 'erased')"},
)
