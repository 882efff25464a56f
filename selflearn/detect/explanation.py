"""Why a pair has the probability it has: each signal, its level, its weight and the running total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selflearn.detect.latent_class import LevelModel, logit, sigmoid
from selflearn.detect.signals import Signal, levels
from selflearn.ragged import Floats


@dataclass(frozen=True)
class Step:
    """What one thing adds to the log-odds.

    Attributes:
        name: of the signal; `base rate` and `seed` besides.
        value: of the signal, NaN where missing.
        level: of the value, 0 where missing, and the largest level there is.
        weight: natural log-odds that it adds.
        total: log-odds so far.
    """

    name: str
    meaning: str
    value: float
    level: int
    n_levels: int
    weight: float
    total: float

    @property
    def probability(self) -> float:
        """Probability so far."""
        return float(sigmoid(np.array([self.total]))[0])


def explain(model: LevelModel, declared: Sequence[Signal], signals: Floats, seed: float) -> list[Step]:
    """The steps from the base rate to the log-odds of one row of signals, shape (signals,), largest weight first."""
    cut = levels(signals[None, :], declared)[0]
    seed_weight = model.seed_weight * float(logit(np.array([seed]))[0])
    found = [
        Step(signal.name, signal.meaning, float(value), int(level), signal.n_levels - 1, model.slope * row[level], 0.0)
        for signal, value, level, row in zip(declared, signals, cut, model.weights(), strict=True)
    ]
    seeded = Step("seed", "friction of the source times how surely it is said again", seed, 0, 0, seed_weight, 0.0)
    ordered = sorted([seeded, *found], key=lambda step: -abs(step.weight))
    base = Step("base rate", "log-odds of a pair of which nothing is known", np.nan, 0, 0, model.offset, 0.0)
    steps, total = [], 0.0
    for step in (base, *ordered):
        total += step.weight
        steps.append(Step(step.name, step.meaning, step.value, step.level, step.n_levels, step.weight, total))
    return steps


def supervised_step(label_free: float, supervised: float) -> Step:
    """What a model learnt from gold adds to the label-free log-odds that it builds on."""
    meaning = "what gold pairs taught, of these signals and of the turns around"
    return Step("learnt from gold", meaning, np.nan, 0, 0, supervised - label_free, supervised)
