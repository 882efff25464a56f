"""Simulated logs of an assistant in many languages, with their launch set and ground truth."""

from selflearn.simulate.simulation import SimulationSummary, simulate
from selflearn.simulate.truth import TruthRow, read_truth
from selflearn.simulate.world import known_locales

__all__ = ["SimulationSummary", "TruthRow", "known_locales", "read_truth", "simulate"]
