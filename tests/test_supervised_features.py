"""What a supervised model sees of a pair: items, unexplained words, what is usual, and turns around it."""

from __future__ import annotations

import json
import math
from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest

from plain_pairs import COLUMNS, Row, as_table
from selflearn.detect.comparison import Comparison, compare_sessions
from selflearn.detect.latent_class import shipped_model
from selflearn.detect.supervised.batch import BEYOND, batch_of
from selflearn.detect.supervised.features import LogStatistics, log_statistics, pair_features
from selflearn.detect.supervised.linear import WORDING
from selflearn.detect.supervised.reader import beliefs
from selflearn.detect.supervised.statistics import MAX_JOINT, MAX_KINDS, Expectation, count_expectations, item_keys
from selflearn.settings import Detect

CITIES = ("paris", "berlin", "porto")


def goal(city: str | None, intent: str = "weather") -> str:
    slots = [{"name": "city", "value": city}] if city else []
    return json.dumps({"intent": intent, "slots": slots})


def turn(session: str, index: int, **known: Any) -> Row:
    own = {"session_id": session, "turn_index": index, "at": index * 5_000_000, "context": "", "normalised_text": "no"}
    return dict.fromkeys(COLUMNS) | own | {"fallback": False, "failed": False} | known


def random_log(n_sessions: int = 60) -> Comparison:
    rng, rows = Random(3), []
    for session in range(n_sessions):
        for index in range(rng.randint(1, 4)):
            city = rng.choice([*CITIES, None])
            read = rng.choice([None, goal(city), goal(None, "stop")])
            heard = {"texts": [f"weather in {city}", f"whether in {city}"], "normalised_text": f"weather in {city}"}
            known = {"goal": read, "nlu_score": rng.random(), "context": rng.choice(["", "city?"])}
            rows.append(turn(f"{session:03}", index, **heard, **known))
    return compare_sessions(as_table(rows), Detect())


def features_of(rows: list[Row], log: LogStatistics) -> dict[str, float]:
    """Features of the only pair, or the first."""
    names, features = pair_features(batch_of(compare_sessions(as_table(rows), Detect())), log)
    return dict(zip(names, features[0].tolist(), strict=True))


@pytest.fixture(scope="module")
def log() -> LogStatistics:
    return log_statistics(random_log(), shipped_model("pair"))


def test_every_feature_has_a_name_of_its_own_and_sentences_have_theirs(log: LogStatistics) -> None:
    names, features = pair_features(batch_of(random_log()), log)
    assert len(set(names)) == len(names) == features.shape[1]
    assert set(names) >= WORDING


def test_an_item_that_both_turns_considered_and_the_reading_lacks(log: LogStatistics) -> None:
    found = features_of(
        [
            turn("s", 0, goal=goal("berlin"), goals=[goal("berlin"), goal("paris")], goal_scores=[0.6, 0.3]),
            turn("s", 1, goal=goal("paris"), goals=[goal("paris")], goal_scores=[0.9], prompt="Paris, right?"),
            turn("s", 2, goal=goal("paris"), nlu_score=0.8),
        ],
        log,
    )
    assert found["item.missed_both"] == pytest.approx(0.3)
    assert found["item.missed_joint"] == pytest.approx(0.3 * 0.9)
    assert found["item.missed_target"] == found["item.new.p_target"] == pytest.approx(0.9)
    assert found["item.missed_later"] == pytest.approx(0.3 * 0.8)
    assert found["item.new.p_source"] == pytest.approx(0.3)
    assert found["item.new.in_prompt_target"] == found["item.new_echoed"] == 1
    assert found["item.new.contradicts_source"] == 1
    assert found["item.kept_most"] == pytest.approx(0.9)
    assert found["item.kept_least"] == 0
    assert (found["item.n_old"], found["item.n_kept"], found["item.n_new"]) == (2, 1, 1)


def test_of_equally_likely_new_items_the_first_by_name_stands_for_them(log: LogStatistics) -> None:
    source = turn("s", 0)
    readings = [goal("paris", "a"), goal("berlin", "b")]
    both = [
        features_of([source, turn("s", 1, goal=first, goals=[first, second], goal_scores=[0.5, 0.5])], log)
        for first, second in (readings, readings[::-1])
    ]
    new = [{name: value for name, value in found.items() if name.startswith("item.new.p_")} for found in both]
    assert new[0] == new[1]


def test_words_that_the_reading_explains_are_no_rest(log: LogStatistics) -> None:
    def rest(city: str | None) -> dict[str, float]:
        source = turn("s", 0, normalised_text="paris please", goal=goal(city) if city else None)
        return features_of([source, turn("s", 1, normalised_text="paris")], log)

    unread, read, misread = rest(None), rest("paris"), rest("berlin")
    assert unread["rest_source"] == pytest.approx(1)
    assert unread["rest_again"] == pytest.approx(unread["wording_shared"])
    assert read["rest_again"] == pytest.approx(0, abs=1e-12)
    assert read["rest_source"] < misread["rest_source"] < 1 + 1e-9
    assert misread["rest_again"] > 0.3


def test_pairs_around_are_those_of_the_neighbours(log: LogStatistics) -> None:
    compared = random_log()
    names, features = pair_features(batch_of(compared), log)
    log_odds = log.label_free.pair_log_odds(compared)
    by_turns = dict(zip(zip(compared.source, compared.target, strict=True), log_odds, strict=True))
    around = {
        "before_and_source": lambda s, t: (s - 1, s),
        "before_and_target": lambda s, t: (s - 1, t),
        "target_and_after": lambda s, t: (t, t + 1),
        "source_and_after": lambda s, t: (s, t + 1),
    }
    for row, (source, target) in enumerate(zip(compared.source, compared.target, strict=True)):
        for name, ends in around.items():
            expected = by_turns.get(ends(source, target), math.nan)
            np.testing.assert_equal(features[row, names.index(name)], expected)


def test_a_turn_beyond_its_session_is_none() -> None:
    batch = batch_of(random_log())
    rows = np.arange(batch.compared.n_turns)
    assert (batch.turn_after(rows, 0) == rows).all()
    assert (batch.turn_after(batch.last, 1) == BEYOND).all()
    assert (batch.turn_after(batch.first, -1) == BEYOND).all()
    assert (batch.turn_after(np.array([BEYOND]), 1) == BEYOND).all()


def test_what_is_usual_is_counted_as_a_loop_counts_it() -> None:
    compared = random_log()
    batch = batch_of(compared)
    found = Expectation.from_fields(json.loads(json.dumps(count_expectations(batch)["item"].to_fields())))
    contexts, read = compared.rows["context"].to_pylist(), compared.rows["goal"].to_pylist()
    in_context, anywhere = Counter(contexts), Counter()
    joint: Counter[tuple[str, str]] = Counter()
    for context, meaning in zip(contexts, read, strict=True):
        if meaning:
            frame = json.loads(meaning)
            for item in (f"={frame['intent']}", *(f"{slot['name']}={slot['value']}" for slot in frame["slots"])):
                anywhere[item] += 1
                joint[context, item] += 1
    keys, n = item_keys(batch.names), len(contexts)
    for code, context in enumerate(batch.contexts):
        for item, key in enumerate(keys):
            overall = (anywhere[key] + 1) / (n + 1)
            expected = math.log((joint[context, key] + 2 * overall) / (in_context[context] + 2) / overall)
            ratio = found.log_ratio(batch.contexts, keys, np.array([code]), np.array([item]))
            assert ratio[0] == pytest.approx(expected)
    assert found.log_ratio(["never seen"], keys, np.array([0]), np.array([0]))[0] == pytest.approx(0)


def test_statistics_stay_small_however_many_values_a_log_has() -> None:
    rows = [turn(str(k), 0, goal=goal(f"city {k}"), context=f"context {k}") for k in range(MAX_KINDS + 500)]
    usual = count_expectations(batch_of(compare_sessions(as_table(rows), Detect())))
    assert len(usual["item"].kinds) == MAX_KINDS
    assert len(usual["slot"].kinds) == 2
    rng = Random(0)
    some = [
        turn(str(k), 0, goal=goal(f"city {rng.randrange(300)}"), context=f"c {rng.randrange(300)}")
        for k in range(9_000)
    ]
    usual = count_expectations(batch_of(compare_sessions(as_table(some), Detect())))
    assert len(usual["item"].joint) == MAX_JOINT


def test_the_second_reader_reads_what_sounds_alike(log: LogStatistics) -> None:
    rows = [turn("s", 0, normalised_text="weather in pariss"), turn("s", 1, normalised_text="whether in berlin")]
    batch = batch_of(compare_sessions(as_table(rows), Detect()))
    read = log.reader.read(batch)
    of_city = {city: log.reader.items.index(f"city={city}") for city in CITIES}
    assert max(CITIES, key=lambda city: read[0, of_city[city]]) == "paris"
    assert max(CITIES, key=lambda city: read[1, of_city[city]]) == "berlin"
    assert not beliefs(batch, log.reader.items).any()
