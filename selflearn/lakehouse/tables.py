"""Every Delta table, declared once: schema, key, partition and constraints."""

from __future__ import annotations

from pyspark.sql.types import ArrayType, MapType

from selflearn.lakehouse.schema import (
    BELIEVED_GOAL,
    BOOLEAN,
    DATE,
    DOUBLE,
    HEARD_TEXT,
    INTEGER,
    LONG,
    READING,
    SLOT,
    SPAN,
    STRING,
    TIMESTAMP,
    Table,
    columns,
    optional,
    probability,
    required,
)

OTHER_GOAL = "*"
"""Stands in a goal column for every goal that is not a candidate of the utterance."""

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
    ),
    key=("source_turn_id", "target_turn_id"),
    partition=("turn_date",),
    checks=probability("p_friction_source", "p_friction_target", "p_same_goal", "p_rephrase"),
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
        required("n_outcomes", DOUBLE),
        required("outcome_sum", DOUBLE),
        optional("users", ArrayType(LONG)),
    ),
    key=("turn_date", "kind", "locale", "source_utterance", "target"),
    partition=("turn_date",),
    checks={"kind_is_known": "kind IN ('utterance', 'reading', 'pair')"},
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

GRAPH_NODES = Table(
    "graph_nodes",
    columns(
        required("as_of", DATE),
        required("locale", STRING),
        required("utterance_id", STRING),
        required("context", STRING),
        required("text", STRING),
        required("goal", STRING),
        required("rank", INTEGER),
        required("posterior", DOUBLE),
        required("nlu_evidence", DOUBLE),
        required("outcome_evidence", DOUBLE),
        required("pair_evidence", DOUBLE),
        required("variant_evidence", DOUBLE),
        required("prior_evidence", DOUBLE),
        required("p_nlu", DOUBLE),
        required("n_turns", DOUBLE),
        required("n_pairs", DOUBLE),
        required("friction", DOUBLE),
        required("n_users", LONG),
        required("n_users_behind", LONG),
    ),
    key=("as_of", "utterance_id", "goal"),
    partition=("as_of",),
    checks=probability("posterior", "p_nlu"),
)

GRAPH_EDGES = Table(
    "graph_edges",
    columns(
        required("as_of", DATE),
        required("locale", STRING),
        required("source_utterance", STRING),
        required("target_utterance", STRING),
        required("n_pairs", DOUBLE),
        required("p_rephrase", DOUBLE),
        required("n_users", LONG),
    ),
    key=("as_of", "source_utterance", "target_utterance"),
    partition=("as_of",),
    checks=probability("p_rephrase"),
)

AMBIGUOUS_UTTERANCES = Table(
    "ambiguous_utterances",
    columns(
        required("as_of", DATE),
        required("locale", STRING),
        required("utterance_id", STRING),
        required("context", STRING),
        required("text", STRING),
        required("goals", ArrayType(BELIEVED_GOAL)),
        required("n_users", LONG),
    ),
    key=("as_of", "utterance_id"),
    partition=("as_of",),
)

WEAK_LABELS = Table(
    "weak_labels",
    columns(
        required("as_of", DATE),
        required("locale", STRING),
        required("utterance_id", STRING),
        required("context", STRING),
        required("text", STRING),
        required("goal", STRING),
        required("intent", STRING),
        required("slots", ArrayType(SPAN)),
        required("is_intent_only", BOOLEAN),
        required("annotated_utterance", STRING),
        required("p_correct", DOUBLE),
        required("p_correct_lb", DOUBLE),
        optional("nlu_goal", STRING),
        required("is_new", BOOLEAN),
        required("n_turns", DOUBLE),
        required("n_pairs", DOUBLE),
        required("n_users", LONG),
        required("n_users_behind", LONG),
        required("friction", DOUBLE),
        required("reason", STRING),
    ),
    key=("as_of", "utterance_id"),
    partition=("as_of",),
    checks=probability("p_correct", "p_correct_lb"),
    published=True,
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
        optional("utterance_id", STRING),
        optional("reason", STRING),
    ),
    key=("release_id", "example_id"),
    partition=("release_id",),
    checks={
        "split_is_known": "split IN ('train', 'validation', 'test')",
        "origin_is_known": "origin IN ('launch', 'corrected', 'confirmed')",
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
        required("n_confirmed", LONG),
    ),
    key=("release_id",),
    partition=("release_id",),
    checks={"state_is_known": "state IN ('published', 'rejected', 'withdrawn')"},
    published=True,
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

ALL_TABLES = (
    TURNS,
    QUARANTINE,
    LEVEL_PATTERNS,
    DETECTORS,
    REPHRASE_PAIRS,
    TURN_OUTCOMES,
    EVIDENCE,
    GRAPH_NODES,
    GRAPH_EDGES,
    AMBIGUOUS_UTTERANCES,
    WEAK_LABELS,
    TRAINING_SETS,
    RELEASES,
    RUNS,
)
