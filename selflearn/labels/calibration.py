"""Posteriors to probabilities: how often a label of a given posterior is right, found without annotation.

What an utterance itself tells by its outcomes is taken out of its posterior; what remains foretells them, and how well
it does shows how often its most probable goal is right (a latent one: the outcomes only make a goal likelier). With
the outcomes put back, that gives every utterance a calibrated probability, on which Platt scaling (Platt 1999) of the
whole posterior is fitted. Its order is kept: more posterior never means less. It never makes anything surer: failures
that nobody complains of look like successes, so that outcomes say too much in favour of what is likely already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from scipy.optimize import minimize
from scipy.special import expit, logit

from selflearn.lakehouse.tables import OTHER_GOAL
from selflearn.ragged import Floats, Ints, max_of, sum_of

SIGNALS = ("nlu", "outcome", "pair", "variant", "prior", "refit")
_OWN = ("nlu", "outcome")
MIN_UTTERANCES = 50
MAX_UTTERANCES = 20_000
_LEAST = 1e-6
_MOST_EVIDENCE = 20.0
_BINS = 10

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Calibration:
    """Log-odds that a goal is right: `base + slope * logit(posterior)`."""

    base: float = 0.0
    slope: float = 1.0

    def probability(self, posterior: Column) -> Column:
        """The calibrated probability, as a column."""
        p = F.least(F.greatest(posterior, F.lit(_LEAST)), F.lit(1 - _LEAST))
        log_odds = F.lit(self.base) + F.lit(self.slope) * F.log(p / (1 - p))
        return 1 / (1 + F.exp(-log_odds))

    def of(self, posterior: Floats) -> Floats:
        """The calibrated probability, as an array."""
        return np.asarray(expit(_variables(posterior) @ np.asarray(astuple(self))))


@dataclass(frozen=True)
class FittedCalibration:
    """A calibration, and how well it holds.

    Attributes:
        n_utterances: those with outcomes, on which it was fitted.
        error_before, error: expected calibration error of the most probable goals' posterior, and of the calibrated
            one, by the probabilities that outcomes leave; ten bins, NaN of too few.
    """

    calibration: Calibration
    n_utterances: int
    error_before: float
    error: float


@dataclass(frozen=True)
class _Utterances:
    """Candidates of utterances that lie at `offsets`; what the outcomes say of each, and the rest of its posterior."""

    offsets: Ints
    is_named: Bools
    posterior: Floats
    hidden: Floats
    told: Floats

    @property
    def of_candidate(self) -> Ints:
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def best(self, score: Floats) -> Ints:
        """The place of each utterance's best candidate that has a name."""
        order = np.lexsort((-np.where(self.is_named, score, -1.0), self.of_candidate))
        return np.asarray(order[self.offsets[:-1]])


def with_outcomes(nodes: DataFrame) -> pd.DataFrame:
    """Candidates of utterances that have outcomes and a goal with a name; of at most `MAX_UTTERANCES`, by their id."""
    some = (
        nodes.groupBy("utterance_id")
        .agg(F.bool_or(F.col("outcome_evidence") != 0).alias("is_told"), F.count(F.lit(1)).alias("n"))
        .where("is_told AND n > 1")
        .orderBy("utterance_id")
        .limit(MAX_UTTERANCES)
        .select("utterance_id")
    )
    columns = ["utterance_id", "goal", "posterior", *(f"{signal}_evidence" for signal in SIGNALS)]
    rows = nodes.join(F.broadcast(some), "utterance_id", "left_semi").select(*columns).toPandas()
    return rows.sort_values(["utterance_id", "goal"], ignore_index=True)


def fit_calibration(rows: pd.DataFrame) -> FittedCalibration:
    """Fit to utterances with outcomes, columns of `with_outcomes`; none of fewer than `MIN_UTTERANCES`."""
    found = _utterances(rows)
    n_utterances = len(found.offsets) - 1
    if n_utterances < MIN_UTTERANCES:
        return FittedCalibration(Calibration(), n_utterances, float("nan"), float("nan"))
    target = _with_outcomes_back(found, _hidden_calibration(found))
    best = found.best(found.posterior)
    p, is_right = found.posterior[best], target[best]

    def loss(guess: Floats, variables: Floats) -> tuple[float, Floats]:
        q = np.clip(expit(variables @ guess), _LEAST, 1 - _LEAST)
        told = is_right * np.log(q) + (1 - is_right) * np.log(1 - q)
        return -float(told.sum()), variables.T @ (q - is_right)

    fitted = _fitted(loss, _variables(p), most_base=0.0)
    after = fitted.of(p)
    return FittedCalibration(fitted, n_utterances, calibration_error(p, is_right), calibration_error(after, is_right))


def launch_error(rows: pd.DataFrame, launch: pd.DataFrame, calibration: Calibration) -> float:
    """Calibration error on utterances whose goal the launch set gives, by what other utterances say of them alone.

    The NLU has learnt these very sentences, and its outcomes are those of its readings: both are surer than they are
    of any others, so both are hidden, and utterances of which nobody else says anything are left out. `rows` are
    candidates with the columns of `with_outcomes`, `launch` has `utterance_id, goal`; NaN of fewer than
    `MIN_UTTERANCES` in both.
    """
    known = launch.drop_duplicates().drop_duplicates("utterance_id", keep=False).set_index("utterance_id")["goal"]
    is_told = (rows["pair_evidence"] != 0) | (rows["variant_evidence"] != 0)
    told = set(rows.loc[is_told, "utterance_id"]).intersection(known.index)
    rows = rows[rows["utterance_id"].isin(told)].reset_index(drop=True)
    if len(told) < MIN_UTTERANCES:
        return float("nan")
    weights = source_weights(rows)
    own = sum(weights[signal] * rows[f"{signal}_evidence"].to_numpy(dtype=float) for signal in _OWN)
    seen = _utterances(rows)
    hidden = _shares(_log(rows["posterior"]) - own, seen)
    best = seen.best(hidden)
    is_right = rows["goal"].to_numpy()[best] == known.loc[rows["utterance_id"].to_numpy()[best]].to_numpy()
    return calibration_error(calibration.of(hidden[best]), is_right.astype(float))


def source_weights(rows: pd.DataFrame) -> dict[str, float]:
    """The weights that the posteriors were made with, read off them: their logs are linear in the evidence."""
    rows = rows[rows["posterior"] > _LEAST]
    columns = [f"{signal}_evidence" for signal in SIGNALS]
    values = rows[columns].astype(float).assign(score=_log(rows["posterior"]))
    apart = (values - values.groupby(rows["utterance_id"]).transform("mean")).to_numpy()
    found = np.linalg.lstsq(apart[:, :-1], apart[:, -1], rcond=1e-9)[0]
    return dict(zip(SIGNALS, found.tolist(), strict=True))


def calibration_error(p: Floats, is_right: Floats) -> float:
    """Mean distance of probabilities and shares that are right, over ten bins."""
    bins = np.minimum((p * _BINS).astype(int), _BINS - 1)
    return float(np.abs(np.bincount(bins, weights=p - is_right, minlength=_BINS)).sum() / len(p))


def _utterances(rows: pd.DataFrame) -> _Utterances:
    """Of rows that are sorted by utterance."""
    names = rows["utterance_id"].to_numpy(dtype=object)
    first = np.flatnonzero(np.append(True, names[1:] != names[:-1])) if len(names) else np.zeros(0, dtype=np.int64)
    posterior = rows["posterior"].to_numpy(dtype=float)
    weight = source_weights(rows)["outcome"] if len(rows) else 0.0
    told = np.clip(weight * rows["outcome_evidence"].to_numpy(dtype=float), -_MOST_EVIDENCE, _MOST_EVIDENCE)
    is_named = (rows["goal"] != OTHER_GOAL).to_numpy(dtype=bool)
    offsets = np.append(first, len(names)).astype(np.int64)
    whole = _Utterances(offsets, is_named, posterior, posterior, told)
    return _Utterances(offsets, is_named, posterior, _shares(_log(posterior) - told, whole), told)


def _hidden_calibration(found: _Utterances) -> Calibration:
    """With which the rest of the posterior best foretells the outcomes."""
    best = found.best(found.hidden)
    p = found.hidden[best]
    likelihood = np.exp(found.told)
    is_told = likelihood[best]
    is_not = (sum_of(likelihood * found.hidden, found.offsets) - is_told * p) / np.maximum(1 - p, _LEAST)

    def loss(guess: Floats, variables: Floats) -> tuple[float, Floats]:
        q = expit(variables @ guess)
        seen = np.maximum(q * is_told + (1 - q) * is_not, np.finfo(float).tiny)
        slope = (is_told - is_not) / seen * q * (1 - q)
        return -float(np.log(seen).sum()), -variables.T @ slope

    return _fitted(loss, _variables(p))


def _with_outcomes_back(found: _Utterances, calibration: Calibration) -> Floats:
    """Probability of each candidate: the rest of the posterior, calibrated, and the outcomes."""
    best = found.best(found.hidden)
    right = calibration.of(found.hidden[best])
    left = (1 - right) / np.maximum(1 - found.hidden[best], _LEAST)
    shares = found.hidden * left[found.of_candidate]
    shares[best] = right
    return _shares(_log(shares) + found.told, found)


def _fitted(
    loss: Callable[[Floats, Floats], tuple[float, Floats]], variables: Floats, most_base: float | None = None
) -> Calibration:
    """Coefficients of least loss, close to no change (a ridge worth one utterance).

    The slope is between 0 and 1.
    """
    start = np.array(astuple(Calibration()))

    def ridged(guess: Floats) -> tuple[float, Floats]:
        value, slope = loss(guess, variables)
        away = guess - start
        return value + float(away @ away), slope + 2 * away

    found = minimize(ridged, start, jac=True, method="L-BFGS-B", bounds=[(None, most_base), (0.0, 1.0)])
    # The last digits differ with the order of sums, and may not reach the tables.
    return Calibration(*(round(float(value), 3) for value in found.x))


def _variables(posterior: Floats) -> Floats:
    p = np.clip(posterior, _LEAST, 1 - _LEAST)
    return np.column_stack([np.ones(len(p)), logit(p)])


def _shares(scores: Floats, found: _Utterances) -> Floats:
    highest = max_of(scores, found.offsets, 0.0)[found.of_candidate]
    mass = np.exp(scores - highest)
    return np.asarray(mass / sum_of(mass, found.offsets)[found.of_candidate])


def _log(p: Floats | pd.Series) -> Floats:
    return np.asarray(np.log(np.maximum(np.asarray(p, dtype=float), np.finfo(float).tiny)))
