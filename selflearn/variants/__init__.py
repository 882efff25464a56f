"""Goal variants: what different people say for one goal, each in their own words."""

from selflearn.variants.goal_variants import GoalVariants, goal_variants
from selflearn.variants.known_goals import at_hand, known_goals
from selflearn.variants.neighbours import Limits, nearest_pairs

__all__ = ["GoalVariants", "Limits", "at_hand", "goal_variants", "known_goals", "nearest_pairs"]
