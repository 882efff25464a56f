"""Evaluate: scores against a gold standard; read by benchmarks and tests, never by a mining stage."""

from selflearn.evaluate.labels import LabelScores, score_labels
from selflearn.evaluate.pairs import PairScores, expected_calibration_error, recall_at_precision, score_pairs

__all__ = [
    "LabelScores",
    "PairScores",
    "expected_calibration_error",
    "recall_at_precision",
    "score_labels",
    "score_pairs",
]
