"""Every Delta table, declared once: schema, key, partition and constraints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DoubleType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

OTHER_GOAL = "*"
"""Stands in a goal column for every goal that is not a candidate of the utterance."""


@dataclass(frozen=True)
class Table:
    """A Delta table: where it lies below the lake, what is in it, and what must hold.

    `partition` holds the columns by which a stage replaces its own rows; `published` tables are read by
    engines other than Spark.
    """

    name: str
    schema: StructType
    key: tuple[str, ...]
    partition: tuple[str, ...]
    checks: Mapping[str, str] = field(default_factory=dict)
    published: bool = False


def _required(name: str, kind: DataType) -> StructField:
    return StructField(name, kind, nullable=False)


def _optional(name: str, kind: DataType) -> StructField:
    return StructField(name, kind, nullable=True)


STRING, DOUBLE, LONG, INTEGER = StringType(), DoubleType(), LongType(), IntegerType()
DATE, TIMESTAMP, BOOLEAN = DateType(), TimestampType(), BooleanType()

# Delta has no NOT NULL inside arrays, so nested fields are declared nullable.
SLOT = StructType([_optional("name", STRING), _optional("value", STRING)])
HEARD_TEXT = StructType([_optional("text", STRING), _optional("score", DOUBLE)])
READING = StructType([_optional("goal", STRING), _optional("score", DOUBLE)])
SPAN = StructType(
    [
        _optional("name", STRING),
        _optional("value", STRING),
        _optional("start", INTEGER),
        _optional("end", INTEGER),
    ]
)


def _probability(*columns: str) -> dict[str, str]:
    # Delta takes an unknown for a violation, so what may be missing says so.
    return {f"{column}_is_probability": f"{column} IS NULL OR {column} BETWEEN 0 AND 1" for column in columns}


TURNS = Table(
    "turns",
    StructType(
        [
            _required("turn_date", DATE),
            _required("turn_id", STRING),
            _required("session_id", STRING),
            _required("turn_index", INTEGER),
            _required("user_id", STRING),
            _required("ts", TIMESTAMP),
            _required("locale", STRING),
            _required("context", STRING),
            _required("text", STRING),
            _required("normalised_text", STRING),
            _required("utterance_id", STRING),
            _optional("text_alternatives", ArrayType(HEARD_TEXT)),
            _optional("asr_score", DOUBLE),
            _optional("intent", STRING),
            _optional("slots", ArrayType(SLOT)),
            _optional("goal", STRING),
            _optional("nlu_score", DOUBLE),
            _optional("nlu_alternatives", ArrayType(READING)),
            _optional("prompt", STRING),
            _optional("response", STRING),
            _optional("fallback", BOOLEAN),
            _optional("barge_in", BOOLEAN),
            _optional("error", BOOLEAN),
            _optional("cancelled", BOOLEAN),
            _optional("completed", BOOLEAN),
            _optional("feedback", INTEGER),
            _optional("rewrite_id", STRING),
            _optional("model_version", STRING),
        ]
    ),
    key=("turn_id",),
    partition=("turn_date",),
    checks={
        **_probability("asr_score", "nlu_score"),
        "text_is_not_empty": "length(normalised_text) > 0",
        "feedback_is_a_sign": "feedback IS NULL OR feedback IN (-1, 0, 1)",
    },
)

QUARANTINE = Table(
    "quarantine",
    StructType(
        [
            _required("turn_date", DATE),
            _required("row_hash", STRING),
            _required("reason", STRING),
            _optional("offending_value", STRING),
            _required("raw_row", STRING),
            _optional("source_file", STRING),
        ]
    ),
    key=("row_hash",),
    partition=("turn_date",),
)

PAIR_SIGNALS = Table(
    "pair_signals",
    StructType(
        [
            _required("turn_date", DATE),
            _required("session_id", STRING),
            _required("locale", STRING),
            _required("user_id", STRING),
            _required("source_turn_id", STRING),
            _required("target_turn_id", STRING),
            _required("source_turn_index", INTEGER),
            _required("target_turn_index", INTEGER),
            _required("source_utterance", STRING),
            _required("target_utterance", STRING),
            _required("signals", ArrayType(DOUBLE)),
            _required("levels", ArrayType(ByteType())),
            _required("seed", DOUBLE),
        ]
    ),
    key=("source_turn_id", "target_turn_id"),
    partition=("turn_date",),
    checks=_probability("seed"),
)

LEVEL_PATTERNS = Table(
    "level_patterns",
    StructType(
        [
            _required("turn_date", DATE),
            _required("model", STRING),
            _required("pattern", STRING),
            _required("n", LONG),
            _required("seed_sum", DOUBLE),
        ]
    ),
    key=("turn_date", "model", "pattern"),
    partition=("turn_date", "model"),
)

DETECTORS = Table(
    "detectors",
    StructType(
        [
            _required("turn_date", DATE),
            _required("model", STRING),
            _required("content", STRING),
        ]
    ),
    key=("turn_date", "model"),
    partition=("turn_date",),
)

REPHRASE_PAIRS = Table(
    "rephrase_pairs",
    StructType(
        [
            _required("turn_date", DATE),
            _required("session_id", STRING),
            _required("locale", STRING),
            _required("user_id", STRING),
            _required("source_turn_id", STRING),
            _required("target_turn_id", STRING),
            _required("source_turn_index", INTEGER),
            _required("target_turn_index", INTEGER),
            _required("source_utterance", STRING),
            _required("target_utterance", STRING),
            _required("p_friction_source", DOUBLE),
            _required("p_same_goal", DOUBLE),
            _required("p_rephrase", DOUBLE),
        ]
    ),
    key=("source_turn_id", "target_turn_id"),
    partition=("turn_date",),
    checks=_probability("p_friction_source", "p_same_goal", "p_rephrase"),
)

TURN_OUTCOMES = Table(
    "turn_outcomes",
    StructType(
        [
            _required("turn_date", DATE),
            _required("turn_id", STRING),
            _required("p_friction", DOUBLE),
            _required("outcome_log_odds", DOUBLE),
        ]
    ),
    key=("turn_id",),
    partition=("turn_date",),
    checks=_probability("p_friction"),
)

EVIDENCE = Table(
    "evidence",
    StructType(
        [
            _required("turn_date", DATE),
            _required("kind", STRING),
            _required("locale", STRING),
            _required("source_utterance", STRING),
            _required("target", STRING),
            _optional("context", STRING),
            _optional("text", STRING),
            _required("n", DOUBLE),
            _required("p_sum", DOUBLE),
            _required("friction_sum", DOUBLE),
            _required("n_outcomes", DOUBLE),
            _required("outcome_sum", DOUBLE),
            _optional("users", BinaryType()),
        ]
    ),
    key=("turn_date", "kind", "locale", "source_utterance", "target"),
    partition=("turn_date",),
    checks={"kind_is_known": "kind IN ('utterance', 'reading', 'pair')"},
)

GRAPH_NODES = Table(
    "graph_nodes",
    StructType(
        [
            _required("as_of", DATE),
            _required("locale", STRING),
            _required("utterance_id", STRING),
            _required("context", STRING),
            _required("text", STRING),
            _required("goal", STRING),
            _required("rank", INTEGER),
            _required("posterior", DOUBLE),
            _required("nlu_evidence", DOUBLE),
            _required("outcome_evidence", DOUBLE),
            _required("pair_evidence", DOUBLE),
            _required("prior_evidence", DOUBLE),
            _required("p_nlu", DOUBLE),
            _required("n_turns", DOUBLE),
            _required("n_pairs", DOUBLE),
            _required("friction", DOUBLE),
            _required("n_users", LONG),
            _required("n_users_behind", LONG),
        ]
    ),
    key=("as_of", "utterance_id", "goal"),
    partition=("as_of",),
    checks=_probability("posterior", "p_nlu"),
)

GRAPH_EDGES = Table(
    "graph_edges",
    StructType(
        [
            _required("as_of", DATE),
            _required("locale", STRING),
            _required("source_utterance", STRING),
            _required("target_utterance", STRING),
            _required("n_pairs", DOUBLE),
            _required("p_rephrase", DOUBLE),
            _required("n_users", LONG),
        ]
    ),
    key=("as_of", "source_utterance", "target_utterance"),
    partition=("as_of",),
    checks=_probability("p_rephrase"),
)

WEAK_LABELS = Table(
    "weak_labels",
    StructType(
        [
            _required("as_of", DATE),
            _required("locale", STRING),
            _required("utterance_id", STRING),
            _required("context", STRING),
            _required("text", STRING),
            _required("goal", STRING),
            _required("intent", STRING),
            _required("slots", ArrayType(SPAN)),
            _required("is_intent_only", BOOLEAN),
            _required("annotated_utterance", STRING),
            _required("p_correct", DOUBLE),
            _required("p_correct_lb", DOUBLE),
            _optional("nlu_goal", STRING),
            _required("is_new", BOOLEAN),
            _required("n_turns", DOUBLE),
            _required("n_pairs", DOUBLE),
            _required("n_users", LONG),
            _required("n_users_behind", LONG),
            _required("friction", DOUBLE),
            _required("reason", STRING),
        ]
    ),
    key=("as_of", "utterance_id"),
    partition=("as_of",),
    checks=_probability("p_correct", "p_correct_lb"),
    published=True,
)

TRAINING_SETS = Table(
    "training_sets",
    StructType(
        [
            _required("release_id", STRING),
            _required("example_id", STRING),
            _required("split", STRING),
            _required("origin", STRING),
            _required("locale", STRING),
            _required("context", STRING),
            _required("text", STRING),
            _required("intent", STRING),
            _required("slots", ArrayType(SPAN)),
            _required("is_intent_only", BOOLEAN),
            _required("annotated_utterance", STRING),
            _required("weight", DOUBLE),
            _optional("utterance_id", STRING),
            _optional("reason", STRING),
        ]
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
    StructType(
        [
            _required("release_id", STRING),
            _required("as_of", DATE),
            _required("state", STRING),
            _required("created_at", TIMESTAMP),
            _required("settings_fingerprint", STRING),
            _required("n_launch", LONG),
            _required("n_corrected", LONG),
            _required("n_confirmed", LONG),
        ]
    ),
    key=("release_id",),
    partition=("release_id",),
    checks={"state_is_known": "state IN ('published', 'rejected', 'withdrawn')"},
    published=True,
)

RUNS = Table(
    "runs",
    StructType(
        [
            _required("run_id", STRING),
            _required("stage", STRING),
            _required("days", ArrayType(DATE)),
            _required("state", STRING),
            _required("started_at", TIMESTAMP),
            _required("finished_at", TIMESTAMP),
            _required("settings_fingerprint", STRING),
            _required("versions_read", MapType(STRING, LONG)),
            _required("versions_written", MapType(STRING, LONG)),
            _required("row_counts", MapType(STRING, LONG)),
            _required("metrics", MapType(STRING, DOUBLE)),
            _optional("message", STRING),
        ]
    ),
    key=("run_id",),
    partition=(),
    checks={"state_is_known": "state IN ('succeeded', 'failed')"},
)

ALL_TABLES = (
    TURNS,
    QUARANTINE,
    PAIR_SIGNALS,
    LEVEL_PATTERNS,
    DETECTORS,
    REPHRASE_PAIRS,
    TURN_OUTCOMES,
    EVIDENCE,
    GRAPH_NODES,
    GRAPH_EDGES,
    WEAK_LABELS,
    TRAINING_SETS,
    RELEASES,
    RUNS,
)
