"""Scored pairs against a file of gold pairs: in all, by locale, class and cause, and what each threshold would give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from selflearn.detect import PAIR_CLASS_NAMES, pair_classes
from selflearn.errors import DataError
from selflearn.evaluate.pairs import PairScores, score_pairs

_KEY = ["source_turn_id", "target_turn_id"]
_THRESHOLDS = np.round(np.arange(0.05, 1.0, 0.05), 2)
_READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=dict.fromkeys(_KEY, str)),
    ".csv": lambda path: pd.read_csv(path, dtype=dict.fromkeys(_KEY, str)),
    ".parquet": pd.read_parquet,
}


@dataclass(frozen=True)
class PairEvaluation:
    """How well the lake's pairs agree with gold.

    Attributes:
        pairs: the gold pairs with `p_rephrase` (0 where the pair was no candidate), `locale` and `pair_class` (None).
        overall: scores of all of them.
        by_locale: of each locale that has pairs of both kinds.
        by_class: of each class that has pairs of both kinds.
        by_cause: of the positives of each cause among all negatives.
        thresholds: `threshold, n_flagged, precision, recall, f1`.
        n_unknown: gold pairs that are no candidates in the lake.
    """

    pairs: pd.DataFrame
    overall: PairScores
    by_locale: Mapping[str, PairScores]
    by_class: Mapping[str, PairScores]
    by_cause: Mapping[str, PairScores]
    thresholds: pd.DataFrame
    n_unknown: int


def evaluate_pairs(lake: str, gold: pd.DataFrame) -> PairEvaluation:
    """Compare the lake's `p_rephrase` with gold pairs (columns of `read_gold`).

    Raises:
        DataError: the lake has no pairs, or gold has none of one kind.
    """
    columns = [*_KEY, "locale", "pattern", "p_rephrase"]
    try:
        found = DeltaTable(f"{lake}/rephrase_pairs").to_pandas(columns=columns)
    except TableNotFoundError:
        raise DataError(
            f"{lake} has no table rephrase_pairs", "give the lake of a run whose stage detect is done"
        ) from None
    pairs = gold.merge(found, on=_KEY, how="left", validate="one_to_one")
    is_known = pairs["p_rephrase"].notna()
    pairs = pairs.fillna({"p_rephrase": 0.0, "locale": "unknown"})
    known = pairs[is_known]
    places = pair_classes(known["pattern"].tolist(), known["p_rephrase"].to_numpy())
    pairs.loc[is_known, "pair_class"] = np.array(PAIR_CLASS_NAMES, dtype=object)[places]
    is_positive = pairs["is_rephrase"].to_numpy(dtype=bool)
    if is_positive.all() or not is_positive.any():
        raise DataError(
            f"gold has {int(is_positive.sum())} rephrases among {len(pairs)} pairs",
            "give pairs of both kinds; without one of them there is nothing to tell apart",
        )
    causes = pairs["cause"] if "cause" in pairs else pd.Series(None, index=pairs.index, dtype=object)
    return PairEvaluation(
        pairs,
        _scores(pairs),
        _scores_by(pairs, "locale"),
        _scores_by(pairs, "pair_class"),
        {
            str(name): _scores(pairs[(causes == name) | ~is_positive])
            for name in sorted(causes[is_positive].dropna().unique())
        },
        _threshold_table(is_positive, pairs["p_rephrase"].to_numpy()),
        int((~is_known).sum()),
    )


def read_gold(file: Path) -> pd.DataFrame:
    """Gold pairs of a JSONL, CSV or Parquet file: `source_turn_id, target_turn_id, is_rephrase`, and `cause` if given.

    Raises:
        DataError: the file cannot be read, lacks columns, holds a pair twice, or its verdicts are not true and false.
    """
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise DataError(f"gold file {file} has the suffix {file.suffix!r}", f"give one of {', '.join(_READERS)}")
    try:
        rows = reader(file)
    except (OSError, ValueError) as error:
        raise DataError(f"gold file {file} cannot be read: {error}", "mend the file, or name another") from None
    needed = [*_KEY, "is_rephrase"]
    missing = [name for name in needed if name not in rows]
    if missing:
        raise DataError(f"gold file {file} lacks {', '.join(missing)}", f"it needs the columns {', '.join(needed)}")
    odd = rows[~rows["is_rephrase"].isin([True, False])]
    if len(odd):
        raise DataError(
            f"gold file {file} has the verdict {odd['is_rephrase'].iloc[0]!r} in {len(odd)} rows", "write true or false"
        )
    twice = rows[rows.duplicated(_KEY)]
    if len(twice):
        raise DataError(
            f"gold file {file} has {len(twice)} pairs twice: {twice.iloc[0][_KEY].tolist()}", "keep one of each"
        )
    kept: list[str] = [*needed, *(["cause"] if "cause" in rows else [])]
    return rows[kept].astype({"is_rephrase": bool})


def _scores_by(pairs: pd.DataFrame, column: str) -> dict[str, PairScores]:
    return {str(name): _scores(rows) for name, rows in pairs.groupby(column) if rows["is_rephrase"].nunique() == 2}


def _scores(rows: pd.DataFrame) -> PairScores:
    return score_pairs(rows["is_rephrase"].to_numpy(dtype=bool), rows["p_rephrase"].to_numpy())


def _threshold_table(is_positive: Any, p: Any) -> pd.DataFrame:
    rows = []
    for threshold in _THRESHOLDS:
        flagged = p >= threshold
        hits = float((flagged & is_positive).sum())
        precision, recall = hits / max(1, flagged.sum()), hits / is_positive.sum()
        f1 = 2 * hits / (flagged.sum() + is_positive.sum())
        rows.append((threshold, int(flagged.sum()), precision, recall, f1))
    return pd.DataFrame(rows, columns=["threshold", "n_flagged", "precision", "recall", "f1"])
