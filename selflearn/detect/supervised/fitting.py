"""Fitting a model of pairs to gold pairs, to pairs of sentences, or to both, on top of what no label is needed for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold

from selflearn.detect.comparison import Comparison, compare_sessions
from selflearn.detect.latent_class import LevelModel, Patterns, fit, shipped_model
from selflearn.detect.signals import PAIR_SIGNAL_NAMES, PAIR_SIGNALS, WITHHELD_SIGNALS
from selflearn.detect.supervised.corpus import SentencePairs
from selflearn.detect.supervised.features import LogStatistics, log_statistics, pair_features
from selflearn.detect.supervised.linear import Labelled, LinearModel, fit_linear, logistic
from selflearn.detect.supervised.model import SupervisedModel, TreeModel
from selflearn.detect.supervised.trees import MAX_LEAVES, mean_of
from selflearn.errors import DataError
from selflearn.ragged import Floats, Ints
from selflearn.settings import Detect

MIN_GOLD, MIN_OF_EACH = 30, 5
TREES_FROM, TREES_FROM_POSITIVE, TREES_FROM_USERS = 800, 50, 12
"""Gold pairs, rephrases among them, and users, from which trees beat the linear model."""

_BAGS = 10
_BOOSTING: Mapping[str, Any] = {
    "max_iter": 150,
    "learning_rate": 0.06,
    "max_leaf_nodes": MAX_LEAVES,
    "min_samples_leaf": 40,
    "l2_regularization": 5.0,
    "max_features": 0.2,
    "early_stopping": False,
}
_PULL_CALIBRATION = 0.1
_SHOWN = 3


def fit_pair_model(
    sample: pa.Table,
    settings: Detect,
    gold: tuple[pa.Table, pd.DataFrame] | None,
    sentences: SentencePairs | None,
    provenance: Mapping[str, Any],
) -> SupervisedModel:
    """Fit the model that so much gold is enough for: linear from `MIN_GOLD` pairs on, trees from `TREES_FROM` on.

    Args:
        sample: whole sessions, in order, that stand for the log (columns of `detection.observed`).
        settings: which turns are compared.
        gold: the whole sessions that hold gold pairs, in order, and the pairs (columns of `evaluate.read_gold`).
        sentences: pairs of a labelled corpus; trees do without.
        provenance: where all this comes from; how much of it there was is added.

    Raises:
        DataError: gold names turns that the sessions do not have, is of one class, or too little; or the sample holds
            no pairs.
    """
    compared = compare_sessions(sample, settings)
    if not len(compared.source):
        raise DataError(
            f"the sample of {compared.n_turns} turns has no two that are compared",
            "ingest days whose sessions have several turns, or raise detect.max_gap_minutes",
        )
    label_free = fit_label_free(compared)
    log = log_statistics(compared, label_free)
    names, of_log = pair_features(compared, log)
    counts: dict[str, int] = {}
    labelled, users = None, np.zeros(0, dtype=np.int64)
    if gold is not None:
        labelled, users, counts = _gold_features(*gold, settings, log)
    fitted: LinearModel | TreeModel
    if labelled is not None and is_enough_for_trees(labelled.labels, users):
        fitted = fit_trees(names, labelled, users)
    else:
        of_sentences = None
        if sentences is not None:
            features = pair_features(compare_sessions(sentences.turns, settings), log)[1]
            of_sentences = Labelled(features, sentences.labels)
            counts["n_sentence_pairs"] = len(sentences.labels)
        fitted = fit_linear(names, of_log, labelled, of_sentences)
    return SupervisedModel(fitted, log, PAIR_SIGNAL_NAMES, {**provenance, **counts})


def fit_label_free(compared: Comparison) -> LevelModel:
    """The model of pairs that the sample alone gives."""
    distinct, place, counts = np.unique(compared.levels, axis=0, return_inverse=True, return_counts=True)
    seeds = np.bincount(place.ravel(), compared.seeds, len(distinct)) / counts
    patterns = Patterns(distinct, counts.astype(np.float64), seeds)
    return fit("pair", patterns, PAIR_SIGNALS, WITHHELD_SIGNALS, shipped_model("pair"))


def is_enough_for_trees(labels: Floats, users: Ints) -> bool:
    """Whether there is gold enough for trees, on phone calls; see the learning curve in the documentation."""
    enough = len(labels) >= TREES_FROM and labels.sum() >= TREES_FROM_POSITIVE
    return bool(enough and len(np.unique(users)) >= TREES_FROM_USERS)


def fit_trees(names: Sequence[str], gold: Labelled, users: Ints) -> TreeModel:
    """Boosted trees, one bag for each fold of users left out; scores of the left out calibrate the bags' mean."""
    kept = [k for k in range(len(names)) if _n_values(gold.features[:, k]) > 1]
    x, y = gold.features[:, kept], gold.labels
    left_out, bags = np.zeros(len(y)), []
    folds = GroupKFold(_BAGS, shuffle=True, random_state=0).split(x, y, users)
    for number, (train, held) in enumerate(folds):
        bag = HistGradientBoostingClassifier(random_state=number, **_BOOSTING).fit(x[train], y[train])
        left_out[held] = bag.decision_function(x[held])
        bags.append(bag)
    design = np.column_stack([left_out, np.ones(len(y))])
    slope, offset = logistic(design, y, np.ones(len(y)), np.array([1.0, 0.0]), np.full(2, _PULL_CALIBRATION))
    return TreeModel(tuple(names[k] for k in kept), mean_of(bags), float(slope), float(offset))


def _gold_features(
    turns: pa.Table, gold: pd.DataFrame, settings: Detect, log: LogStatistics
) -> tuple[Labelled, Ints, dict[str, int]]:
    """Features and labels of the gold pairs that are candidates, their sessions' users, and how many there are."""
    compared = compare_sessions(turns, settings)
    row = {turn: k for k, turn in enumerate(turns["turn_id"].to_pylist())}
    ends = gold[["source_turn_id", "target_turn_id"]]
    unknown = [turn for turn in ends.to_numpy().ravel() if turn not in row]
    if unknown:
        raise DataError(
            f"gold names {len(unknown)} turns that the lake does not have, such as {', '.join(unknown[:_SHOWN])}",
            "ingest the days of these turns first, or take the pairs out of the gold file",
        )
    source, target = (ends[name].map(row).to_numpy(dtype=np.int64) for name in ends)
    keys, wanted = compared.source * compared.n_turns + compared.target, source * compared.n_turns + target
    at = np.minimum(np.searchsorted(keys, wanted), max(0, len(keys) - 1))
    is_candidate = keys[at] == wanted if len(keys) else np.zeros(len(wanted), dtype=bool)
    labels = gold["is_rephrase"].to_numpy(dtype=np.float64)[is_candidate]
    _check_amount(labels, len(gold))
    users = np.unique(turns["user_id"].to_numpy(), return_inverse=True)[1]
    counts = {
        "n_gold": len(labels),
        "n_gold_rephrases": int(labels.sum()),
        "n_gold_no_candidates": int((~is_candidate).sum()),
    }
    features = pair_features(compared, log)[1][at[is_candidate]]
    return Labelled(features, labels), users[source[is_candidate]], counts


def _check_amount(labels: Floats, n_given: int) -> None:
    n_positive = int(labels.sum())
    if len(labels) < MIN_GOLD or min(n_positive, len(labels) - n_positive) < MIN_OF_EACH:
        raise DataError(
            f"of {n_given} gold pairs {len(labels)} are candidates, {n_positive} of them rephrases; at least "
            f"{MIN_GOLD} are needed, {MIN_OF_EACH} of each kind",
            "judge more pairs (table rephrase_pairs lists candidates), or fit without gold",
        )


def _n_values(column: Floats) -> int:
    return len(np.unique(column[~np.isnan(column)]))
