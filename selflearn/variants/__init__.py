"""Variants: which utterances of different people mean the same goal."""

from selflearn.variants.neighbours import Limits, nearest_pairs

__all__ = ["Limits", "nearest_pairs"]
