"""Values on words that mean them: what neither looks nor sounds like a value, by the vectors of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selflearn.encoding import LexicalEncoder, load_on_worker
from selflearn.labels import annotate, project
from selflearn.labels.meaning import Encode, alike_in_meaning
from selflearn.labels.tagged import tag_columns, untagged
from selflearn.nlu import Tagged
from selflearn.turns.text import frame_goal
from selflearn.variants.corpus import SEVERAL, Corpus
from selflearn.variants.training import train_encoder
from selflearn.wording import words

ROOMS = {
    "kitchen": "küche",
    "bedroom": "schlafzimmer",
    "hall": "flur",
    "cellar": "keller",
    "attic": "dachboden",
    "bathroom": "bad",
}
ASKS = {
    "on": ["{} light on", "turn on the light in the {}", "licht an {}", "mach das licht an {}", "bitte {} hell machen"],
    "warm": ["{} is cold", "warm up the {}", "heiz {} auf", "{} ist kalt", "bitte {} wärmer machen"],
}
CONCEPTS = {"tv": 0, "telly": 0, "television": 0, "living": 1, "lounge": 1, "room": 2, "six": 3, "6": 3, "seven": 4}


def encode(texts: Sequence[str]) -> np.ndarray:
    """Each word that is known means one thing; a text means what its words do."""
    vectors = np.zeros((len(texts), len(CONCEPTS)), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in words(text):
            if word in CONCEPTS:
                vectors[row, CONCEPTS[word]] += 1
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        pytest.param("turn the telly on", ["tv"], ["telly"], id="another word"),
        pytest.param("turn the telly on", ["televisions"], [None], id="of which nothing is known"),
        pytest.param("turn the television on", ["tv"], ["television"], id="much longer than the value"),
        pytest.param("light in the lounge room", ["living room"], ["lounge room"], id="a word of two"),
        pytest.param("light in the room", ["living room"], [None], id="part of the value is missing"),
        pytest.param("room for the telly", ["tv", "room"], ["telly", "room"], id="not what another value took"),
        pytest.param("telly and tv", ["tv"], ["tv"], id="letters before meanings"),
        pytest.param("tellie and television", ["telly"], ["tellie"], id="sounds before meanings"),
        pytest.param("wake me at six", ["6"], ["six"], id="a number written out"),
        pytest.param("wake me at 6", ["six"], ["6"], id="a number in digits"),
        pytest.param("wake me at 6", ["7"], [None], id="another number"),
        pytest.param("telly telly", ["tv", "television", ""], ["telly", "telly", None], id="each place once"),
        pytest.param("", ["tv"], [None], id="no words"),
        pytest.param("telly", ["?"], [None], id="a value without words"),
    ],
)
def test_values_are_put_on_words_that_mean_them(text: str, values: list[str], expected: list[str | None]) -> None:
    found = [place and text[place[0] : place[1]] for place in project(text, values, encode)]
    assert found == expected


said = st.lists(st.sampled_from([*CONCEPTS, "turn", "on"]), min_size=1, max_size=6)


@given(st.lists(said, min_size=1, max_size=3), said, st.data())
def test_many_stretches_at_once_equal_the_plain_way(
    values: list[list[str]], text: list[str], data: st.DataObject
) -> None:
    ends = st.tuples(st.integers(0, len(text) - 1), st.integers(1, len(text))).filter(lambda pair: pair[0] < pair[1])
    stretches = data.draw(st.lists(ends, min_size=1, max_size=5))
    found = alike_in_meaning([" ".join(value) for value in values], text, stretches, encode)

    def cosine(one: list[str], other: list[str]) -> float:
        return float(np.prod(encode([" ".join(one), " ".join(other)]), axis=0).sum())

    for row, value in enumerate(values):
        for at, (first, beyond) in enumerate(stretches):
            there = text[first:beyond]
            covered = min(max(cosine([wanted], [word]) for word in there) for wanted in value)
            assert found[row, at] == pytest.approx(min(cosine(value, there), covered), abs=1e-6)


def test_nothing_is_encoded_where_letters_and_sounds_find_all_values() -> None:
    def refuse(texts: Sequence[str]) -> np.ndarray:
        raise AssertionError(f"{texts} were encoded")

    assert project("play radio head in the kitten", ["radiohead", "kitchen"], refuse) == [(5, 15), (23, 29)]


def test_only_the_likeliest_goal_is_looked_for_by_meaning() -> None:
    tv, telly = (frame_goal("on", [("device", value)]) for value in ("tv", "television"))
    tags = (Tagged("device", 9, 14),)
    assert untagged("turn the telly on", "", [(tv, 0.6), (telly, 0.2)], encode).beliefs == {tags: pytest.approx(0.75)}
    assert untagged("turn the telly on", "", [(tv, 0.6), (telly, 0.2)]).beliefs == {}


def test_a_batch_of_labels_has_its_values_on_what_means_them() -> None:
    goals = [{"goal": frame_goal("on", [("device", "wall lamp")]), "posterior": 0.9}]
    columns = [pa.array(["u"]), pa.array(["lamp wall on"]), pa.array([""]), pa.array([goals]), pa.array([True])]
    load = partial(load_on_worker, None, LexicalEncoder.encoder_id)
    (found,) = tag_columns(None, *columns, encode=load().encode).to_pylist()
    assert found["annotated_utterance"] == "[device : lamp wall] on"
    (without,) = tag_columns(None, *columns).to_pylist()
    assert without["is_intent_only"]


@pytest.fixture(scope="module")
def of_a_log() -> Encode:
    """Trained on what people ask for in two languages, with goals that name rooms in one of them."""
    pytest.importorskip("torch", reason="training needs the extra `encoder`")
    rows = [
        (ask.format(name), frame_goal(intent, [("room", room)]))
        for room, german in ROOMS.items()
        for intent, asks in ASKS.items()
        for name in (room, german)
        for ask in asks
    ]
    texts, goals = [text for text, _ in rows], [goal for _, goal in rows]
    return train_encoder(Corpus(sorted(set(texts)), texts, goals, np.full(len(rows), SEVERAL))).encoder().encode


def test_an_encoder_that_the_log_trained_knows_a_room_by_its_other_name(of_a_log: Encode) -> None:
    for room, german in ROOMS.items():
        goal = frame_goal("warm", [("room", room)])
        text = f"ist es kalt {german}"
        assert annotate(text, goal, of_a_log).annotated == f"ist es kalt [room : {german}]"
        others = [annotate(text, frame_goal("warm", [("room", other)]), of_a_log) for other in ROOMS if other != room]
        assert all(other.is_intent_only for other in others)
