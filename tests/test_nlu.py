"""The reference NLU: what it learns from sentences with weights, in any script."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from selflearn.errors import DataError
from selflearn.nlu import Example, ReferenceNLU, Tagged, examples_of
from selflearn.nlu.proportional import merged_columns
from selflearn.nlu.tagger import labels_of, tagged_of
from selflearn.wording import word_spans, words

TIMES = ("seven", "eight", "nine", "ten", "noon", "midnight")
NAMES = ("anna", "bert", "carla", "dora", "emil", "fritz")


def sentence(before: str, value: str, after: str, intent: str, slot: str, weight: float = 1.0) -> Example:
    start = len(before)
    tagged = (Tagged(slot, start, start + len(value)),)
    return Example(before + value + after, "", intent, frozenset({(slot, value)}), tagged, weight)


ENGLISH = [
    *(sentence("wake me at ", time, " please", "alarm", "time") for time in TIMES),
    *(sentence("call ", name, " now", "call", "who") for name in NAMES),
]
CHINESE = [
    *(sentence("请在", time, "叫醒我", "alarm", "time") for time in ("七点", "八点", "九点", "十点", "中午")),
    *(sentence("打电话给", name, "", "call", "who") for name in ("安娜", "小王", "老李", "妈妈", "爸爸")),
]


@pytest.fixture(scope="module")
def nlu() -> ReferenceNLU:
    return ReferenceNLU([*ENGLISH, *CHINESE])


@pytest.mark.parametrize(
    ("text", "intent", "item"),
    [
        ("wake me at eleven please", "alarm", ("time", "eleven")),
        ("call gustav now", "call", ("who", "gustav")),
        ("请在三点叫醒我", "alarm", ("time", "三点")),
        ("打电话给老张", "call", ("who", "老张")),
    ],
)
def test_it_reads_values_it_never_saw_in_any_script(
    nlu: ReferenceNLU, text: str, intent: str, item: tuple[str, str]
) -> None:
    reading = nlu.read([text], [""])[0][0]
    assert (reading.intent, reading.items) == (intent, {item})
    assert 0 < reading.probability <= 1


def test_readings_come_with_the_most_probable_first(nlu: ReferenceNLU) -> None:
    readings = nlu.read(["call anna now"], [""], most=5)[0]
    assert [reading.intent for reading in readings] == ["call", "alarm"]
    assert sum(reading.p_intent for reading in readings) == pytest.approx(1)


def test_the_words_decide_where_the_sentence_is_unknown(nlu: ReferenceNLU) -> None:
    for text in ("", "???", "\U0001f3b5", "ab cd"):
        assert len(nlu.read([text], [""])[0]) == 1
    assert nlu.read([], []) == []


def test_a_value_that_is_said_in_other_words_is_known_by_the_sentence() -> None:
    far = [Example(f"it is {word} away", "", "filter", frozenset({("distance", "far")})) for word in ("miles", "hours")]
    near = [Example(f"just {word}", "", "filter", frozenset({("distance", "near")})) for word in ("here", "close by")]
    read = ReferenceNLU([*far * 3, *near * 3]).read(["miles away", "just here"], ["", ""])
    assert [one[0].items for one in read] == [{("distance", "far")}, {("distance", "near")}]


def test_the_context_tells_what_the_words_do_not() -> None:
    asked = {"request:food": "order", "request:time": "book"}
    examples = [Example("the first one", context, intent) for context, intent in asked.items()] * 3
    read = ReferenceNLU(examples).read(["the first one"] * 2, list(asked))
    assert [one[0].intent for one in read] == list(asked.values())


def test_an_example_counts_by_its_weight() -> None:
    right = [Example("play it again", "", "play")] * 3
    wrong = [Example("play it again", "", "stop", weight=0.1)] * 6
    assert ReferenceNLU([*right, *wrong]).read(["play it again"], [""])[0][0].intent == "play"
    assert (
        ReferenceNLU([*right, *[Example("play it again", "", "stop")] * 6]).read(["play it again"], [""])[0][0].intent
        == "stop"
    )


def test_tags_count_by_their_weight() -> None:
    wrong = [sentence(f"wake me at {time} ", "please", "", "alarm", "time", weight=0.1) for time in TIMES]
    read = ReferenceNLU([*ENGLISH, *wrong]).read(["wake me at eleven please"], [""])
    assert read[0][0].items == {("time", "eleven")}


def test_a_sentence_with_its_intent_alone_teaches_no_slots() -> None:
    unknown = [Example(f"wake me at {time} please", "", "alarm", tagged=None) for time in TIMES * 5]
    read = ReferenceNLU([*ENGLISH, *unknown]).read(["wake me at eleven please"], [""])
    assert read[0][0].items == {("time", "eleven")}


def test_learning_twice_gives_the_same(nlu: ReferenceNLU) -> None:
    texts = [example.text for example in (*ENGLISH, *CHINESE)]
    again = ReferenceNLU([*ENGLISH, *CHINESE])
    assert again.read(texts, [""] * len(texts), 2) == nlu.read(texts, [""] * len(texts), 2)


def test_one_intent_alone_is_read_always() -> None:
    assert ReferenceNLU([Example("hello", "", "greet")]).read(["goodbye"], [""])[0][0].p_intent == 1


def test_no_examples_is_an_error() -> None:
    with pytest.raises(DataError, match="no examples"):
        ReferenceNLU([])


def test_rows_of_a_training_set_are_examples() -> None:
    span = {"name": "time", "value": "7 AM", "start": 11, "end": 15}
    row = {"text": "wake me at 7 AM", "context": "", "intent": "alarm", "weight": 0.9}
    unsure = {"slots": [], "is_intent_only": True, "other_intents": [{"intent": "timer", "weight": 0.2}]}
    whole, partial, other = examples_of(
        [row | {"slots": [span], "is_intent_only": False, "other_intents": []}, row | unsure]
    )
    assert whole == Example(row["text"], "", "alarm", frozenset({("time", "7 am")}), (Tagged("time", 11, 15),), 0.9)
    assert partial.tagged is None
    assert not partial.items
    assert other == Example(row["text"], "", "timer", tagged=None, weight=0.2)


any_text = st.text(st.sampled_from("ab '日の กำ.7"), max_size=12)


@given(any_text)
def test_words_stand_where_they_are_said_to(text: str) -> None:
    spans = word_spans(text)
    assert words(text) == [text[start:end] for start, end in spans]
    assert all(start < end <= len(text) for start, end in spans)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=8), st.data())
def test_labels_and_spans_are_two_forms_of_one_tagging(slots: list[str], data: st.DataObject) -> None:
    text = " ".join(slots)
    spans = word_spans(text)
    bounds = sorted(data.draw(st.lists(st.integers(0, len(spans)), max_size=6, unique=True)))
    tagged = tuple(
        Tagged(slots[first], spans[first][0], spans[last - 1][1])
        for first, last in zip(bounds[::2], bounds[1::2], strict=False)
    )
    assert tagged_of(labels_of(tagged, spans), spans) == tagged


MATRICES = st.integers(1, 6).flatmap(
    lambda width: st.lists(st.lists(st.sampled_from((0, 0, 1, 2, -3)), min_size=width, max_size=width), min_size=1)
)


@given(MATRICES)
def test_merged_columns_leave_what_a_ridge_sees_and_nothing_parallel(rows: list[list[int]]) -> None:
    features = np.array(rows, dtype=float)
    merged = (sparse.csr_matrix(features) @ merged_columns(sparse.csr_matrix(features))).toarray()
    assert np.allclose(merged @ merged.T, features @ features.T)
    lengths = np.linalg.norm(merged, axis=0)
    assert (lengths > 0).all()
    cosines = np.abs(merged.T @ merged / np.outer(lengths, lengths))
    assert (cosines[~np.eye(len(lengths), dtype=bool)] < 1 - 1e-9).all()


def test_merged_columns_read_other_rows_alike() -> None:
    """The first two columns are parallel; a row that has but one of them has as much of them as it is like the rest."""
    features = sparse.csr_matrix([[3.0, 4.0, 0.0], [6.0, 8.0, 1.0]])
    map_ = merged_columns(features)
    other = sparse.csr_matrix([[5.0, 0.0, 2.0]])
    assert np.allclose((other @ map_) @ (features @ map_).T.toarray(), (other @ features.T).toarray())
