"""How well the lake's `p_same_goal` holds on goals that its model had not seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from selflearn.errors import DataError


@dataclass(frozen=True)
class Reliability:
    """Calibration of one locale's pairs, or of all.

    `bins` holds weight, mean probability and share of one goal of each filled tenth of the probability.
    """

    n: int
    n_same_goal: int
    calibration_error: float
    bins: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class VariantEvaluation:
    """The newest model's day and encoder, and its reliability: of all pairs, and by locale."""

    as_of: date
    encoder_id: str
    overall: Reliability
    by_locale: Mapping[str, Reliability]


def evaluate_variants(lake: str) -> VariantEvaluation:
    """Read what the newest run of the stage variants measured, on pairs of known goals held out of its fit.

    Raises:
        DataError: the lake has no model, or the newest one was not fitted: too few goals were known.
    """
    try:
        models = DeltaTable(f"{lake}/variant_models").to_pandas()
    except TableNotFoundError:
        raise DataError(
            f"{lake} has no table variant_models", "give the lake of a run whose stage variants is done"
        ) from None
    newest = models.sort_values("as_of").iloc[-1]
    metrics = json.loads(newest["content"])["metrics"]
    if "locales" not in metrics:
        raise DataError(
            f"the model of {newest['as_of']} is the shipped one: the window had too few pairs of known goals "
            f"({metrics['n_same_goal']} of one goal, {metrics['n_known_pairs'] - metrics['n_same_goal']} of two)",
            "mine more days, or name a launch set in the settings",
        )
    found = {
        locale: Reliability(**known | {"bins": tuple(map(tuple, known["bins"]))})
        for locale, known in metrics["locales"].items()
    }
    overall = found.pop("")
    return VariantEvaluation(newest["as_of"], newest["encoder_id"], overall, found)
