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
        is_tried: whether it has been served often enough to be kept.
    """

    source: Arm
    target: Arm
    p_better: Floats
    is_allowed: Bools
    p_treated_better: Floats
    is_tried: Bools

    @property
    def state(self) -> list[str]:
        """`kept` where the treated arm is better beyond doubt, `retired` where it is rather worse, else `trying`."""
        named = np.where(self.is_tried & (self.p_treated_better >= CONFIDENCE), "kept", "trying")
        return [str(name) for name in np.where(self.p_treated_better < _RETIRE, "retired", named)]


def judge(rows: pa.Table, settings: Rewrites) -> Judgement:
    """Judge candidates, each by itself.

    Columns: `text, target_text, share` (of what people who said the first went on to), `n, worked, friction, most` (all
    that one person gave to `n`), the same of the target but its friction, `n_users, n_days, max_user_share`, and
    `n_treated, n_treated_worked`.
    """
    names = ("n", "worked", "most", "target_n", "target_worked", "target_most", "n_treated", "n_treated_worked")
    n, worked, most, target_n, target_worked, target_most, *served = (_numbers(rows, name) for name in names)
    source, target = Arm.of_trials(n, worked), Arm.of_trials(target_n, target_worked)
    better = p_better(target, source)
    # As if that person's turns had failed with the first wording and worked with the other, all of them.
    rest, target_rest = np.maximum(n - most, 0.0), np.maximum(target_n - target_most, 0.0)
    others = Arm.of_trials(target_rest, np.maximum(target_worked - target_most, 0.0))
    better_to_others = p_better(others, Arm.of_trials(rest, worked))
    organic = Arm.of_trials(n, n * (1 - _numbers(rows, "friction")))
    is_supported = (
        (_numbers(rows, "n_users") >= settings.min_users)
        & (_numbers(rows, "n_days") >= settings.min_days)
        & (_numbers(rows, "max_user_share") <= MAX_USER_SHARE)
    )
    is_kept_whole = keeps_numbers(rows) | (_numbers(rows, "share") >= _CORRECTED)
    is_better = (better >= CONFIDENCE) & (better_to_others >= CONFIDENCE)
    return Judgement(
        source,
        target,
        better,
        is_supported & is_kept_whole & is_better,
        p_better(Arm.treated(target, *served), organic),
        served[0] >= _MIN_TREATED,
    )


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
