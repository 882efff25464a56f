"""Every Delta table, declared once: schema, key, partition and constraints."""

from selflearn.lakehouse.tables.learning import (
    AMBIGUOUS_UTTERANCES,
    GOAL_VARIANTS,
    GRAPH_EDGES,
    GRAPH_NODES,
    REWRITES,
    VARIANT_MODELS,
    WEAK_LABELS,
)
from selflearn.lakehouse.tables.mining import (
    DETECTORS,
    ERASURES,
    EVIDENCE,
    LEVEL_PATTERNS,
    QUARANTINE,
    REPHRASE_PAIRS,
    TURN_OUTCOMES,
    TURNS,
    UTTERANCES,
)
from selflearn.lakehouse.tables.releases import RELEASES, RUNS, TRAINING_SETS, VETOES

OTHER_GOAL = "*"
"""Stands in a goal column for every goal that is not a candidate of the utterance."""

ALL_TABLES = (
    TURNS,
    QUARANTINE,
    LEVEL_PATTERNS,
    DETECTORS,
    REPHRASE_PAIRS,
    TURN_OUTCOMES,
    UTTERANCES,
    EVIDENCE,
    GOAL_VARIANTS,
    VARIANT_MODELS,
    GRAPH_NODES,
    GRAPH_EDGES,
    AMBIGUOUS_UTTERANCES,
    REWRITES,
    WEAK_LABELS,
    TRAINING_SETS,
    RELEASES,
    VETOES,
    RUNS,
    ERASURES,
)

__all__ = [
    "ALL_TABLES",
    "AMBIGUOUS_UTTERANCES",
    "DETECTORS",
    "ERASURES",
    "EVIDENCE",
    "GOAL_VARIANTS",
    "GRAPH_EDGES",
    "GRAPH_NODES",
    "LEVEL_PATTERNS",
    "OTHER_GOAL",
    "QUARANTINE",
    "RELEASES",
    "REPHRASE_PAIRS",
    "REWRITES",
    "RUNS",
    "TRAINING_SETS",
    "TURNS",
    "TURN_OUTCOMES",
    "UTTERANCES",
    "VARIANT_MODELS",
    "VETOES",
    "WEAK_LABELS",
]
