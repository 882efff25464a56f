"""The gate: challenger and champion read the same sentences, and a release must not lose what works.

Both are trained the same way, one on the new training set, one on that of the release in use (on the launch set where
there is none). The difference of their shares of right frames has a 95 % interval by paired bootstrap over sentences
(Efron 1979; for NLU see Koehn 2004): both readings of a sentence are drawn together. No suite may surely lose, and a
protected one must rule out that it loses more than a margin. Of sentences whose meaning was mined a share is wrong,
most often as the champion, which learnt it, reads them: who reads these rightly seems to lose that share, so it is no
loss. A suite of so few sentences that not even equal readings could rule a loss out must not lose more than the margin
itself, nor three sentences: one or two read otherwise are no reason to learn nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selflearn.ragged import Floats
from selflearn.release.rows import Row, meaning_of
from selflearn.release.trainer import Meaning

_DRAWS = 2_000
_DRAWS_AT_ONCE = 50
_SEED = 20260105
_INTERVAL = (0.025, 0.975)
_RULE_OF_THREE = 3.0
"""What was not seen in n trials has, at 95 %, a chance of no more than 3 / n (Hanley & Lippman-Hand 1983)."""
_LEAST_LOST = 3


@dataclass(frozen=True)
class Suite:
    """Sentences whose meaning is known.

    Attributes:
        name: for people and figures.
        rows: `text, locale, context, intent, slots, is_intent_only`.
        weights: how much each counts.
        is_protected: a loss of more than the margin must be ruled out; else it is enough that none is certain.
        doubt: share of the sentences, by weight, whose meaning is probably wrong.
    """

    name: str
    rows: tuple[Row, ...]
    weights: Floats
    is_protected: bool
    doubt: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """Shares of right frames in a suite; `low` to `high` is the interval of the challenger's less the champion's."""

    suite: str
    n: int
    is_protected: bool
    champion: float
    challenger: float
    low: float
    high: float
    doubt: float = 0.0

    def fault(self, max_loss: float) -> str | None:
        """Why it speaks against the release; None where it does not."""
        told = (
            f"{self.suite}: {self.champion:.3f} to {self.challenger:.3f} of {self.n} sentences right, "
            f"a change of {self.low:+.3f} to {self.high:+.3f}"
        )
        if self.doubt:
            told += f" where {self.doubt:.3f} probably mean something else"
        allowed = max_loss + self.doubt
        if self.high < -self.doubt:
            return f"{told}, is a loss"
        if not self.is_protected or self.low >= -allowed:
            return None
        if self.n * max_loss >= _RULE_OF_THREE:
            return f"{told}, does not rule out a loss of more than {allowed:g}"
        if self.champion - self.challenger > allowed and self._n_lost >= _LEAST_LOST:
            return f"{told}, is more than {allowed:g} and of too few sentences to tell it from chance"
        return None

    @property
    def _n_lost(self) -> int:
        return round(self.n * (self.champion - self.challenger))


@dataclass(frozen=True)
class Verdict:
    """Whether a release may be published, why, and what was measured."""

    is_passed: bool
    reason: str
    comparisons: tuple[Comparison, ...]

    @property
    def figures(self) -> dict[str, float]:
        """Every number, by `suite.measure`."""
        measures = ("n", "champion", "challenger", "low", "high", "doubt")
        return {f"{one.suite}.{name}": float(getattr(one, name)) for one in self.comparisons for name in measures}


def judge(
    suites: Sequence[Suite],
    champion: Mapping[str, Sequence[Meaning]],
    challenger: Mapping[str, Sequence[Meaning]],
    max_loss: float,
) -> Verdict:
    """Compare both on every suite that has sentences, by what they read in each, by name.

    Args:
        suites: not all empty.
        champion: readings of each suite's rows.
        challenger: the same.
        max_loss: greatest share of right frames that a protected suite may lose, beside its doubt.
    """
    found = tuple(compare(suite, champion[suite.name], challenger[suite.name]) for suite in suites if suite.rows)
    faults = [fault for one in found if (fault := one.fault(max_loss))]
    if not found:
        return Verdict(False, "there is no sentence to compare challenger and champion on", ())
    best = max(found, key=lambda one: one.challenger - one.champion)
    gained = f"no suite lost; {best.suite} went from {best.champion:.3f} to {best.challenger:.3f}"
    return Verdict(not faults, "; ".join(faults) or gained, found)


def compare(suite: Suite, champion: Sequence[Meaning], challenger: Sequence[Meaning]) -> Comparison:
    """Both readings of a suite's rows against what they mean."""
    right = np.array(
        [[is_right(row, one) for row, one in zip(suite.rows, read, strict=True)] for read in (champion, challenger)]
    )
    before, after = (float(np.average(one, weights=suite.weights)) for one in right)
    low, high = bootstrap(right[1].astype(float) - right[0], suite.weights)
    return Comparison(suite.name, len(suite.rows), suite.is_protected, before, after, low, high, suite.doubt)


def bootstrap(differences: Floats, weights: Floats) -> tuple[float, float]:
    """95 % interval of the weighted mean of paired differences, sentences drawn with replacement; seeded."""
    rng, n = np.random.default_rng(_SEED), len(differences)
    if not differences.any():
        return 0.0, 0.0
    means: list[npt.NDArray[np.float64]] = []
    for _ in range(_DRAWS // _DRAWS_AT_ONCE):
        times = rng.multinomial(n, np.full(n, 1 / n), size=_DRAWS_AT_ONCE)
        means.append((times @ (weights * differences)) / (times @ weights))
    low, high = np.quantile(np.concatenate(means), _INTERVAL)
    return float(low), float(high)


def is_right(row: Row, read: Meaning) -> bool:
    """Whether the reading is what the row means; of a row whose values are unknown the intent alone is compared."""
    intent, slots = meaning_of(row)
    return read[0] == intent and (slots is None or read[1] == slots)
