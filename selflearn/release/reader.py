"""Reading a training set without Spark."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from selflearn.errors import DataError


def load_training_set(path: str | Path, release: str | None = None) -> pd.DataFrame:
    """One release's examples as pandas, sorted by `example_id`; needs neither Java nor Spark.

    Args:
        path: the lake folder (or object-store address) that `selflearn run` wrote to.
        release: a release id; left out, the newest published one.

    Returns:
        One row per example: `example_id, split, origin, locale, context, text, intent, slots, is_intent_only,
        annotated_utterance, weight, utterance_id, reason`; `slots` is a list of dicts with `name`, `value` and the
        characters `start` to `end` (exclusive) of `text`.

    Raises:
        DataError: there is no lake, no release yet, or none of that id.
    """
    releases = _table(path, "releases").to_pandas()
    published = releases[releases["state"] == "published"].sort_values(["as_of", "created_at"])
    if published.empty:
        raise DataError(f"{path} holds no published release", "run `selflearn run` over a few days of logs")
    wanted = str(published["release_id"].iloc[-1]) if release is None else release
    if wanted not in set(published["release_id"]):
        known = ", ".join(published["release_id"].tail(5))
        raise DataError(f"{path} holds no published release {wanted!r}", f"choose one of: {known}")
    rows = _table(path, "training_sets").to_pandas(filters=[("release_id", "=", wanted)])
    rows["slots"] = [list(slots) for slots in rows["slots"]]
    return rows.drop(columns="release_id").sort_values("example_id", ignore_index=True)


def _table(path: str | Path, name: str) -> DeltaTable:
    try:
        return DeltaTable(f"{path}/{name}")
    except TableNotFoundError:
        raise DataError(
            f"{path} is no lake with releases: it has no table {name}",
            "give the folder named `lake` in your settings",
        ) from None
