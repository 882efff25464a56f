"""Vetoes: what is never to be released, whatever the mine says."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf

from selflearn.errors import SettingsError
from selflearn.release.rows import digest
from selflearn.turns.text import normalise_text


@dataclass(frozen=True)
class Veto:
    """What all of its parts fit is never released: a wording, an intent, or a wording of an intent.

    Attributes:
        locale: None for all.
        normalised_text: the wording, None for all.
        intent: None for all.
        reason: for people.
    """

    locale: str | None
    normalised_text: str | None
    intent: str | None
    reason: str

    @property
    def veto_id(self) -> str:
        """What it vetoes, as twelve hex digits: the same again is the same veto."""
        return digest(*(part or "" for part in (self.locale, self.normalised_text, self.intent)))[:12]


def veto(locale: str, text: str, intent: str, reason: str) -> Veto:
    """A veto of what is not empty.

    Raises:
        SettingsError: neither a text nor an intent is given.
    """
    if not (normalise_text(text) or intent):
        raise SettingsError("the veto names nothing", "give --text, --intent or both")
    return Veto(locale or None, normalise_text(text) or None, intent or None, reason)


def without_vetoed(rows: DataFrame, vetoes: DataFrame) -> DataFrame:
    """The rows (`locale, text, intent`, and anything else) that no veto fits.

    Args:
        rows: labels, or launch sentences.
        vetoes: rows of `tables.VETOES`; few.
    """
    named = vetoes.select(*(F.col(name).alias(f"vetoed_{name}") for name in ("locale", "normalised_text", "intent")))
    found = rows.withColumn("vetoed_as", normalised(F.col("text")))
    fits = (
        _fits("locale", F.col("locale"))
        & _fits("normalised_text", F.col("vetoed_as"))
        & _fits("intent", F.col("intent"))
    )
    return found.join(F.broadcast(named), fits, "left_anti").drop("vetoed_as")


def normalised(text: Column) -> Column:
    """The form in which wordings are compared."""
    # The stubs demand a function type that the signature leaves out.
    normalise = arrow_udf(_normalise, "string")  # type: ignore[call-overload]
    return normalise(text)  # type: ignore[no-any-return]


def _normalise(texts: pa.Array) -> pa.Array:
    return pa.array([normalise_text(text) for text in texts.to_pylist()], pa.string())


def _fits(name: str, value: Column) -> Column:
    return F.col(f"vetoed_{name}").isNull() | (F.col(f"vetoed_{name}") == value)
