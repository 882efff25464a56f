"""A seeded, anchored two-class latent-class model on counted level patterns (Fellegi-Sunter, Dawid-Skene).

The data are distinct patterns of levels with their counts and mean seeds. Signals depend on each other, and EM run to
convergence walks away from the meaning of its classes. Three things keep that from spoiling the model:

- each signal's weights are scaled by its *reliance*, 1 / (sum over signals of the squared within-class correlation
  of their weights): m copies of one signal weigh as much as one (the linkage-disequilibrium score of genetics);
- after every step the posterior is tempered by a logistic fit to the seeds and pooled with the seed itself, so that
  the classes keep the meaning the seed gave them and the iteration settles instead of drifting;
- the number of steps is the one whose posterior, learnt without them, tells most about withheld signals.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from selflearn.detect.signals import PAIR_SIGNALS, Signal, check_signals

if TYPE_CHECKING:
    from selflearn.detect.comparison import Comparison

Floats = npt.NDArray[np.float64]
Levels = npt.NDArray[np.int8]

MIN_OBSERVATIONS = 200
MAX_STEPS = 5
SEED_FLOOR = 1e-3
_MIN_CLASS_WEIGHT = 5.0
_ANCHOR_STRENGTH = 20.0
_EXPERT_WEIGHT = 0.75
_TEMPER_STEPS = 25
_PULL = 1.0
_REACH = 50.0
_LEAST_VARIANCE = 1e-10
_SETTLED = 1e-9
_ROWS = ("edges", "match", "unmatch")

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

    def of(self, signals: slice) -> Patterns:
        """The same patterns of some of the signals."""
        return Patterns(self.levels[:, signals], self.counts, self.seeds)


@dataclass(frozen=True)
class LevelModel:
    """Log-odds weight of every level of every signal; level 0, missing, weighs nothing.

    The log-odds of a pair are `offset + slope * (sum of its levels' weights) + seed_weight * logit(seed)`; the weight
    of a level is the signal's reliance times the log of its share among matches over its share among the rest.
    """

    name: str
    signals: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]
    match: tuple[tuple[float, ...], ...]
    unmatch: tuple[tuple[float, ...], ...]
    reliance: tuple[float, ...]
    offset: float
    slope: float
    seed_weight: float
    n: float
    steps: int

    def weights(self) -> list[list[float]]:
        """Natural-log weights, one list per signal, indexed by level."""
        rows = zip(self.reliance, self.match, self.unmatch, strict=True)
        return [
            [0.0, *(float(trust * np.log(m / u)) for m, u in zip(match[1:], unmatch[1:], strict=True))]
            for trust, match, unmatch in rows
        ]

    def log_odds(self, levels: Levels, seeds: Floats) -> Floats:
        """Log-odds of each row of levels with its seed, shape (rows,)."""
        total = weigh(self.weights(), levels).sum(axis=1)
        return np.asarray(self.offset + self.slope * total + self.seed_weight * logit(seeds))

    def pair_log_odds(self, compared: Comparison) -> Floats:
        """Log-odds of each compared pair, shape (pairs,)."""
        return self.log_odds(compared.levels, compared.seeds)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def record(self) -> str:
        """What a table keeps of the model: all of it."""
        return self.to_json()

    @classmethod
    def from_json(cls, content: str, declared: Sequence[Signal] = PAIR_SIGNALS) -> LevelModel:
        """Read what `to_json` wrote.

        Raises:
            OtherSignalsError: the model is of other signals than the declared ones, or of other levels of them.
            ValueError, TypeError: it is anything else.
        """
        fields = json.loads(content)
        if not isinstance(fields, dict) or not {"signals", *_ROWS, "reliance"} <= set(fields):
            raise ValueError(f"signals, {', '.join(_ROWS)} or reliance is missing")
        rows = {name: tuple(tuple(row) for row in fields[name]) for name in _ROWS}
        model = cls(**fields | rows | {name: tuple(fields[name]) for name in ("signals", "reliance")})
        check_signals(model.signals, model.edges, declared)
        if any(
            [len(row) for row in shares] != [s.n_levels for s in declared] for shares in (model.match, model.unmatch)
        ):
            raise ValueError("match and unmatch have not a share for every level")
        return model


@cache
def shipped_model(name: str) -> LevelModel:
    """The weights that come with the package, learnt on simulated logs: anchor of every fit, and fall-back."""
    return LevelModel.from_json(resources.files("selflearn.detect").joinpath(f"shipped_{name}.json").read_text())


def fit(
    name: str,
    patterns: Patterns,
    signals: Sequence[Signal],
    withheld: Sequence[str],
    anchor: LevelModel | None = None,
) -> LevelModel:
    """Fit from the seeds, in as many steps as `withheld` signals are best foretold by.

    Signals in `withheld` must not be ingredients of the seed. Level shares are smoothed towards `anchor`'s, or
    towards those of all patterns.

    Too few observations, or a class that all but vanishes, give the anchor back with a warning.

    Raises:
        ValueError: there are too few, and no anchor.
    """
    problem = too_few(name, patterns)
    if problem:
        if anchor is None:
            raise ValueError(f"{problem}; the least are {MIN_OBSERVATIONS} and {_MIN_CLASS_WEIGHT} of each class")
        logger.warning("%s; shipped weights are used", problem)
        return anchor
    steps = choose_steps(patterns, signals, withheld, anchor)
    return path(name, patterns, signals, steps, anchor)[-1]


def too_few(name: str, patterns: Patterns) -> str | None:
    """What is wrong with patterns that no model can be fitted on."""
    n_match = float(patterns.counts @ patterns.seeds)
    if patterns.n >= MIN_OBSERVATIONS and min(n_match, patterns.n - n_match) >= _MIN_CLASS_WEIGHT:
        return None
    return f"{name} model: {patterns.n:.0f} observations, {n_match:.1f} of them seeded as matches, are too few to fit"


def path(
    name: str, patterns: Patterns, signals: Sequence[Signal], steps: int, anchor: LevelModel | None
) -> list[LevelModel]:
    """The model after each of `steps` steps."""
    posterior, models = patterns.seeds, []
    for step in range(1, steps + 1):
        match = _smoothed_shares(patterns, posterior, signals, anchor.match if anchor else None)
        unmatch = _smoothed_shares(patterns, 1 - posterior, signals, anchor.unmatch if anchor else None)
        each = weigh(level_weights(match, unmatch), patterns.levels)
        reliance = _reliance(each, patterns.counts, posterior)
        slope = _EXPERT_WEIGHT * _temper(each @ reliance, patterns)
        rest = slope * (each @ reliance) + _EXPERT_WEIGHT * logit(patterns.seeds)
        offset = _offset(rest, patterns)
        posterior = sigmoid(offset + rest)
        models.append(
            LevelModel(
                name=name,
                signals=tuple(signal.name for signal in signals),
                edges=tuple(signal.edges for signal in signals),
                match=tuple(tuple(map(float, row)) for row in match),
                unmatch=tuple(tuple(map(float, row)) for row in unmatch),
                reliance=tuple(map(float, reliance)),
                offset=offset,
                slope=slope,
                seed_weight=_EXPERT_WEIGHT,
                n=patterns.n,
                steps=step,
            )
        )
    return models


def choose_steps(
    patterns: Patterns, signals: Sequence[Signal], withheld: Sequence[str], anchor: LevelModel | None
) -> int:
    """Steps after which the posterior, learnt without it, tells most about a withheld signal, on average."""
    told = np.zeros(MAX_STEPS)
    for name in withheld:
        at = [signal.name for signal in signals].index(name)
        others = [k for k in range(len(signals)) if k != at]
        without = Patterns(patterns.levels[:, others], patterns.counts, patterns.seeds)
        partly = anchor and _without(anchor, at)
        models = path(name, without, [signals[k] for k in others], MAX_STEPS, partly)
        level, n_levels = patterns.levels[:, at], signals[at].n_levels
        posteriors = (sigmoid(model.log_odds(without.levels, without.seeds)) for model in models)
        information = np.array([_information(p, patterns.counts, level, n_levels) for p in posteriors])
        if information.max() > 0:
            told += information / information.max()
    return int(told.argmax()) + 1


def _without(model: LevelModel, at: int) -> LevelModel:
    kept = [k for k in range(len(model.signals)) if k != at]
    columns = {name: tuple(getattr(model, name)[k] for k in kept) for name in ("signals", *_ROWS, "reliance")}
    return LevelModel(**{**asdict(model), **columns})


def _information(posterior: Floats, counts: Floats, level: npt.NDArray[np.int8], n_levels: int) -> float:
    """Share of the class's entropy that a signal's known level resolves."""
    known = level > 0
    joint = np.stack(
        [np.bincount(level[known], (counts * p)[known], n_levels) for p in (posterior, 1 - posterior)]
    ).astype(np.float64)
    joint /= max(joint.sum(), 1e-12)
    of_class, of_level = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    independent = of_class * of_level
    filled = joint > 0
    mutual = float((joint[filled] * np.log(joint[filled] / independent[filled])).sum())
    present = of_class[of_class > 0]
    entropy = -float((present * np.log(present)).sum())
    return mutual / entropy if entropy > 0 else 0.0


def level_shares(
    patterns: Patterns, posterior: Floats, signals: Sequence[Signal], prior: Sequence[Floats]
) -> list[Floats]:
    """Share of each level among a class's known ones, by signal; `prior` has counts to add, from level 1 on.

    The M-step of Fellegi and Sunter's model for the class that patterns are in with probability `posterior`.
    """
    weights = patterns.counts * posterior
    shares = []
    for column, (signal, added) in enumerate(zip(signals, prior, strict=True)):
        counts = np.bincount(patterns.levels[:, column], weights=weights, minlength=signal.n_levels)
        known = counts[1:] + added
        shares.append(np.concatenate([[0.0], known / known.sum()]))
    return shares


def level_weights(match: Sequence[Floats], unmatch: Sequence[Floats]) -> list[Floats]:
    """Log of each level's share among matches over its share among the rest, by signal; 0 where the rest has none."""
    return [np.log(np.divide(m, u, out=np.ones(len(m)), where=u > 0)) for m, u in zip(match, unmatch, strict=True)]


def _smoothed_shares(
    patterns: Patterns, posterior: Floats, signals: Sequence[Signal], anchor: tuple[tuple[float, ...], ...] | None
) -> list[Floats]:
    of_class = float((patterns.counts * posterior).sum()) / patterns.n
    towards = (
        np.asarray(anchor[column][1:]) if anchor else of_class * _overall_shares(patterns, column, signal)
        for column, signal in enumerate(signals)
    )
    return level_shares(patterns, posterior, signals, [_ANCHOR_STRENGTH * prior for prior in towards])


def _overall_shares(patterns: Patterns, column: int, signal: Signal) -> Floats:
    """Level shares of both classes together: smoothed towards them by its size, a class is silent on rare levels."""
    counts = np.bincount(patterns.levels[:, column], weights=patterns.counts, minlength=signal.n_levels)[1:] + 1
    return np.asarray(counts / counts.sum())


def _reliance(each: Floats, counts: Floats, posterior: Floats) -> Floats:
    """1 / sum of squared within-class correlations of a signal's weights with all signals'; 1 where constant."""
    covariance = np.zeros((each.shape[1], each.shape[1]))
    for share in (posterior, 1 - posterior):
        weight = counts * share
        centred = each - weight @ each / max(weight.sum(), 1e-12)
        covariance += (centred * weight[:, None]).T @ centred / counts.sum()
    deviation = np.sqrt(np.maximum(np.diag(covariance), _LEAST_VARIANCE))
    correlation = np.clip(covariance / np.outer(deviation, deviation), -1, 1)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(1 / (correlation**2).sum(axis=1))


def _temper(total: Floats, patterns: Patterns) -> float:
    """Slope of the logistic curve of `total` through the seeds: Newton steps, halved until they lower the loss."""
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
        while loss(coefficients + step) > before and np.abs(step).max() > _SETTLED:
            step = step / 2
        coefficients = coefficients + step
        if np.abs(step).max() <= _SETTLED:
            break
    return float(coefficients[1])


def _offset(rest: Floats, patterns: Patterns) -> float:
    """The offset at which the mean posterior equals the mean seed."""
    mean = float(patterns.counts @ patterns.seeds) / patterns.n

    def excess(offset: float) -> float:
        return float(patterns.counts @ sigmoid(rest + offset)) / patterns.n - mean

    return float(brentq(excess, -float(rest.max()) - _REACH, -float(rest.min()) + _REACH))


def weigh(rows: Sequence[Sequence[float] | Floats], levels: Levels) -> Floats:
    """Weight of each row's level of each signal, shape (rows, signals)."""
    return np.stack([np.asarray(row)[levels[:, k]] for k, row in enumerate(rows)], axis=1)


def logit(probabilities: Floats) -> Floats:
    """Log-odds of probabilities, kept `SEED_FLOOR` away from 0 and 1."""
    clipped = np.clip(probabilities, SEED_FLOOR, 1 - SEED_FLOOR)
    return np.asarray(np.log(clipped / (1 - clipped)))


def sigmoid(values: Floats) -> Floats:
    """Probabilities of log-odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -500, 500))))
