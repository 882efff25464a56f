"""Simulated logs of an assistant in many languages, with their launch set and ground truth."""

from selflearn.simulate.simulation import SimulationSummary, simulate
from selflearn.simulate.truth import TruthRow, read_truth

__all__ = ["SimulationSummary", "TruthRow", "read_truth", "simulate"]
