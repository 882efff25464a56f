"""Which candidate may be a rewrite, and what its two arms say of it: plain numpy on rows of `candidates`."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selflearn.ragged import Floats
from selflearn.rewrites.arms import Arm, p_better
from selflearn.settings import Rewrites

CONFIDENCE = 0.95
MAX_USER_SHARE = 0.5
"""Most that one person may give to a pair's evidence."""
_RETIRE = 0.5
_MIN_TREATED = 5.0
"""Least trials of a rewrite that is kept, without whoever was served most often."""
_TARGET_COUNTS_AS = 2.0
"""Trials that the target's record is worth before the rewrite itself has been tried."""
_CORRECTED = 0.5
_NUMBER = re.compile(r"\d+")

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judgement:
    """What is found of each candidate.

    Attributes:
        source, target: chances that the wordings work at once, as the goal they share.
        p_better: that the target's chance is above the source's.
        is_allowed: whether all guards let it pass, also without whom it owes most to.
        p_treated_better: that the rewrite works more often than the wording left as it is.
        is_kept: whether it has been served often enough to say that it does beyond doubt.
        is_retired: whether it is rather worse.
    """

    source: Arm
    target: Arm
    p_better: Floats
    is_allowed: Bools
    p_treated_better: Floats
    is_kept: Bools
    is_retired: Bools

    @property
    def state(self) -> list[str]:
        return [str(name) for name in np.where(self.is_kept, "kept", np.where(self.is_retired, "retired", "trying"))]


def judge(rows: pa.Table, settings: Rewrites) -> Judgement:
    """Judge candidates, each by itself.

    Columns: `text, target_text, tells_apart` (whether they differ in words that decide), `share` (of what people who
    said the first went on to), `n, worked, friction, most` (all that one person gave to `n`), the same of the target
    but its friction, `n_users, n_days, max_user_share`, of turns served under the rewrite `n_treated, n_treated_worked,
    n_treated_most`, and `prior_worked, prior_failed`, what any wording of theirs is worth before it is tried.
    """
    prior = Arm(_numbers(rows, "prior_worked"), _numbers(rows, "prior_failed"))
    source = _record(rows, "n", "worked", "most")
    target = _record(rows, "target_n", "target_worked", "target_most")
    served = _record(rows, "n_treated", "n_treated_worked", "n_treated_most")
    # Whom the wording itself owes most to has been left out before it was first served.
    left = Record(source.n, source.n * (1 - _numbers(rows, "friction")), np.zeros(len(rows)))
    before, after = prior.after(source.n, source.worked), prior.after(target.n, target.worked)
    better = p_better(after, before)
    is_better = (better >= CONFIDENCE) & (_p_better_to_others(prior, target, prior, source) >= CONFIDENCE)
    expected = after.worth(_TARGET_COUNTS_AS)
    treated_better = p_better(expected.after(served.n, served.worked), prior.after(left.n, left.worked))
    is_kept = (
        (served.n - served.most >= _MIN_TREATED)
        & (treated_better >= CONFIDENCE)
        & (_p_better_to_others(expected, served, prior, left) >= CONFIDENCE)
    )
    is_retired = (treated_better < _RETIRE) & (_p_better_to_others(prior, left, expected, served) >= 1 - _RETIRE)
    is_supported = (
        (_numbers(rows, "n_users") >= settings.min_users)
        & (_numbers(rows, "n_days") >= settings.min_days)
        & (_numbers(rows, "max_user_share") <= MAX_USER_SHARE)
    )
    keeps_words = keeps_numbers(rows) & (_numbers(rows, "tells_apart") == 0)
    is_kept_whole = keeps_words | (_numbers(rows, "share") >= _CORRECTED)
    is_allowed = is_supported & is_kept_whole & (is_better | is_kept)
    return Judgement(before, after, better, is_allowed, treated_better, is_kept, is_retired)


@dataclass(frozen=True)
class Record:
    """Trials, those that worked, and the most trials that are of one person."""

    n: Floats
    worked: Floats
    most: Floats


def _record(rows: pa.Table, *names: str) -> Record:
    return Record(*(_numbers(rows, name) for name in names))


def _p_better_to_others(prior: Arm, one: Record, other_prior: Arm, other: Record) -> Floats:
    """`p_better` without whom the one owes most to: as if all of theirs had worked in it, and failed in the other."""
    n, other_n = np.maximum(one.n - one.most, 0.0), np.maximum(other.n - other.most, 0.0)
    return p_better(prior.after(n, np.maximum(one.worked - one.most, 0.0)), other_prior.after(other_n, other.worked))


def keeps_numbers(rows: pa.Table) -> Bools:
    """Whether both wordings hold the same numbers, in the digits of whatever script."""
    ends = zip(rows["text"].to_pylist(), rows["target_text"].to_pylist(), strict=True)
    return np.array([numbers(text) == numbers(target) for text, target in ends], dtype=bool)


def numbers(text: str) -> list[int]:
    """The numbers written in digits, sorted.

    >>> numbers("7 am") == numbers("\u0667 am")
    True
    """
    return sorted(int(found) for found in _NUMBER.findall(text))


def _numbers(rows: pa.Table, name: str) -> Floats:
    return np.asarray(rows[name].to_numpy(), dtype=np.float64)
