"""Reading releases without Spark."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from selflearn.errors import DataError
from selflearn.release.rows import Row
from selflearn.release.training_set import EXAMPLE


def load_training_set(path: str | Path, release: str | None = None) -> pd.DataFrame:
    """One release's examples as pandas, sorted by `example_id`; needs neither Java nor Spark.

    Args:
        path: the lake folder (or object-store address) that `selflearn run` wrote to.
        release: a release id; left out, the newest published one.

    Returns:
        One row per example: `example_id, split, origin, locale, context, text, intent, slots, is_intent_only,
        annotated_utterance, weight, other_intents, utterance_id, reason`; `slots` is a list of dicts with `name`,
        `value` and the characters `start` to `end` (exclusive) of `text`, `other_intents` one of dicts with `intent`
        and `weight`.

    Raises:
        DataError: there is no lake, no release yet, or none of that id.
    """
    found = find_release(path, release, published=True)
    rows = _examples(path).to_pandas(filters=[("release_id", "=", found["release_id"])])
    for name in ("slots", "other_intents"):
        rows[name] = [list(found) for found in rows[name]]
    return rows.drop(columns="release_id").sort_values("example_id", ignore_index=True)


def read_releases(path: str | Path) -> pd.DataFrame:
    """Every release, of any state, oldest first: the columns of `tables.RELEASES`.

    Raises:
        DataError: there is no lake, no release in it, or another version wrote it.
    """
    needed = ("reason", "card", "issues", "n_hard_negatives", "n_unsure")
    releases = _table(path, "releases", needed).to_pandas().sort_values(["as_of", "created_at"], ignore_index=True)
    if releases.empty:
        raise DataError(f"{path} holds no published release", "run `selflearn run` over a few days of logs")
    return releases


def find_release(path: str | Path, release: str | None = None, published: bool = False) -> pd.Series[Any]:
    """A release's row; where no id is given, the one in use: the newest that is published.

    Raises:
        DataError: there is none, or none of that id.
    """
    releases = read_releases(path)
    usable = releases[releases["state"] == "published"]
    if release is None or published:
        if usable.empty:
            states = ", ".join(f"{row.release_id} is {row.state}" for row in releases.tail(5).itertuples())
            raise DataError(
                f"{path} holds no published release ({states})", "run `selflearn release show ID` to see why"
            )
        releases = usable
    found = releases[releases["release_id"] == (release or releases["release_id"].iloc[-1])]
    if found.empty:
        known = ", ".join(releases["release_id"].tail(5))
        kind = "published release" if published else "release"
        raise DataError(f"{path} holds no {kind} {release!r}", f"choose one of: {known}")
    return found.iloc[-1]


def read_examples(path: str | Path, release_id: str) -> list[Row]:
    """Rows of `training_set.EXAMPLE` of a release that is there, by `example_id`."""
    filters = [("release_id", "=", release_id)]
    table = _examples(path).to_pyarrow_table(filters=filters, columns=[*EXAMPLE])
    rows: list[Row] = table.sort_by("example_id").to_pylist()
    return rows


def read_vetoes(path: str | Path) -> pd.DataFrame:
    """Every veto: the columns of `tables.VETOES`; no rows where none was ever given."""
    try:
        return DeltaTable(f"{path}/vetoes").to_pandas()
    except TableNotFoundError:
        return pd.DataFrame(columns=["veto_id", "created_at", "locale", "normalised_text", "intent", "reason"])


@dataclass(frozen=True)
class Difference:
    """What one release has that another has not: rows of `training_set.EXAMPLE` by `example_id`."""

    added: list[Row]
    removed: list[Row]
    moved: list[tuple[Row, Row]]
    """Examples of both in other splits or of other weights: before and after."""


def compare_releases(path: str | Path, before: str, after: str) -> Difference:
    """The difference of two releases that are or were published.

    Raises:
        DataError: there is none of an id, or its examples were never kept.
    """
    ids = [_kept(path, name) for name in (before, after)]
    old, new = ({row["example_id"]: row for row in read_examples(path, name)} for name in ids)
    kept = sorted(old.keys() & new.keys())
    return Difference(
        [new[name] for name in sorted(new.keys() - old.keys())],
        [old[name] for name in sorted(old.keys() - new.keys())],
        [(old[name], new[name]) for name in kept if _place(old[name]) != _place(new[name])],
    )


def _kept(path: str | Path, release: str) -> str:
    found = find_release(path, release)
    if found["state"] == "rejected":
        raise DataError(
            f"release {release!r} was rejected, and its examples were not kept", "see `selflearn release show` for why"
        )
    return str(found["release_id"])


def _place(row: Row) -> tuple[str, float]:
    return row["split"], row["weight"]


def _examples(path: str | Path) -> DeltaTable:
    return _table(path, "training_sets", EXAMPLE)


def _table(path: str | Path, name: str, needed: Collection[str]) -> DeltaTable:
    try:
        table = DeltaTable(f"{path}/{name}")
    except TableNotFoundError:
        raise DataError(
            f"{path} is no lake with releases: it has no table {name}",
            "give the folder named `lake` in your settings",
        ) from None
    missing = sorted(set(needed) - {field.name for field in table.schema().fields})
    if missing:
        raise DataError(
            f"table {name} of {path} lacks {', '.join(missing)}: an earlier version wrote it",
            "mine into a new lake folder, or move the old table away",
        )
    return table
