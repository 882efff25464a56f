"""The signals of a pair: what they say about turns a person can judge, and what holds for any turns."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from plain_pairs import Row, as_table, considered, friction
from plain_pairs import compare as plain_compare
from selflearn.detect.columns import TurnColumns, turn_columns
from selflearn.detect.signals import PAIR_SIGNAL_NAMES, PAIR_SIGNALS, levels
from selflearn.detect.similarity import compare
from selflearn.turns.text import normalise_text
from test_wording import any_text, are_told_apart

NAN = math.nan
CITIES = ("paris", "berlin", "東京", "القاهرة")


def goal(intent: str, **slots: str) -> str:
    pairs = [{"name": name, "value": value} for name, value in sorted(slots.items())]
    return json.dumps({"intent": intent, "slots": pairs}, ensure_ascii=False, separators=(",", ":"))


def turn(text: str | Sequence[str], readings: Mapping[str, float] | None = None, **fields: Any) -> Row:
    """A turn with its n-best texts, and its readings best first."""
    texts = [text] if isinstance(text, str) else list(text)
    top = next(iter(readings or ()), None)
    known = {
        "normalised_text": texts[0] if texts else "",
        "texts": texts,
        "goal": top,
        "goals": list(readings or ()),
        "goal_scores": list((readings or {}).values()),
        "session_id": "s",
        "turn_index": 0,
        "utterance_id": "",
        "at": 0,
        "context": "",
        "prompt": None,
        "nlu_score": readings[top] if readings and top else None,
        "asr_score": None,
        "fallback": None,
        "failed": False,
        "completed": None,
        "feedback": None,
        "barge_in": None,
    }
    return known | fields


def columns(*turns: Row) -> TurnColumns:
    return turn_columns(as_table(list(turns)), np.zeros(len(turns), dtype=np.int64))


def named(source: Row, target: Row, distance: int = 1) -> dict[str, float]:
    ends = np.array([0]), np.array([1])
    signals, seeds = compare(columns(source, target), *ends, np.array([distance]))
    return dict(zip(PAIR_SIGNAL_NAMES, map(float, signals[0]), strict=True)) | {"seed": float(seeds[0])}


def level_of(name: str, value: float) -> int:
    k = PAIR_SIGNAL_NAMES.index(name)
    return int(levels(np.array([[value]]), PAIR_SIGNALS[k : k + 1])[0, 0])


MISHEARD = turn(
    ["weather in perish", "weather in paris"],
    {goal("weather", city="perish"): 0.45, goal("weather", city="paris"): 0.35},
    asr_score=0.5,
)
SAID_AGAIN = turn("the weather in paris please", {goal("weather", city="paris"): 0.95}, at=6_000_000, asr_score=0.9)
UNDERSTOOD = turn("weather in paris", {goal("weather", city="paris"): 0.97}, asr_score=0.95)
VALUE_CHANGE = turn("weather in berlin", {goal("weather", city="berlin"): 0.97}, at=6_000_000, asr_score=0.95)
TOPIC_SWITCH = turn("play some jazz", {goal("play", genre="jazz"): 0.97}, at=6_000_000, asr_score=0.95)


def test_a_rephrase_after_a_failure_scores_above_a_value_change_and_a_topic_switch() -> None:
    rephrase = named(MISHEARD, SAID_AGAIN)
    value_change = named(UNDERSTOOD, VALUE_CHANGE)
    topic_switch = named(UNDERSTOOD, TOPIC_SWITCH)
    failed_then_switched = named(MISHEARD, TOPIC_SWITCH)
    assert rephrase["seed"] > 0.4
    assert max(value_change["seed"], topic_switch["seed"]) < 0.1
    assert rephrase["seed"] > failed_then_switched["seed"] + 0.3
    assert failed_then_switched["seed"] >= topic_switch["seed"]
    assert rephrase["value_again"] == pytest.approx(0.35)
    assert rephrase["item_again"] > 0.5 > 0.1 > topic_switch["item_again"]
    assert rephrase["gap"] == 6
    assert value_change["value_contradicts"] == 1
    assert value_change["value_heard"] < 1 == rephrase["value_heard"]
    assert topic_switch["value_contradicts"] == topic_switch["values_shared"] == 0


@pytest.mark.parametrize("form", ["NFD", "NFKD", "NFC"])
@pytest.mark.parametrize("value", ["málaga", "i̇zmir", "さが", "शुक्रवार", "サッカー"])
def test_a_value_is_found_however_its_characters_are_encoded(value: str, form: str) -> None:
    again = turn("again", {goal("weather", city=normalise_text(value)): 0.9})
    assert named(turn(unicodedata.normalize(form, f"in {value}")), again)["value_heard"] == 1
    assert named(turn("in ＭＡＬＡＧＡ"), turn("again", {goal("weather", city="malaga"): 0.9}))["value_heard"] == 1


def test_what_was_read_right_already_is_not_said_again() -> None:
    repeated = named(UNDERSTOOD, UNDERSTOOD)
    assert repeated["value_again"] == repeated["item_again"] == 0
    assert repeated["values_shared"] == 1


def test_a_turn_that_worked_is_no_source_and_visible_trouble_is_one() -> None:
    again = turn("weather in paris today", {goal("weather", city="paris", day="today"): 1.0})
    sure = turn("weather in paris", {goal("weather", city="paris"): 1.0}, asr_score=1.0)
    assert named(sure, again)["seed"] == 0
    for trouble in ({"failed": True}, {"feedback": -1}, {"completed": False}, {"fallback": True}):
        source = turn("weather in paris", {goal("weather", city="paris"): 1.0}, asr_score=1.0, **trouble)
        assert columns(source).heuristic_friction()[0] == pytest.approx(0.9)
        assert named(source, again)["seed"] > named(sure, again)["seed"]


@pytest.mark.parametrize("text", ["what is the weather", "明日の天気", "ما حالة الطقس", "आज मौसम कैसा है", "a", "🎵🎵"])
def test_identical_words_are_alike_in_every_script(text: str) -> None:
    signals = named(turn(text), turn(text))
    assert signals["text_similarity"] == pytest.approx(signals["wording_shared"]) == 1
    assert signals["words_shared"] == pytest.approx(1)
    assert signals["sound_similarity"] == 1 or text == "a"
    assert level_of("text_similarity", 1.0) > level_of("text_similarity", 0.99)
    assert signals["seed"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("text", "close", "far"),
    [
        ("明日の東京の天気は", "あしたの東京の天気", "音楽を再生して"),
        ("明天天氣如何", "明天天气如何", "播放音乐"),
        ("ما حالة الطقس في القاهرة", "حالة الطقس بالقاهرة", "شغل موسيقى هادئة"),
        ("מה מזג האוויר בתל אביב", "מזג אוויר תל אביב", "נגן מוזיקה שקטה"),
    ],
)
def test_similarity_needs_neither_spaces_nor_an_alphabet(text: str, close: str, far: str) -> None:
    near, distant = named(turn(text), turn(close)), named(turn(text), turn(far))
    for name in ("text_similarity", "sound_similarity", "words_shared", "wording_shared", "seed"):
        assert near[name] > distant[name] + 0.2


def test_all_that_was_heard_counts_alike_and_the_best_pair_of_texts_for_itself() -> None:
    source = turn(["play chess", "play jazz"])
    signals, alone = named(source, turn("play jazz")), named(turn("play chess"), turn("play jazz"))
    assert signals["text_similarity"] == 1
    assert alone["wording_shared"] < signals["wording_shared"] < 1
    turned = named(turn(["play jazz", "play chess"]), turn("play jazz"))
    assert turned["wording_shared"] == pytest.approx(signals["wording_shared"])


def test_words_are_compared_whole_and_in_any_order() -> None:
    turned = named(turn("the weather in paris"), turn("in paris the weather"))
    assert turned["words_shared"] == pytest.approx(1)
    assert turned["text_similarity"] < 0.8
    assert named(turn("planet"), turn("plan et"))["words_shared"] == 0
    assert named(turn("weather?"), turn("... weather"))["words_shared"] == pytest.approx(1)
    assert named(turn("?"), turn("?"))["words_shared"] == 0


@pytest.mark.parametrize(
    ("said", "heard", "other"),
    [
        ("play the beatles", "blade a pedals", "stop the music"),
        ("cheap food in the centre", "jeep foot in de senter", "what is the address"),
        ("погода в москве", "pogoda f moskve", "включи музыку"),
        ("ما حالة الطقس", "ماحالت الطقس", "شغل موسيقى"),
        ("ソウルの天気", "そうるのてんき", "おんがくをかけて"),
    ],
)
def test_what_sounds_alike_is_alike_whatever_its_letters(said: str, heard: str, other: str) -> None:
    alike, not_alike = (named(turn(said), turn(text))["sound_similarity"] for text in (heard, other))
    assert alike > not_alike + 0.2


def test_sounds_are_compared_over_both_n_bests_and_missing_where_there_is_none() -> None:
    source = turn(["weather in perish", "whether in paris"])
    assert named(source, turn(["leather", "weather in paris"]))["sound_similarity"] == 1
    assert math.isnan(named(turn("oh"), turn("oh"))["sound_similarity"])
    assert named(turn("room 22"), turn("room 2"))["sound_similarity"] < 1


def test_a_reading_of_the_target_counts_by_its_probability_among_the_sources_others() -> None:
    paris, perish = goal("weather", city="paris"), goal("weather", city="perish")
    again = turn("paris", {paris: 0.9})
    assert named(MISHEARD, SAID_AGAIN)["reading_offered"] == pytest.approx(0.35)
    assert named(turn("paris", {paris: 0.6, perish: 0.4}), again)["reading_offered"] == 0
    assert named(turn("paris", {perish: 0.6}), again)["reading_offered"] == 0
    rejected = turn("paris", {paris: 0.2}, fallback=True)
    assert named(rejected, again)["reading_offered"] == pytest.approx(0.2)
    for source, target in ((turn("paris"), again), (again, turn("paris"))):
        assert math.isnan(named(source, target)["reading_offered"])


def test_an_item_said_again_counts_whatever_its_slot_unless_the_source_was_read_so() -> None:
    heard_so = turn("from paris", {goal("travel"): 0.9})
    again = turn("to paris please", {goal("travel", to="paris"): 0.9}, at=6_000_000)
    assert named(heard_so, again)["item_again"] == pytest.approx(0.9)
    read_so = turn("from paris", {goal("travel", start="paris"): 0.9})
    assert named(read_so, again)["item_again"] == 0
    # An intent has no words to be found in: its probability in the source's own n-best alone speaks for it.
    unsure = turn("play it", {goal("stop"): 0.6, goal("play"): 0.36})
    assert named(unsure, turn("play", {goal("play"): 0.8}))["item_again"] == pytest.approx(0.8 * 0.6)


def test_a_reading_that_the_source_had_already_makes_words_said_again_no_rephrase() -> None:
    doubted = turn("weather in paris", {goal("weather", city="paris"): 0.5})
    assert named(doubted, doubted)["seed"] == pytest.approx(0.5 * math.sqrt(0.5) / 2)
    for unread in (turn("weather in paris", {}), doubted | {"fallback": True}):
        assert named(unread, doubted)["seed"] > named(doubted, doubted)["seed"]


def test_what_is_unknown_is_missing_and_never_a_guess() -> None:
    signals = named(turn("hello there"), turn("hello again"))
    unknown = {name for name, value in signals.items() if math.isnan(value)}
    assert unknown == {
        "source_confidence", "source_recognition", "source_completed", "value_again", "values_shared",
        "value_contradicts", "value_heard", "item_again", "prompt_repeated", "source_interrupted", "reading_offered",
        "meaning_similarity",
    }  # fmt: skip
    unscored = turn("hello there", {goal("greet"): 1.0}, nlu_score=None)
    assert columns(unscored).heuristic_friction()[0] == 0


def test_a_turn_without_a_reading_failed_unless_the_log_says_that_it_did_not_fall_back() -> None:
    typed = turn("weather in paris")
    assert columns(typed).unread[0]
    assert columns(typed).heuristic_friction()[0] == pytest.approx(0.9)
    assert columns(typed | {"fallback": True}).unread[0]
    answered = typed | {"fallback": False}
    assert not columns(answered).unread[0]
    assert columns(answered).heuristic_friction()[0] == named(answered, typed)["seed"] == 0


def test_the_same_prompt_again_is_seen_only_where_there_is_a_prompt() -> None:
    def repeated(source: dict[str, Any], target: dict[str, Any]) -> float:
        return named(turn("yes", **source), turn("yes", **target))["prompt_repeated"]

    asked = {"context": "city?", "prompt": "which city?"}
    assert repeated(asked, asked) == 2
    assert repeated(asked, asked | {"prompt": "sorry, which city?"}) == 1
    assert repeated(asked, {"context": "done", "prompt": "anything else?"}) == 0
    assert repeated({"context": "city?"}, {"context": "city?"}) == 2
    assert math.isnan(repeated({}, asked))


def test_levels_are_zero_where_missing_and_rise_at_each_edge() -> None:
    gap = PAIR_SIGNALS[PAIR_SIGNAL_NAMES.index("gap")]
    assert gap.edges == (5, 8, 12, 20, 40)
    expected = {NAN: 0, -1.0: 1, 4.999: 1, 5.0: 2, 7.999: 2, 8.0: 3, 12.0: 4, 20.0: 5, 40.0: 6, math.inf: 6}
    cut = levels(np.array(list(expected))[:, None], [gap])[:, 0]
    assert cut.tolist() == list(expected.values())
    assert cut.max() == gap.n_levels - 1


@given(st.lists(st.lists(st.floats(), min_size=len(PAIR_SIGNALS), max_size=len(PAIR_SIGNALS)), max_size=4))
def test_levels_equal_counting_the_edges_reached(rows: list[list[float]]) -> None:
    def plain(value: float, edges: Sequence[float]) -> int:
        return 0 if math.isnan(value) else 1 + sum(value >= edge for edge in edges)

    matrix = np.array(rows, dtype=float).reshape(-1, len(PAIR_SIGNALS))
    expected = [[plain(v, s.edges) for v, s in zip(row, PAIR_SIGNALS, strict=True)] for row in rows]
    assert levels(matrix, PAIR_SIGNALS).tolist() == expected


def test_blank_texts_are_no_texts_and_without_any_the_normalised_one_counts() -> None:
    found = columns(turn([" ", "Play"]), turn([], normalised_text="stop"), turn(["x"] * 12))
    assert np.diff(found.text_offsets).tolist() == [1, 1, 10]
    assert found.texts[found.text_codes[:2]].tolist() == ["play", "stop"]


goals = st.builds(
    lambda intent, city: goal(intent, **({"city": city} if city else {})),
    st.sampled_from(["weather", "traffic"]),
    st.sampled_from((None, *CITIES)),
)
scores = st.none() | st.floats(-2, 2)


@given(st.dictionaries(goals, scores, max_size=6))
def test_probabilities_of_items_sum_those_of_the_goals_that_hold_them(readings: dict[str, float | None]) -> None:
    asked = turn("weather", readings)
    found = columns(asked).items
    assert (found.probabilities >= 0).all()
    assert (found.probabilities <= 1 + 1e-9).all()
    held = {item: [p for g, p in considered(asked).items() if item in g] for item in (*CITIES, "weather", "traffic")}
    assert sorted(found.probabilities) == pytest.approx(sorted(sum(p) for p in held.values() if p))
    top = next(iter(readings), "")
    assert len(found.acted_keys) == sum(item in top for item in held)


@given(any_text, any_text)
def test_similarity_of_any_two_texts_is_symmetric_and_at_most_one(left: str, right: str) -> None:
    there, back = named(turn(left), turn(right)), named(turn(right), turn(left))
    for name in ("text_similarity", "sound_similarity", "words_shared", "wording_shared"):
        assert there[name] == pytest.approx(back[name], nan_ok=True)
        assert math.isnan(there[name]) or 0 <= there[name] <= 1 + 1e-9


maybe = st.none() | st.booleans()
unit = st.none() | st.floats(0, 1)
turns = st.builds(
    lambda texts, readings, fields: turn(texts, readings, **fields),
    st.lists(st.sampled_from(["", " "]) | any_text, max_size=3),
    st.dictionaries(goals, scores, max_size=4),
    st.fixed_dictionaries(
        {
            "normalised_text": st.sampled_from(["weather in paris", "東京の天気", "p"]),
            "at": st.integers(0, 10**15),
            "context": st.sampled_from(["", "city?"]),
            "prompt": st.sampled_from([None, "which city?"]),
            "goal": st.none() | goals,
            "nlu_score": unit,
            "asr_score": unit,
            "fallback": maybe,
            "failed": st.booleans(),
            "completed": maybe,
            "feedback": st.sampled_from([None, -1, 0, 1]),
            "barge_in": maybe,
        }
    ),
)


@settings(max_examples=50)
@given(st.lists(turns, min_size=2, max_size=4))
def test_many_pairs_at_once_equal_one_pair_at_a_time(rows: list[Row]) -> None:
    assume(are_told_apart(rows))
    ends = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
    source, target = np.array(ends).T
    signals, seeds = compare(columns(*rows), source, target, np.abs(target - source))
    for k, (i, j) in enumerate(ends):
        expected, seed = plain_compare(rows[i], rows[j], abs(j - i), is_last=j == len(rows) - 1)
        assert tuple(expected) == PAIR_SIGNAL_NAMES
        np.testing.assert_allclose(signals[k], list(expected.values()), rtol=0, atol=1e-9)
        assert 0 <= seeds[k] <= 1
        assert seeds[k] == pytest.approx(seed, abs=1e-9)
    for found, row in zip(columns(*rows).heuristic_friction(), rows, strict=True):
        assert found == pytest.approx(friction(row))
