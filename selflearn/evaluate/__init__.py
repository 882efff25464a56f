"""Evaluate: scores against a gold standard; read by benchmarks and tests, never by a mining stage."""

from selflearn.evaluate.friction import FrictionScores, score_friction
from selflearn.evaluate.gold import PairEvaluation, evaluate_pairs, read_gold
from selflearn.evaluate.labels import LabelScores, score_labels
from selflearn.evaluate.pairs import PairScores, expected_calibration_error, recall_at_precision, score_pairs
from selflearn.evaluate.variants import Reliability, VariantEvaluation, evaluate_variants
from selflearn.evaluate.weak_labels import LabelEvaluation, evaluate_labels, read_truth_goals

__all__ = [
    "FrictionScores",
    "LabelEvaluation",
    "LabelScores",
    "PairEvaluation",
    "PairScores",
    "Reliability",
    "VariantEvaluation",
    "evaluate_labels",
    "evaluate_pairs",
    "evaluate_variants",
    "expected_calibration_error",
    "read_gold",
    "read_truth_goals",
    "recall_at_precision",
    "score_friction",
    "score_labels",
    "score_pairs",
]
