"""A seeded two-class latent-class model on counted level patterns (Fellegi-Sunter, Dawid-Skene).

The data are the distinct patterns of levels with their counts and mean seeds: a few thousand rows whatever the
size of the log. Signals depend on each other, so EM run to convergence walks away from the meaning of its
classes; a few steps from the seed do not. The sum of log-odds is too confident for the same reason, so it is
tempered by a logistic fit to the seeds, then pooled with the seed itself: two dependent experts, whose logits
count for more than one and less than two.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from selflearn.detect.signals import Signal

Floats = npt.NDArray[np.float64]
Levels = npt.NDArray[np.int8]

MIN_OBSERVATIONS = 200
_MIN_CLASS_WEIGHT = 5.0
_ANCHOR_STRENGTH = 20.0
_TEMPER_STEPS = 25
_PULL = 1.0
_EXPERT_WEIGHT = 0.75
SEED_FLOOR = 1e-3
_REACH = 50.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patterns:
    """Distinct level patterns: `levels` (patterns, signals), how often each occurs, and its mean seed."""

    levels: Levels
    counts: Floats
    seeds: Floats

    @property
    def n(self) -> float:
        return float(self.counts.sum())


@dataclass(frozen=True)
class LevelModel:
    """Log-odds weight of every level of every signal; level 0, missing, weighs nothing.

    The log-odds of a pair are `offset + slope * (sum of its levels' weights) + seed_weight * logit(seed)`.
    """

    name: str
    signals: tuple[str, ...]
    match: tuple[tuple[float, ...], ...]
    unmatch: tuple[tuple[float, ...], ...]
    offset: float
    slope: float
    seed_weight: float
    n: float
    steps: int

    def weights(self) -> list[list[float]]:
        """Natural-log weights, one list per signal, indexed by level."""
        return [
            [0.0, *(float(np.log(m / u)) for m, u in zip(match[1:], unmatch[1:], strict=True))]
            for match, unmatch in zip(self.match, self.unmatch, strict=True)
        ]

    def log_odds(self, levels: Levels, seeds: Floats) -> Floats:
        """Log-odds of each row of levels with its seed, shape (rows,)."""
        return self.offset + self.slope * _total(self.weights(), levels) + self.seed_weight * _logit(seeds)

    def part(self, levels: Levels, signals: Sequence[int]) -> Floats:
        """What the given signals alone contribute to the log-odds of each row, shape (rows,)."""
        weights = self.weights()
        return self.slope * _total([weights[k] for k in signals], levels[:, list(signals)])

    def _with_mean(self, patterns: Patterns) -> LevelModel:
        """The same model with the offset at which its mean posterior equals the mean seed."""
        rest = self.log_odds(patterns.levels, patterns.seeds) - self.offset
        mean = float(patterns.counts @ patterns.seeds) / patterns.n
        lowest, highest = -float(rest.max()) - _REACH, -float(rest.min()) + _REACH

        def excess(offset: float) -> float:
            return float(patterns.counts @ sigmoid(rest + offset)) / patterns.n - mean

        offset = brentq(excess, lowest, highest)
        return replace(self, offset=float(offset))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, content: str) -> LevelModel:
        """Read what `to_json` wrote. Raises ValueError or TypeError on anything else."""
        fields = json.loads(content)
        if not isinstance(fields, dict) or not {"signals", "match", "unmatch"} <= set(fields):
            raise ValueError("signals, match or unmatch is missing")
        for name in ("match", "unmatch"):
            fields[name] = tuple(tuple(row) for row in fields[name])
        return cls(**fields | {"signals": tuple(fields["signals"])})


@cache
def shipped_model(name: str) -> LevelModel:
    """The weights that come with the package, learnt on simulated logs: anchor of every fit, and fall-back."""
    return LevelModel.from_json(resources.files("selflearn.detect").joinpath(f"shipped_{name}.json").read_text())


def fit(name: str, patterns: Patterns, signals: Sequence[Signal], steps: int, anchor: LevelModel | None) -> LevelModel:
    """Fit from the seeds in `steps` latent-class steps, smoothed towards `anchor`.

    Too few observations, or a class that all but vanishes, give the anchor back with a warning.
    """
    n_match = float(patterns.counts @ patterns.seeds)
    if anchor and (patterns.n < MIN_OBSERVATIONS or min(n_match, patterns.n - n_match) < _MIN_CLASS_WEIGHT):
        logger.warning(
            "%s model: %d observations, %.1f of them seeded as matches, are too few to fit; shipped weights are used",
            name,
            patterns.n,
            n_match,
        )
        return anchor
    posterior = patterns.seeds
    for _ in range(steps):
        match = _level_shares(patterns, posterior, signals, anchor.match if anchor else None)
        unmatch = _level_shares(patterns, 1 - posterior, signals, anchor.unmatch if anchor else None)
        model = LevelModel(
            name=name,
            signals=tuple(signal.name for signal in signals),
            match=match,
            unmatch=unmatch,
            offset=0.0,
            slope=1.0,
            seed_weight=0.0,
            n=patterns.n,
            steps=steps,
        )
        share = float(patterns.counts @ posterior) / patterns.n
        total = _total(model.weights(), patterns.levels)
        posterior = sigmoid(float(np.log(share / (1 - share))) + total)
    slope = _temper(total, patterns)
    return replace(model, slope=_EXPERT_WEIGHT * slope, seed_weight=_EXPERT_WEIGHT)._with_mean(patterns)


def _level_shares(
    patterns: Patterns,
    posterior: Floats,
    signals: Sequence[Signal],
    anchor: tuple[tuple[float, ...], ...] | None,
) -> tuple[tuple[float, ...], ...]:
    weights = patterns.counts * posterior
    shares = []
    for column, signal in enumerate(signals):
        counts = np.bincount(patterns.levels[:, column], weights=weights, minlength=signal.n_levels)
        known = counts[1:] + _ANCHOR_STRENGTH * (
            np.asarray(anchor[column][1:]) if anchor else 1 / (signal.n_levels - 1)
        )
        shares.append((0.0, *(float(value) for value in known / known.sum())))
    return tuple(shares)


def _temper(total: Floats, patterns: Patterns) -> float:
    """Slope of the logistic curve of `total` through the seeds, by Newton steps on the soft cross-entropy.

    Where a few patterns tell the seeds apart the best slope is endless and whole steps overshoot: a weak pull towards
    one, and steps that are halved until they lower the loss, keep it in sight.
    """
    design = np.stack([np.ones_like(total), total], axis=1)

    def loss(coefficients: Floats) -> float:
        log_odds = design @ coefficients
        entropy = patterns.counts @ (np.logaddexp(0, log_odds) - patterns.seeds * log_odds)
        return float(entropy + _PULL / 2 * (coefficients[1] - 1) ** 2)

    share = float(patterns.counts @ patterns.seeds) / patterns.n
    coefficients = np.array([np.log(share / (1 - share)), 1.0])
    for _ in range(_TEMPER_STEPS):
        p = sigmoid(design @ coefficients)
        pull = np.array([0.0, _PULL * (coefficients[1] - 1)])
        gradient = design.T @ (patterns.counts * (patterns.seeds - p)) - pull
        curvature = (design * (patterns.counts * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ design
        step = np.linalg.solve(curvature + np.diag([1e-6, _PULL]), gradient)
        before = loss(coefficients)
        while loss(coefficients + step) > before and np.abs(step).max() > 1e-9:
            step = step / 2
        coefficients = coefficients + step
    return float(coefficients[1])


def _total(weights: Sequence[Sequence[float]], levels: Levels) -> Floats:
    total = np.zeros(len(levels))
    for column, row in enumerate(weights):
        total += np.asarray(row)[levels[:, column]]
    return total


def _logit(probabilities: Floats) -> Floats:
    clipped = np.clip(probabilities, SEED_FLOOR, 1 - SEED_FLOOR)
    return np.asarray(np.log(clipped / (1 - clipped)))


def sigmoid(values: Floats) -> Floats:
    """Probabilities of log-odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -500, 500))))
