"""The probability that two utterances mean the same goal: fitted on pairs whose goals are known, each run anew.

A logistic model of monotone signals, each bent at a few knots, and of the words that only one of the two utterances
has ("on" and "off" part goals that "please" does not). Goals are dealt into folds; each pair is scored by a model that
has seen no pair of its goal. On these scores a curve is laid that
makes them probabilities (Platt 1999, bent at one point), for all locales together and, as far as its own pairs speak
for it, for each. Pairs count as sure as far as others of goals held out that were given as much were right; how far
that holds beyond the goals at hand is told by weighting goals, not pairs, at random (Rubin's Bayesian bootstrap, 1981).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, minimize

from selflearn.ragged import Floats, Ints
from selflearn.variants.certainty import not_too_sure, reliability, sure_from
from selflearn.variants.comparison import SIGNALS, WORD_BUCKETS, Bools, WordsApart

N_FOLDS = 4
N_LEFT_OUT = 3
"""One goal in so many is left out when an encoder is trained: of fewer there is too little to calibrate on."""
MIN_KNOWN_PAIRS = 20
"""Pairs of either kind, same goal and different goals, below which the shipped model serves."""
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_RIDGE = 1.0
_WORD_RIDGE = 10.0
"""A word's weight stays near zero unless about so many pairs speak for it."""
_BEND = 1.0
_CURVE_PAIRS = 20.0
"""The scores themselves count as much as so many known pairs: where these are parted without fail, no curve is."""
_LOCALE_PAIRS = 200.0
"""A locale's own curve counts half where it has about so many known pairs."""
_MOST_CERTAIN = 0.999
_ENOUGH: Any = {"maxiter": 100, "ftol": 1e-6}
"""What more steps would change is lost in what the goals are known by."""
SHIPPED = "shipped_same_goal.json"


@dataclass(frozen=True)
class Curve:
    """Log-odds from scores: `shift + slope * score + bend * max(0, score - 1)`."""

    shift: float = 0.0
    slope: float = 1.0
    bend: float = 0.0

    def log_odds(self, score: Floats) -> Floats:
        return self.shift + self.slope * score + self.bend * np.maximum(score - _BEND, 0.0)


@dataclass(frozen=True)
class Score:
    """Signals and words to a score in log-odds, not calibrated.

    Attributes:
        constant: score where every signal is at its lowest knot.
        knots: of each signal, ascending.
        gains: of each signal, what it adds at each knot; 0 at the first, never falling.
        word_gains: of a word that one utterance lacks, by bucket.
    """

    constant: float
    knots: Mapping[str, tuple[float, ...]]
    gains: Mapping[str, tuple[float, ...]]
    word_gains: npt.NDArray[np.float32] = field(repr=False)

    def of(self, signals: Mapping[str, Floats], apart: WordsApart) -> Floats:
        """Score of each pair."""
        score = np.full(len(apart.offsets) - 1, self.constant)
        for name, knots in self.knots.items():
            score += np.interp(signals[name], knots, self.gains[name])
        return np.asarray(score + _by_pair(apart) @ self.word_gains.astype(np.float64))


@dataclass(frozen=True)
class SameGoalModel:
    """Score, the curve of all locales, and the curves of those that have known pairs of their own.

    From `sure_from` on probabilities may be `certainty.SURE`; what lies between is held just below that.
    `metrics` tells how well it did on goals it had not seen; empty of the shipped model.
    """

    score: Score
    curve: Curve
    locale_curves: Mapping[str, Curve]
    sure_from: float
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_fitted(self) -> bool:
        """Whether it was fitted to pairs of its run."""
        return "locales" in self.metrics

    @property
    def counts(self) -> dict[str, float]:
        """The figures of its metrics that are no tables."""
        of_all = self.metrics.get("locales", {}).get("", {})
        found = {**self.metrics, "calibration_error": of_all.get("calibration_error")}
        return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}

    def probability(self, signals: Mapping[str, Floats], apart: WordsApart, locale: Sequence[str]) -> Floats:
        """Probability of each pair that both mean the same goal; the locale is that of the left utterance."""
        p = _probability(self.score.of(signals, apart), np.asarray(locale), self.curve, self.locale_curves)
        return not_too_sure(p, self.sure_from)

    def to_json(self) -> str:
        used = np.flatnonzero(self.score.word_gains)
        content = {
            "constant": self.score.constant,
            "knots": dict(self.score.knots),
            "gains": dict(self.score.gains),
            "word_gains": {str(k): round(float(self.score.word_gains[k]), 3) for k in used.tolist()},
            "curve": vars(self.curve),
            "locale_curves": {name: vars(curve) for name, curve in self.locale_curves.items()},
            "sure_from": self.sure_from,
            "metrics": self.metrics,
        }
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SameGoalModel:
        """Raises: ValueError, KeyError or TypeError where `text` is no such model."""
        content = json.loads(text)
        word_gains = np.zeros(WORD_BUCKETS, dtype=np.float32)
        for bucket, gain in content["word_gains"].items():
            word_gains[int(bucket)] = gain
        knots, gains = ({n: tuple(v) for n, v in content[part].items()} for part in ("knots", "gains"))
        return cls(
            Score(content["constant"], knots, gains, word_gains),
            Curve(**content["curve"]),
            {name: Curve(**curve) for name, curve in content["locale_curves"].items()},
            content["sure_from"],
            content["metrics"],
        )


@dataclass(frozen=True)
class KnownPairs:
    """Pairs of utterances whose goals are known; one goal of each pair, the tested one, stands for goals never seen.

    Attributes:
        signals: by name, shape (pairs,).
        apart: words that one of the two lacks.
        is_same: whether the two goals are one.
        left_fold, right_fold: folds of the two goals, below `N_FOLDS`.
        is_left_tested: whether the left goal is the tested one, else the right one.
        tested_goal: its number.
        locale: of the left utterance.
        weight: how many candidate pairs each stands for.
    """

    signals: Mapping[str, Floats]
    apart: WordsApart
    is_same: Bools
    left_fold: Ints
    right_fold: Ints
    is_left_tested: Bools
    tested_goal: Ints
    locale: npt.NDArray[np.object_]
    weight: Floats

    @property
    def fold(self) -> Ints:
        """Of the tested goal."""
        return np.where(self.is_left_tested, self.left_fold, self.right_fold)


def fold_of(goal: str, n_folds: int = N_FOLDS) -> int:
    """The fold of a goal: the same on every machine, whatever other goals there are."""
    return crc32(goal.encode()) // N_LEFT_OUT % n_folds


def is_left_out(goal: str) -> bool:
    """Whether no encoder is trained on the goal.

    Vectors of what an encoder was trained on lie nearer than others': the calibration must see those that it was not.
    """
    return crc32(goal.encode()) % N_LEFT_OUT == 0


def shipped_model() -> SameGoalModel:
    """The model that comes with the package: no words, no locales."""
    return SameGoalModel.from_json(files(__package__).joinpath(SHIPPED).read_text(encoding="utf-8"))


def fit_same_goal(known: KnownPairs) -> SameGoalModel:
    """Fit the model; the shipped one where there are fewer than `MIN_KNOWN_PAIRS` pairs of either kind."""
    n_same = int(known.is_same.sum())
    counts = {"n_known_pairs": len(known.is_same), "n_same_goal": n_same}
    if min(n_same, len(known.is_same) - n_same) < MIN_KNOWN_PAIRS:
        shipped = shipped_model()
        return replace(shipped, locale_curves={}, metrics=counts)
    score, fold = _held_out_scores(known), known.fold
    everything = np.ones(len(score), dtype=bool)
    p, bounded = np.empty(len(score)), np.empty(len(score))
    for held in range(N_FOLDS):
        is_held = fold == held
        p[is_held] = _probability(score[is_held], known.locale[is_held], *_curves(known, score, ~is_held))
    tested = (p, known.is_same, known.tested_goal, known.weight)
    for held in range(N_FOLDS):
        is_held = fold == held
        bounded[is_held] = not_too_sure(p[is_held], sure_from(*(column[~is_held] for column in tested)))
    told = {"": reliability(bounded, known.is_same, known.weight)}
    for name in sorted(set(known.locale.tolist())):
        rows = known.locale == name
        told[name] = reliability(bounded[rows], known.is_same[rows], known.weight[rows])
    fitted, curves = _fit(known, np.arange(len(score))), _curves(known, score, everything)
    return SameGoalModel(fitted, *curves, sure_from(*tested), {**counts, "locales": told})


def _held_out_scores(known: KnownPairs) -> Floats:
    """Score of each pair by a model that has seen no pair of its tested goal."""
    fold, score = known.fold, np.empty(len(known.is_same))
    for held in range(N_FOLDS):
        seen = np.flatnonzero((known.left_fold != held) & (known.right_fold != held))
        chosen = np.flatnonzero(fold == held)
        score[chosen] = _fit(known, seen).of(*_some(known, chosen))
    return score


def _some(known: KnownPairs, rows: Ints) -> tuple[dict[str, Floats], WordsApart]:
    by_pair = _by_pair(known.apart)[rows]
    apart = WordsApart(by_pair.indptr.astype(np.int64), by_pair.indices.astype(np.int64))
    return {name: values[rows] for name, values in known.signals.items()}, apart


def _fit(known: KnownPairs, rows: Ints) -> Score:
    """Weights of signals (never negative) and words, by penalised likelihood on some of the pairs."""
    signals = {name: known.signals[name][rows] for name in SIGNALS}
    is_same, weight = known.is_same[rows].astype(np.float64), _rebalanced(known, rows)
    knots = {name: tuple(np.unique(np.quantile(values, _QUANTILES)).tolist()) for name, values in signals.items()}
    steps = np.column_stack([np.ones(len(rows)), *(_steps(signals[name], knots[name]) for name in SIGNALS)])
    words = _by_pair(known.apart)[rows]
    used = np.unique(words.indices)
    words = sparse.csr_array(words.tocsc()[:, used])
    n_steps, transposed = steps.shape[1], sparse.csr_array(words.T)
    ridge = np.concatenate([[0.0], np.full(n_steps - 1, _RIDGE), np.full(len(used), _WORD_RIDGE)])

    def loss(gains: Floats) -> tuple[float, Floats]:
        score = steps @ gains[:n_steps] + words @ gains[n_steps:]
        error = weight * (_sigmoid(score) - is_same)
        value = weight @ (np.logaddexp(0, score) - is_same * score) + ridge @ gains**2 / 2
        return float(value), np.concatenate([steps.T @ error, transposed @ error]) + ridge * gains

    least = np.full(len(ridge), -np.inf)
    least[1:n_steps] = 0.0
    bounds = Bounds(least, np.full(len(ridge), np.inf))
    found = minimize(loss, np.zeros(len(ridge)), jac=True, method="L-BFGS-B", bounds=bounds, options=_ENOUGH).x
    word_gains = np.zeros(WORD_BUCKETS, dtype=np.float32)
    word_gains[used] = found[n_steps:]
    gains, start = {}, 1
    for name in SIGNALS:
        end = start + len(knots[name]) - 1
        gains[name] = tuple(np.concatenate([[0.0], np.cumsum(found[start:end])]).tolist())
        start = end
    return Score(float(found[0]), knots, gains, word_gains)


def _steps(values: Floats, knots: Sequence[float]) -> Floats:
    """How far each value has come from each knot to the next, from 0 to 1; shape (values, knots - 1)."""
    ends = np.asarray(knots)
    return np.asarray(np.clip((values[:, None] - ends[:-1]) / np.diff(ends), 0.0, 1.0))


def _rebalanced(known: KnownPairs, rows: Ints) -> Floats:
    """Weights under which the pairs are the same goal as often as all are: leaving goals out costs more of the others'.

    Their sum is the number of pairs, or the ridge would hang on how many candidates there are.
    """
    weight = known.weight[rows].copy()
    for is_same in (True, False):
        chosen = known.is_same[rows] == is_same
        weight[chosen] *= known.weight[known.is_same == is_same].sum() / max(weight[chosen].sum(), 1e-9)
    return np.asarray(weight * len(rows) / weight.sum())


def _curves(known: KnownPairs, score: Floats, rows: Bools) -> tuple[Curve, dict[str, Curve]]:
    """The curve of all pairs, and of each locale one that leaves it as far as its own pairs speak for that."""
    weight = known.weight / known.weight.mean()
    everywhere = _fit_curve(score[rows], known.is_same[rows], weight[rows], Curve(), _CURVE_PAIRS)
    by_locale = {}
    for locale in sorted(set(known.locale[rows])):
        some = rows & (known.locale == locale)
        by_locale[locale] = _fit_curve(score[some], known.is_same[some], weight[some], everywhere, _LOCALE_PAIRS)
    return everywhere, by_locale


def _fit_curve(score: Floats, is_same: Bools, weight: Floats, start: Curve, ridge: float) -> Curve:
    columns = np.column_stack([np.ones(len(score)), score, np.maximum(score - _BEND, 0.0)])
    begin, target = np.array([start.shift, start.slope, start.bend]), is_same.astype(np.float64)

    def loss(curve: Floats) -> tuple[float, Floats]:
        log_odds = columns @ curve
        error = weight * (_sigmoid(log_odds) - target)
        away = curve - begin
        # A pair tells at most a quarter of a unit of information about its log-odds.
        value = weight @ (np.logaddexp(0, log_odds) - target * log_odds) + ridge / 8 * away @ away
        return float(value), columns.T @ error + ridge / 4 * away

    # More of the score never makes the same goal less likely.
    found = minimize(loss, begin, jac=True, method="SLSQP", constraints=_RISING).x
    return Curve(*(round(float(value), 6) for value in found))


_RISING = LinearConstraint([[0.0, 1.0, 0.0], [0.0, 1.0, 1.0]], 0.0, np.inf)


def _probability(
    score: Floats, locale: npt.NDArray[np.object_], everywhere: Curve, by_locale: Mapping[str, Curve]
) -> Floats:
    log_odds = everywhere.log_odds(score)
    for name, curve in by_locale.items():
        chosen = locale == name
        log_odds[chosen] = curve.log_odds(score[chosen])
    return np.clip(_sigmoid(log_odds), 1 - _MOST_CERTAIN, _MOST_CERTAIN)


def _by_pair(apart: WordsApart) -> sparse.csr_array:
    """Words apart as rows of ones, shape (pairs, buckets)."""
    ones = np.ones(len(apart.buckets))
    return sparse.csr_array((ones, apart.buckets, apart.offsets), shape=(len(apart.offsets) - 1, WORD_BUCKETS))


def _sigmoid(log_odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -500, 500))))
