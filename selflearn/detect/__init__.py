"""Detect: which turns failed their user, and which later turns say the same again."""

from selflearn.detect.detection import rephrase_pairs, sample_sessions, score_turns, turn_outcomes
from selflearn.detect.detector import Detector, PairModel
from selflearn.detect.follow_up import FOLLOW_UP_SIGNALS
from selflearn.detect.friction import FrictionModel
from selflearn.detect.latent_class import LevelModel
from selflearn.detect.learning import learn_daily
from selflearn.detect.pair_classes import PAIR_CLASS_NAMES, PAIR_CLASSES, PROBABLE, pair_classes
from selflearn.detect.pinned import read_pinned
from selflearn.detect.signals import PAIR_SIGNALS, OtherSignalsError

__all__ = [
    "FOLLOW_UP_SIGNALS",
    "PAIR_CLASSES",
    "PAIR_CLASS_NAMES",
    "PAIR_SIGNALS",
    "PROBABLE",
    "Detector",
    "FrictionModel",
    "LevelModel",
    "OtherSignalsError",
    "PairModel",
    "learn_daily",
    "pair_classes",
    "read_pinned",
    "rephrase_pairs",
    "sample_sessions",
    "score_turns",
    "turn_outcomes",
]
