"""Rewrites: for wordings that fail, those that people themselves reached and that work."""

from selflearn.rewrites.candidates import candidates
from selflearn.rewrites.priors import priors
from selflearn.rewrites.selection import judged, select_rewrites
from selflearn.rewrites.transitions import chances, exits, transitions

__all__ = ["candidates", "chances", "exits", "judged", "priors", "select_rewrites", "transitions"]
