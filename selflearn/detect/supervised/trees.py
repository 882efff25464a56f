"""Boosted trees as plain arrays: taken from fitted scikit-learn models, kept as JSON, applied with numpy alone.

Applied as QuickScorer does (Lucchese et al. 2015): every node whose test a row fails rules out the leaves on its left,
and the leaf reached is the first that is not ruled out. Of each feature only the place among its thresholds matters, so
all trees' masks of one feature are one table row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier

from selflearn.ragged import Floats, Ints

MAX_LEAVES = 16
_ROWS_AT_ONCE = 2_048
_ALL = np.uint16(0xFFFF)
Masks = npt.NDArray[np.uint16]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Trees:
    """A sum over trees of at most `MAX_LEAVES` leaves, counted from left to right.

    Attributes:
        baseline: added to the sum.
        leaves: shape (trees, `MAX_LEAVES`), 0 beyond a tree's own.
        tree, feature, threshold, missing_left: of each inner node. A row goes left where its feature is at most the
            threshold, or missing and `missing_left`.
        first, n_left: of each inner node, its first leaf, and how many leaves are on its left side.
    """

    baseline: float
    leaves: Floats
    tree: Ints
    feature: Ints
    threshold: Floats
    missing_left: Bools
    first: Ints
    n_left: Ints

    def sum(self, features: Floats) -> Floats:
        """Sum of the leaves that each row of features reaches, shape (rows,)."""
        total = np.empty(len(features))
        for start in range(0, len(features), _ROWS_AT_ONCE):
            block = features[start : start + _ROWS_AT_ONCE]
            total[start : start + len(block)] = self._sum(block)
        return total + self.baseline

    def _sum(self, block: Floats) -> Floats:
        possible = np.full((len(block), len(self.leaves)), _ALL)
        for feature, (edges, masks) in self._masks.items():
            values = block[:, feature]
            failed = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))
            possible &= masks[failed]
        lowest = possible & (~possible + np.uint16(1))
        reached = np.frexp(lowest.astype(np.float32))[1] - 1
        return np.asarray(self.leaves.ravel()[reached + np.arange(len(self.leaves)) * MAX_LEAVES].sum(axis=1))

    @cached_property
    def _masks(self) -> dict[int, tuple[Floats, Masks]]:
        """Of each feature: distinct thresholds, and what leaves each tree has left, shape (thresholds + 2, trees).

        Row k holds where the first k thresholds are failed; the last row where the feature is missing.
        """
        spans = ((1 << self.n_left) - 1) << self.first
        keeps = (~spans).astype(np.uint16)
        found = {}
        for feature in np.unique(self.feature).tolist():
            nodes = np.flatnonzero(self.feature == feature)
            edges, rank = np.unique(self.threshold[nodes], return_inverse=True)
            masks = np.full((len(edges) + 2, len(self.leaves)), _ALL)
            np.bitwise_and.at(masks, (rank + 1, self.tree[nodes]), keeps[nodes])
            masks[:-1] = np.bitwise_and.accumulate(masks[:-1], axis=0)
            lost = nodes[~self.missing_left[nodes]]
            np.bitwise_and.at(masks[-1], self.tree[lost], keeps[lost])
            found[feature] = (edges, masks)
        return found

    def to_fields(self) -> dict[str, Any]:
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in self._fields()}

    def _fields(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__dataclass_fields__]

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Trees:
        kinds = {"leaves": np.float64, "threshold": np.float64, "missing_left": np.bool_}
        kinds |= dict.fromkeys(("tree", "feature", "first", "n_left"), np.int64)
        return cls(**{name: np.array(value, kinds[name]) if name in kinds else value for name, value in fields.items()})


def mean_of(models: Sequence[HistGradientBoostingClassifier]) -> Trees:
    """Trees whose sum is the mean of the models' `decision_function`s. Every tree has at most `MAX_LEAVES` leaves."""
    parts: dict[str, list[Any]] = {
        name: [] for name in ("tree", "feature", "threshold", "missing_left", "first", "n_left")
    }
    leaves: list[list[float]] = []
    for model in models:
        for (predictor,) in model._predictors:
            _read_tree(predictor.nodes, len(leaves), 1 / len(models), parts, leaves)
    return Trees(
        baseline=float(np.mean([model._baseline_prediction for model in models])),
        leaves=np.array(leaves).reshape(-1, MAX_LEAVES),
        tree=np.array(parts["tree"], dtype=np.int64),
        feature=np.array(parts["feature"], dtype=np.int64),
        threshold=np.array(parts["threshold"], dtype=np.float64),
        missing_left=np.array(parts["missing_left"], dtype=np.bool_),
        first=np.array(parts["first"], dtype=np.int64),
        n_left=np.array(parts["n_left"], dtype=np.int64),
    )


def _read_tree(nodes: Any, number: int, share: float, parts: dict[str, list[Any]], leaves: list[list[float]]) -> None:
    """Append one tree's inner nodes to `parts` and its leaves' values, times `share`, to `leaves`."""
    values: list[float] = []

    def visit(at: int) -> None:
        node = nodes[at]
        if node["is_leaf"]:
            values.append(float(node["value"]) * share)
            return
        first = len(values)
        visit(int(node["left"]))
        of_node = {
            "tree": number,
            "feature": int(node["feature_idx"]),
            "threshold": float(node["num_threshold"]),
            "missing_left": bool(node["missing_go_to_left"]),
            "first": first,
            "n_left": len(values) - first,
        }
        for name, value in of_node.items():
            parts[name].append(value)
        visit(int(node["right"]))

    visit(0)
    if len(values) > MAX_LEAVES:
        raise ValueError(f"a tree has {len(values)} leaves, at most {MAX_LEAVES} can be kept")
    leaves.append(values + [0.0] * (MAX_LEAVES - len(values)))
