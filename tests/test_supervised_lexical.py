"""What was said by name: what a turn holds, what the lexical model makes of it, and that no bag sees whom it scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import sparse

from plain_pairs import Row, as_table
from selflearn.detect.comparison import Comparison, compare_sessions
from selflearn.detect.supervised import fitting
from selflearn.detect.supervised.batch import batch_of
from selflearn.detect.supervised.fitting import Judged, fit_bags, fit_mixed
from selflearn.detect.supervised.lexical import LexicalModel, Said, common_things, design, pulls, said_in
from selflearn.detect.supervised.linear import Labelled
from selflearn.ragged import Floats
from selflearn.settings import Detect
from test_supervised_features import goal, random_log, turn


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return random_log()


def said_of(*rows: Row) -> list[dict[int, float]]:
    """What each turn of a session holds."""
    turns = [turn("s", index, **known) for index, known in enumerate(rows)]
    return plain(said_in(batch_of(compare_sessions(as_table(turns), Detect()))).turns)


def plain(rows: sparse.csr_array) -> list[dict[int, float]]:
    found = []
    for k in range(rows.shape[0]):
        row: dict[int, float] = {}
        for at in range(rows.indptr[k], rows.indptr[k + 1]):
            row[int(rows.indices[at])] = row.get(int(rows.indices[at]), 0.0) + float(rows.data[at])
        found.append(row)
    return found


def test_a_turn_holds_its_words_readings_situation_and_prompt() -> None:
    bare, heard, asked, told, read = said_of(
        {"normalised_text": "no"},
        {"normalised_text": "yes"},
        {"normalised_text": "no", "context": "city?"},
        {"normalised_text": "no", "prompt": "which city"},
        {"normalised_text": "no", "goal": goal("paris"), "nlu_score": 0.8},
    )
    assert len(bare) == 2  # a word, and the situation
    assert len(bare.keys() & heard.keys()) == 1
    assert len(bare.keys() & asked.keys()) == 1
    assert len(told.keys() - bare.keys()) == 2
    of_reading = sorted(value for key, value in read.items() if key not in bare)
    assert of_reading == pytest.approx([0.8, 0.8, 1.0, 1.0, 1.0])
    other, stop = said_of(*({"goal": of, "nlu_score": 0.8} for of in (goal("berlin"), goal(None, "stop"))))
    assert len(read.keys() & other.keys()) == 4  # the word, the situation, and the intent twice
    assert len(read.keys() & stop.keys()) == 1


def test_what_fell_back_was_considered_but_not_acted_on() -> None:
    known = {"goal": goal("paris"), "nlu_score": 0.8}
    (left,) = said_of(known | {"fallback": True})
    (read,) = said_of(known)
    assert len(read) == len(left) + 2
    assert len(left.keys() & read.keys()) == len(left) - 1  # another situation


def plain_log_odds(model: LexicalModel, names: list[str], features: Floats, said: Said) -> list[float]:
    rows, n, found = plain(said.turns), len(model.things), []
    for pair, (source, target) in enumerate(zip(said.source, said.target, strict=True)):
        total = model.coefficients[-1]
        for k, thing in enumerate(model.things):
            of_source, of_target = rows[source].get(thing, 0.0), rows[target].get(thing, 0.0)
            total += model.coefficients[k] * of_source + model.coefficients[n + k] * of_target
            total += model.coefficients[2 * n + k] * of_source * of_target
        for k, name in enumerate(model.names):
            value = features[pair, names.index(name)]
            score = 0.0 if np.isnan(value) else (value - model.means[k]) / model.spreads[k]
            total += model.coefficients[3 * n + k] * max(-3.0, min(3.0, score))
        found.append(total)
    return found


def test_log_odds_are_those_of_a_plain_sum_and_of_the_design_that_is_fitted(compared: Comparison) -> None:
    said, rng = said_in(batch_of(compared)), np.random.default_rng(0)
    things = common_things(said)
    names = ["a", "b", "unused"]
    features = rng.normal(size=(len(said.source), 3)) * 3
    features[rng.random(features.shape) < 0.2] = np.nan
    model = LexicalModel(
        ("b", "a"), (0.5, -0.5), (1.0, 2.0), tuple(things.tolist()), tuple(rng.normal(size=3 * len(things) + 3))
    )
    found = model.log_odds(names, features, said)
    np.testing.assert_allclose(found, plain_log_odds(model, names, features, said), atol=1e-9)
    scores = np.clip(np.nan_to_num((features[:, [1, 0]] - model.means) / model.spreads), -3, 3)
    np.testing.assert_allclose(found, design(said.of(things), scores) @ np.array(model.coefficients), atol=1e-9)
    read = LexicalModel.from_fields(json.loads(json.dumps(model.to_fields())))
    np.testing.assert_array_equal(found, read.log_odds(names, features, said))


def test_rare_things_are_left_out_and_the_commonest_kept(compared: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    said = said_in(batch_of(compared))
    some = said.pairs(np.arange(40))
    turns = np.unique([some.source, some.target])
    held = np.bincount(said.turns[turns].indices)
    things = common_things(some)
    assert things.tolist() == np.flatnonzero(held >= 5).tolist()
    monkeypatch.setattr("selflearn.detect.supervised.lexical._MAX_THINGS", 3)
    assert sorted(held[common_things(some)], reverse=True) == sorted(held, reverse=True)[:3]
    nothing = said.of(np.zeros(0, dtype=np.int64))
    assert nothing.turns.shape == (compared.n_turns, 0)


def judged(seed: int, n_users: int = 40, of_each: int = 25) -> Judged:
    """Pairs whose label is foretold by a feature, and turned round by a thing in the target."""
    rng = np.random.default_rng(seed)
    n = n_users * of_each
    features = rng.normal(size=(n, 3))
    thing = rng.random(n) < 0.3
    rows = np.zeros((2 * n, 4))
    rows[np.arange(n), rng.integers(0, 2, n)] = 1
    rows[n:, 3] = thing
    labels = np.where(thing, rng.random(n) < 0.05, features[:, 0] + rng.normal(size=n) / 2 > 0.5).astype(float)
    said = Said(sparse.csr_array(rows), np.arange(n), np.arange(n) + n)
    return Judged(Labelled(features, labels), np.repeat(np.arange(n_users), of_each), said)


def test_what_no_feature_tells_is_learnt_from_what_was_said() -> None:
    gold, others = judged(0), judged(1)
    model = fit_mixed(["a", "b", "c"], gold)
    found = model.log_odds(("a", "b", "c"), others.pairs.features, others.said)
    of_trees = model.trees.sum(others.pairs.features)
    is_wrong = [(values > 0) != (others.pairs.labels > 0) for values in (found, of_trees)]
    assert is_wrong[0].mean() < 0.75 * is_wrong[1].mean()
    assert model.weights[1] > 0.2


def test_no_score_that_weighs_the_models_comes_from_one_that_saw_gold_of_the_user() -> None:
    gold = judged(2)
    labels = gold.pairs.labels.copy()
    mine = gold.users == 7
    labels[mine] = 1 - labels[mine]
    things = common_things(gold.said)
    rows = design(gold.said.of(things), gold.pairs.features)
    pull = pulls(len(things), gold.pairs.features.shape[1])
    before, after = (
        fit_bags(Labelled(gold.pairs.features, of_gold), rows, pull, gold.users)
        for of_gold in (gold.pairs.labels, labels)
    )
    np.testing.assert_array_equal(before.left_out[mine], after.left_out[mine])
    assert (before.left_out[~mine] != after.left_out[~mine]).mean() > 0.8
    assert len(before.trees) == len(before.coefficients) == fitting._BAGS * fitting._DRAWS
