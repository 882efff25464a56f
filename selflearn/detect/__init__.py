"""Detect: which turns failed their user, and which later turns say the same again."""

from selflearn.detect.comparison import compare_turns
from selflearn.detect.friction import FRICTION_SIGNALS, score_turns, turn_levels
from selflearn.detect.latent_class import LevelModel
from selflearn.detect.rephrase import rephrase_pairs, score_pairs
from selflearn.detect.scoring import count_patterns, daily_sampling, fit_daily, models_as_rows, sample
from selflearn.detect.signals import PAIR_SIGNALS

__all__ = [
    "FRICTION_SIGNALS",
    "PAIR_SIGNALS",
    "LevelModel",
    "compare_turns",
    "count_patterns",
    "daily_sampling",
    "fit_daily",
    "models_as_rows",
    "rephrase_pairs",
    "sample",
    "score_pairs",
    "score_turns",
    "turn_levels",
]
