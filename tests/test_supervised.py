"""Models of pairs learnt from gold: they know more than no labels tell, and say so honestly, of people never seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

from plain_pairs import COLUMNS, as_table
from selflearn.detect import LevelModel, read_pinned
from selflearn.detect.comparison import Comparison, compare_sessions
from selflearn.detect.latent_class import shipped_model, sigmoid
from selflearn.detect.supervised import SupervisedModel, fit_pair_model, fitting, sentence_pairs
from selflearn.detect.supervised.batch import batch_of
from selflearn.detect.supervised.features import LABEL_FREE, log_statistics, pair_features
from selflearn.detect.supervised.linear import LinearModel
from selflearn.detect.supervised.model import MixedModel
from selflearn.detect.supervised.trees import MAX_LEAVES, Trees, mean_of
from selflearn.errors import DataError, SettingsError
from selflearn.evaluate import expected_calibration_error
from selflearn.settings import Detect
from selflearn.simulate.truth import read_truth
from simulated_turns import simulated_turns

SETTINGS = Detect()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, pd.DataFrame]:
    """A simulated log, and the truth about its pairs."""
    folder = tmp_path_factory.mktemp("log")
    turns = simulated_turns(folder, 6_000, seed=5)
    said_again = {row.turn_id: row.rephrase_of for row in read_truth(folder / "truth")}
    compared = compare_sessions(turns, SETTINGS)
    ids = turns["turn_id"].to_numpy()
    gold = pd.DataFrame({"source_turn_id": ids[compared.source], "target_turn_id": ids[compared.target]})
    return turns, gold.assign(is_rephrase=gold["target_turn_id"].map(said_again) == gold["source_turn_id"])


@pytest.fixture(scope="module")
def compared(log: tuple[pa.Table, pd.DataFrame]) -> Comparison:
    return compare_sessions(log[0], SETTINGS)


@pytest.fixture(scope="module")
def is_held_out(log: tuple[pa.Table, pd.DataFrame]) -> np.ndarray:
    """Of each pair, whether its user is one of the half whose gold no model sees."""
    turns, gold = log
    user = pd.Series(turns["user_id"].to_pylist(), index=turns["turn_id"].to_pylist())[gold["source_turn_id"]]
    return user.map(lambda name: int(name[-1], 16) % 2 == 0).to_numpy()


@pytest.fixture(scope="module")
def linear(log: tuple[pa.Table, pd.DataFrame], is_held_out: np.ndarray) -> SupervisedModel:
    turns, gold = log
    few = gold[~is_held_out].sample(400, random_state=0)
    return fit_pair_model(turns, SETTINGS, (turns, few), None, {"settings_fingerprint": "of a test"})


@pytest.fixture(scope="module")
def trees(log: tuple[pa.Table, pd.DataFrame], is_held_out: np.ndarray) -> SupervisedModel:
    turns, gold = log
    return fit_pair_model(turns, SETTINGS, (turns, gold[~is_held_out]), None, {})


@pytest.mark.parametrize("kind", ["linear", "trees"])
def test_gold_teaches_what_holds_of_people_never_seen(
    kind: str,
    request: pytest.FixtureRequest,
    log: tuple[pa.Table, pd.DataFrame],
    compared: Comparison,
    is_held_out: np.ndarray,
) -> None:
    model: SupervisedModel = request.getfixturevalue(kind)
    is_rephrase = log[1]["is_rephrase"].to_numpy()[is_held_out]
    p = sigmoid(model.pair_log_odds(compared))[is_held_out]
    before = model.label_free.pair_log_odds(compared)[is_held_out]
    gained = average_precision_score(is_rephrase, p) - average_precision_score(is_rephrase, before)
    assert gained > 0.02
    assert expected_calibration_error(is_rephrase, p) < 0.03


def test_hundreds_of_pairs_make_a_linear_model_and_thousands_make_trees(
    linear: SupervisedModel, trees: SupervisedModel
) -> None:
    assert isinstance(linear.fitted, LinearModel)
    assert isinstance(trees.fitted, MixedModel)
    assert linear.provenance["n_gold"] == 400
    assert linear.provenance["settings_fingerprint"] == "of a test"
    enough = np.arange(fitting.TREES_FROM) % 5 == 0
    users = np.arange(len(enough)) % 40
    assert fitting.is_enough_for_trees(enough.astype(float), users)
    assert not fitting.is_enough_for_trees(enough[1:].astype(float), users[1:])
    assert not fitting.is_enough_for_trees(np.zeros(len(enough)), users)
    assert not fitting.is_enough_for_trees(enough.astype(float), users % 2)


@pytest.mark.parametrize("kind", ["linear", "trees"])
def test_a_saved_model_is_the_model(
    kind: str, request: pytest.FixtureRequest, compared: Comparison, tmp_path: Path
) -> None:
    model: SupervisedModel = request.getfixturevalue(kind)
    file = tmp_path / "model.json"
    file.write_text(model.to_json())
    read = read_pinned(file)
    assert isinstance(read, SupervisedModel)
    assert read.sha256 == model.sha256
    assert read.label_free == model.label_free
    np.testing.assert_array_equal(read.pair_log_odds(compared), model.pair_log_odds(compared))
    assert len(file.read_bytes()) < 4e6


def test_a_pair_is_scored_alike_whatever_sessions_lie_beside_it(
    trees: SupervisedModel, log: tuple[pa.Table, pd.DataFrame], compared: Comparison
) -> None:
    sessions = log[0]["session_id"].to_pylist()
    cut = sessions.index(sessions[len(sessions) // 2])
    parts = [compare_sessions(part, SETTINGS) for part in (log[0].slice(0, cut), log[0].slice(cut))]
    apart = np.concatenate([trees.pair_log_odds(part) for part in parts])
    np.testing.assert_allclose(apart, trees.pair_log_odds(compared), atol=1e-9)


def test_features_are_finite_where_everything_is_missing(compared: Comparison) -> None:
    bare = as_table(
        [
            dict.fromkeys(COLUMNS)
            | {"session_id": "s", "turn_index": k, "at": k, "context": "", "normalised_text": text}
            | {"fallback": False, "failed": False}
            for k, text in enumerate(["", "東京", "no"])
        ]
    )
    statistics = log_statistics(compared, shipped_model("pair"))
    names, features = pair_features(batch_of(compare_sessions(bare, SETTINGS)), statistics)
    assert features.shape == (3, len(names))
    assert not np.isinf(features).any()
    assert np.isfinite(features[:, names.index(LABEL_FREE)]).all()
    nothing = log_statistics(compare_sessions(bare, SETTINGS), shipped_model("pair"))
    assert pair_features(batch_of(compared), nothing)[1].shape == (len(compared.source), len(names))


def test_models_score_a_batch_without_pairs(linear: SupervisedModel, trees: SupervisedModel) -> None:
    nothing = compare_sessions(as_table([]), SETTINGS)
    assert len(linear.pair_log_odds(nothing)) == len(trees.pair_log_odds(nothing)) == 0


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_trees_give_what_scikit_learn_gives(missing: float) -> None:
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(3_000, 6)), 1)
    y = x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=len(x)) > 0.3
    x[rng.random(x.shape) < missing] = np.nan
    models = [
        HistGradientBoostingClassifier(max_leaf_nodes=MAX_LEAVES, max_iter=30, max_features=0.5, random_state=seed)
        for seed in range(3)
    ]
    expected = np.mean([model.fit(x, y).decision_function(x) for model in models], axis=0)
    read = Trees.from_fields(json.loads(json.dumps(mean_of(models).to_fields())))
    np.testing.assert_allclose(read.sum(x), expected, atol=1e-9)
    np.testing.assert_allclose(read.sum(np.full((1, 6), np.nan)).shape, (1,))


def test_trees_with_too_many_leaves_are_refused() -> None:
    x = np.arange(2_000.0)[:, None]
    model = HistGradientBoostingClassifier(max_leaf_nodes=MAX_LEAVES + 1, max_iter=2).fit(x, np.sin(x[:, 0]) > 0)
    with pytest.raises(ValueError, match="17 leaves, at most 16"):
        mean_of([model])


def rows_of(log: tuple[pa.Table, pd.DataFrame], n: int, n_positive: int) -> pd.DataFrame:
    gold = log[1]
    positive = gold[gold["is_rephrase"]].head(n_positive)
    return pd.concat([positive, gold[~gold["is_rephrase"]].head(n - n_positive)])


@pytest.mark.parametrize(
    ("n", "n_positive", "message"),
    [
        (0, 0, "of 0 gold pairs 0 are candidates"),
        (100, 0, "0 of them rephrases; at least 30 are needed, 5 of each kind"),
        (100, 100, "100 of them rephrases"),
        (29, 10, "29 are candidates"),
    ],
)
def test_too_little_gold_is_refused(log: tuple[pa.Table, pd.DataFrame], n: int, n_positive: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_pair_model(log[0], SETTINGS, (log[0], rows_of(log, n, n_positive)), None, {})


def test_gold_of_unknown_turns_is_refused_and_of_pairs_too_far_apart_left_out(
    log: tuple[pa.Table, pd.DataFrame],
) -> None:
    turns, gold = log[0], rows_of(log, 60, 20)
    odd = pd.DataFrame([("nobody", gold["target_turn_id"].iloc[0], True)], columns=gold.columns)
    with pytest.raises(DataError, match="names 1 turns that the lake does not have, such as nobody"):
        fit_pair_model(turns, SETTINGS, (turns, pd.concat([gold, odd])), None, {})
    ids = turns["turn_id"].to_pylist()
    far = pd.DataFrame([(ids[0], ids[-1], False)], columns=gold.columns)
    model = fit_pair_model(turns, SETTINGS, (turns, pd.concat([gold, far])), None, {})
    assert model.provenance["n_gold"] == 60
    assert model.provenance["n_gold_no_candidates"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "signals, edges, match, unmatch or reliance is missing"),
        ("[1]", "is no saved detector"),
        ('{"format": "another"}', "its format is not selflearn.pairs"),
        ('{"format": "selflearn.pairs", "version": 99}', "its version is 99, this one reads 3"),
        ('{"format": "selflearn.pairs", "version": 3, "kind": "deep"}', "its kind is 'deep'"),
        ('{"format": "selflearn.pairs", "version": 3, "kind": "mixed"}', "is no saved detector"),
    ],
)
def test_a_file_that_is_no_model_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(SettingsError, match=message):
        read_pinned(tmp_path / "model.json")


def test_a_model_of_other_signals_is_refused(linear: SupervisedModel, tmp_path: Path) -> None:
    label_free = shipped_model("pair")
    signals, edges = label_free.signals, label_free.edges
    others = {
        "source_confidence is missing": replace(label_free, signals=signals[1:], edges=edges[1:]),
        "loudness is no signal of this version": replace(label_free, signals=("loudness", *signals[1:])),
        r"source_confidence is cut at \(0.5,\), here at \(0.3,": replace(label_free, edges=((0.5,), *edges[1:])),
        "the order is": replace(label_free, signals=signals[::-1], edges=edges[::-1]),
    }
    for message, other in others.items():
        for model in (other, replace(linear, log=replace(linear.log, label_free=other))):
            (tmp_path / "model.json").write_text(model.to_json())
            with pytest.raises(SettingsError, match=f"another version: .*{message}"):
                read_pinned(tmp_path / "model.json")
    (tmp_path / "model.json").write_text(shipped_model("pair").to_json())
    assert isinstance(read_pinned(tmp_path / "model.json"), LevelModel)


def corpus(n_cities: int = 12) -> pa.Table:
    cities = [f"{a}{b}ton" for a in ("bris", "lon", "mar", "nor") for b in ("al", "el", "ol")][:n_cities]
    wordings = ["weather in {}", "how is it outside in {}", "will it rain in {} today"]
    rows = [
        ("en-GB", wording.format(city), json.dumps({"intent": "weather", "slots": [{"name": "city", "value": city}]}))
        for city in cities
        for wording in wordings
    ]
    rows += [("en-GB", text, json.dumps({"intent": "stop", "slots": []})) for text in ("stop", "be quiet", "enough")]
    return pa.table({name: [row[k] for row in rows] for k, name in enumerate(("locale", "normalised_text", "goal"))})


def test_a_corpus_gives_pairs_of_one_goal_and_hard_negatives_of_another_value() -> None:
    pairs = sentence_pairs(corpus())
    rows = pairs.turns.to_pylist()
    goals = dict(zip(corpus()["normalised_text"].to_pylist(), corpus()["goal"].to_pylist(), strict=True))
    one_value_changed = 0
    for source, target, label in zip(rows[::2], rows[1::2], pairs.labels, strict=True):
        assert source["goal"] is None
        assert target["goal"] == goals[target["normalised_text"]]
        assert source["normalised_text"] != target["normalised_text"] or not label
        assert (goals[source["normalised_text"]] == target["goal"]) == label
        intents = {json.loads(goals[row["normalised_text"]])["intent"] for row in (source, target)}
        one_value_changed += not label and intents == {"weather"}
    assert pairs.labels.sum() == corpus().num_rows
    assert one_value_changed >= 36
    assert sentence_pairs(corpus().take(list(range(corpus().num_rows))[::-1])).turns == pairs.turns


def test_a_corpus_without_other_wordings_is_refused() -> None:
    with pytest.raises(DataError, match="has 9 pairs of sentences of one goal"):
        sentence_pairs(corpus(2))


def test_a_corpus_teaches_that_another_value_is_no_rephrase(log: tuple[pa.Table, pd.DataFrame]) -> None:
    pairs = sentence_pairs(corpus())
    model = fit_pair_model(log[0], SETTINGS, None, pairs, {})
    assert isinstance(model.fitted, LinearModel)
    assert model.provenance["n_sentence_pairs"] == len(pairs.labels)
    of_sentences = compare_sessions(pairs.turns, SETTINGS)
    before, after = (scorer.pair_log_odds(of_sentences) for scorer in (model.label_free, model))
    assert average_precision_score(pairs.labels, after) > average_precision_score(pairs.labels, before)


def test_where_gold_is_enough_for_trees_it_is_said_that_the_corpus_is_not_used(
    log: tuple[pa.Table, pd.DataFrame], is_held_out: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    turns, gold = log
    sentences = sentence_pairs(corpus())
    model = fit_pair_model(turns, SETTINGS, (turns, gold[~is_held_out].head(2_000)), sentences, {})
    assert isinstance(model.fitted, MixedModel)
    assert "n_sentence_pairs" not in model.provenance
    assert f"with 2000 gold pairs the model learns from gold alone; {len(sentences.labels)} pairs" in caplog.text


def test_a_log_without_pairs_is_refused(log: tuple[pa.Table, pd.DataFrame]) -> None:
    with pytest.raises(DataError, match="the sample of 1 turns has no two that are compared"):
        fit_pair_model(log[0].slice(0, 1), SETTINGS, log, None, {})
