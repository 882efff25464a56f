"""Fitting a model of pairs to gold pairs, to pairs of sentences, or to both, on top of what no label is needed for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold

from selflearn.detect.comparison import Comparison, compare_sessions
from selflearn.detect.latent_class import LevelModel, Patterns, fit, shipped_model
from selflearn.detect.signals import PAIR_SIGNALS, WITHHELD_SIGNALS
from selflearn.detect.supervised.batch import batch_of
from selflearn.detect.supervised.corpus import SentencePairs
from selflearn.detect.supervised.features import LogStatistics, log_statistics, pair_features
from selflearn.detect.supervised.lexical import LexicalModel, Said, common_things, design, pulls, said_in
from selflearn.detect.supervised.linear import Labelled, LinearModel, fit_linear, logistic, standard_scores
from selflearn.detect.supervised.model import MixedModel, SupervisedModel
from selflearn.detect.supervised.trees import MAX_LEAVES, mean_of
from selflearn.encoding import load_encoder
from selflearn.errors import DataError
from selflearn.ragged import Floats, Ints
from selflearn.settings import Detect

MIN_GOLD, MIN_OF_EACH = 30, 5
TREES_FROM, TREES_FROM_POSITIVE, TREES_FROM_USERS = 800, 50, 12
"""Gold pairs, rephrases among them, and users, from which trees beat the linear model."""

_BAGS, _DRAWS = 10, 2
"""Folds of users, and how often they are drawn: by the luck of one draw scores differ by .003."""
_BOOSTING: Mapping[str, Any] = {
    "max_iter": 150,
    "learning_rate": 0.06,
    "max_leaf_nodes": MAX_LEAVES,
    "min_samples_leaf": 40,
    "l2_regularization": 5.0,
    "max_features": 0.2,
    "early_stopping": False,
}
_WEIGHTS = (0.65, 0.35)
"""Of the trees and of the lexical model, that the fitted ones are drawn to."""
_PULL_WEIGHTS = 0.1
_SHOWN = 3

logger = logging.getLogger(__name__)


def fit_pair_model(
    sample: pa.Table,
    settings: Detect,
    gold: tuple[pa.Table, pd.DataFrame] | None,
    sentences: SentencePairs | None,
    provenance: Mapping[str, Any],
) -> SupervisedModel:
    """Fit the model that so much gold is enough for: linear from `MIN_GOLD` pairs on, with trees from `TREES_FROM` on.

    Args:
        sample: whole sessions, in order, that stand for the log (columns of `detection.observed`).
        settings: which turns are compared.
        gold: the whole sessions that hold gold pairs, in order, and the pairs (columns of `evaluate.read_gold`).
        sentences: pairs of a labelled corpus; the model with trees does without.
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
    names, of_log = pair_features(batch_of(compared), log)
    counts: dict[str, int] = {}
    judged = None
    if gold is not None:
        judged, counts = _gold_pairs(*gold, settings, log)
    fitted: LinearModel | MixedModel
    if judged is not None and is_enough_for_trees(judged.pairs.labels, judged.users):
        fitted = fit_mixed(names, judged)
        if sentences is not None:
            logger.warning(
                "with %d gold pairs the model learns from gold alone; %d pairs of sentences of the corpus are not used",
                len(judged.pairs.labels),
                len(sentences.labels),
            )
    else:
        of_sentences = None
        if sentences is not None:
            features = pair_features(batch_of(compare_sessions(sentences.turns, settings)), log)[1]
            of_sentences = Labelled(features, sentences.labels)
            counts["n_sentence_pairs"] = len(sentences.labels)
        fitted = fit_linear(names, of_log, judged.pairs if judged else None, of_sentences)
    encoder_id = load_encoder(settings.encoder).encoder_id if settings.encoder else None
    return SupervisedModel(fitted, log, {**provenance, **counts}, encoder_id)


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


@dataclass(frozen=True)
class Judged:
    """Gold pairs: features and labels, the user of each, and what its turns hold."""

    pairs: Labelled
    users: Ints
    said: Said


def fit_mixed(names: Sequence[str], gold: Judged) -> MixedModel:
    """Trees and a lexical model, means over bags; weighed by how they score the users that a bag leaves out."""
    kept = [k for k in range(len(names)) if _n_values(gold.pairs.features[:, k]) > 1]
    used = Labelled(gold.pairs.features[:, kept], gold.pairs.labels)
    means, spreads = np.nanmean(used.features, axis=0), np.nanstd(used.features, axis=0)
    things = common_things(gold.said)
    rows = design(gold.said.of(things), standard_scores(used.features, means, spreads))
    bags = fit_bags(used, rows, pulls(len(things), len(kept)), gold.users)
    sums = np.column_stack([bags.left_out, np.ones(len(gold.users))])
    prior, pull = np.array([*_WEIGHTS, 0.0]), np.full(3, _PULL_WEIGHTS)
    of_trees, of_things, offset = logistic(sums, used.labels, np.ones(len(sums)), prior, pull).tolist()
    of_kept = tuple(names[k] for k in kept)
    lexical = LexicalModel(
        of_kept,
        tuple(means.tolist()),
        tuple(spreads.tolist()),
        tuple(things.tolist()),
        tuple(np.mean(bags.coefficients, axis=0).tolist()),
    )
    return MixedModel(of_kept, mean_of(bags.trees), lexical, (of_trees, of_things), offset)


@dataclass(frozen=True)
class Bags:
    """A model of each kind for each fold of users left out.

    Attributes:
        trees: boosted trees by bag.
        coefficients: of the lexical model, by bag.
        left_out: log-odds by the trees, and by the lexical model, of the bags that saw no gold of the pair's user.
    """

    trees: Sequence[HistGradientBoostingClassifier]
    coefficients: Sequence[Floats]
    left_out: Floats


def fit_bags(gold: Labelled, rows: sparse.csr_array, pull: Floats, users: Ints) -> Bags:
    """Fit both kinds to the users of all folds but one, for each fold; `rows` is `lexical.design` of the pairs."""
    x, y = gold.features, gold.labels
    folds = [
        fold for draw in range(_DRAWS) for fold in GroupKFold(_BAGS, shuffle=True, random_state=draw).split(x, y, users)
    ]
    trees, coefficients, left_out = [], [], np.zeros((len(y), 2))
    for number, (train, held) in enumerate(folds):
        of_trees = HistGradientBoostingClassifier(random_state=number, **_BOOSTING).fit(x[train], y[train])
        of_things = logistic(rows[train], y[train], np.ones(len(train)), np.zeros(len(pull)), pull)
        left_out[held] += np.column_stack([of_trees.decision_function(x[held]), rows[held] @ of_things]) / _DRAWS
        trees.append(of_trees)
        coefficients.append(of_things)
    return Bags(trees, coefficients, left_out)


def _gold_pairs(
    turns: pa.Table, gold: pd.DataFrame, settings: Detect, log: LogStatistics
) -> tuple[Judged, dict[str, int]]:
    """The gold pairs that are candidates, and how many there are."""
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
    batch, kept = batch_of(compared), at[is_candidate]
    labelled = Labelled(pair_features(batch, log)[1][kept], labels)
    return Judged(labelled, users[source[is_candidate]], said_in(batch).pairs(kept)), counts


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
