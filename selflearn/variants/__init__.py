"""Goal variants: what different people say for one goal, each in their own words."""

from selflearn.variants.goal_variants import GoalVariants, goal_variants
from selflearn.variants.known_goals import known_goals
from selflearn.variants.neighbours import Limits, nearest_pairs

__all__ = ["GoalVariants", "Limits", "goal_variants", "known_goals", "nearest_pairs"]
