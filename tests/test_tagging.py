"""Tags of labels: a posterior over candidate taggings, in which no sentence confirms itself."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest

from selflearn.labels import Untagged, fit_tags
from selflearn.labels.tagged import _fold, _tagged, tag_columns, untagged
from selflearn.labels.tagging import SURE, TagModel
from selflearn.nlu import Example, Tagged
from selflearn.nlu.tagger import Tagger

CITIES = ("paris", "rome", "oslo", "cairo", "lima", "delhi", "kyoto", "quito", "accra", "hanoi")
TIMES = ("noon", "nine", "dawn", "six", "ten", "dusk", "eight", "four", "five", "two")


def goal(intent: str, *slots: tuple[str, str]) -> str:
    listed = ",".join(f'{{"name":"{name}","value":"{value}"}}' for name, value in slots)
    return f'{{"intent":"{intent}","slots":[{listed}]}}'


def place(text: str, slot: str, value: str) -> Tagged:
    start = text.index(value)
    return Tagged(slot, start, start + len(value))


def trip(city: str, time: str, *goals: tuple[str, float]) -> Untagged:
    """A request whose goals, where none are given, name both values."""
    text = f"fly to {city} at {time}"
    return untagged(text, "", goals or [(goal("fly", ("city", city), ("time", time)), 0.9)])


@pytest.fixture(scope="module")
def model() -> TagModel:
    trips = [trip(city, time) for city in CITIES for time in TIMES]
    return fit_tags((trips[::2], trips[1::2]))


def test_goals_are_put_on_the_words_with_their_shares() -> None:
    text = "fly to rome at noon"
    found = trip("rome", "noon", (goal("fly", ("city", "rome")), 0.6), (goal("fly", ("city", "paris")), 0.2))
    assert found.beliefs == {(place(text, "city", "rome"),): pytest.approx(0.75)}
    assert found.intent == "fly"


def test_a_slot_that_the_goal_left_out_is_found_by_others_like_it(model: TagModel) -> None:
    half_read = trip("bonn", "one", (goal("fly", ("city", "bonn")), 0.9))
    for learnt in model:
        tags, p = learnt.weigh(half_read).best
        assert [one.slot for one in tags] == ["city", "time"]
        assert p >= SURE


def test_a_posterior_is_a_share_and_names_each_tagging_once(model: TagModel) -> None:
    for one in (trip("rome", "noon"), untagged("", "", [(goal("fly"), 1.0)]), untagged("?", "", [(goal("x"), 0.1)])):
        found = model[0].weigh(one)
        assert len(set(found.taggings)) == len(found.taggings)
        assert found.posterior.sum() == pytest.approx(1)
        assert set(one.beliefs) <= set(found.taggings)


def test_no_sentence_confirms_itself() -> None:
    odd = untagged("zzz qqq", "", [(goal("fly", ("city", "qqq")), 1.0)])
    trips = [trip(city, time) for city in CITIES for time in TIMES[:2]]
    alone = fit_tags((trips, trips))
    with_it = fit_tags(([*trips, odd], trips), rounds=1)
    assert with_it[0].weigh(odd).posterior == pytest.approx(alone[0].weigh(odd).posterior, rel=0.2)
    # What lies in the other fold does learn from it.
    assert with_it[1].of_carrier["fly", "zzz \x1f"] == {("city",): pytest.approx(1.0)}
    assert ("fly", "zzz \x1f") not in with_it[0].of_carrier


def test_only_sure_taggings_are_learnt_from() -> None:
    unsure = [
        trip(city, "noon", (goal("fly", ("city", city)), 0.5), (goal("fly", ("time", "noon")), 0.5)) for city in CITIES
    ]
    learnt = fit_tags((unsure, unsure), rounds=1)[0]
    assert learnt.tagger.tag("fly to rome at noon", "", "fly") == ((), 1.0)
    assert learnt.of_intent["fly"] == {("city",): pytest.approx(5), ("time",): pytest.approx(5)}


def rows(*goals: tuple[str, float]) -> list[dict[str, object]]:
    return [{"goal": one, "posterior": p} for one, p in goals]


def test_a_trusted_goal_is_tagged_and_the_tags_weighed(model: TagModel) -> None:
    both = goal("fly", ("city", "rome"), ("time", "noon"))
    found, p = _tagged(model, "u1", "fly to rome at noon", "", rows((both, 0.9)), True)
    assert found.annotated == "fly to [city : rome] at [time : noon]"
    assert p is not None
    assert p >= SURE
    # Tags that leave out what others like it have are given for what they are worth.
    found, p = _tagged(model, "u1", "fly to rome at noon", "", rows((goal("fly", ("city", "rome")), 0.9)), True)
    assert found.annotated == "fly to [city : rome] at noon"
    assert p is not None
    assert p < 0.5
    unsaid = goal("fly", ("city", "rome"), ("time", "noon"), ("seat", "window"))
    found, p = _tagged(model, "u1", "fly to rome at noon", "", rows((unsaid, 0.9)), True)
    assert (found.is_intent_only, found.spans, found.annotated, p) == (True, (), "fly to rome at noon", None)


def test_an_intent_alone_is_tagged_where_the_model_is_sure(model: TagModel) -> None:
    known = rows((goal("fly", ("city", "rome")), 0.4))
    found, p = _tagged(model, "u1", "fly to rome at noon", "", known, False)
    assert found.annotated == "fly to [city : rome] at [time : noon]"
    assert p is not None
    assert p >= SURE


def test_without_a_model_the_goal_is_put_on_the_words() -> None:
    known = rows((goal("fly", ("city", "rome")), 0.6), (goal("fly"), 0.2))
    found, p = _tagged(None, "u1", "fly to rome", "", known, True)
    assert (found.annotated, p) == ("fly to [city : rome]", pytest.approx(0.75))
    assert _tagged(None, "u1", "fly to rome", "", known, False)[0].is_intent_only
    assert _tagged(None, "u1", "fly to oslo", "", known, True)[1] is None


def test_batches_of_rows_become_columns(model: TagModel) -> None:
    texts = ["fly to rome at noon", "fly to rome"]
    goals = [rows((goal("fly", ("city", "rome"), ("time", "noon")), 0.9)), rows((goal("fly", ("city", "oslo")), 0.9))]
    columns = [pa.array(["a", "b"]), pa.array(texts), pa.array(["", ""]), pa.array(goals), pa.array([True, True])]
    found = tag_columns(pickle.loads(pickle.dumps(model)), *columns).to_pylist()
    for row, of_row in zip(found, zip(["a", "b"], texts, ["", ""], goals, [True, True], strict=True), strict=True):
        annotation, p = _tagged(model, *of_row)
        assert row["p_slots"] == pytest.approx(p)
        assert row["annotated_utterance"] == annotation.annotated
        assert [span["value"] for span in row["slots"]] == [span.value for span in annotation.spans]
        assert row["is_intent_only"] == annotation.is_intent_only
    assert tag_columns(None, *(column.slice(0, 0) for column in columns)).to_pylist() == []


def test_an_utterance_is_always_of_one_fold() -> None:
    names = [f"u{number}" for number in range(1_000)]
    assert [_fold(name) for name in names] == [_fold(name) for name in names]
    assert 0.4 < np.mean([_fold(name) for name in names]) < 0.6


def test_a_tagger_goes_to_the_workers_as_it_is() -> None:
    texts = [f"fly to {city}" for city in CITIES]
    tagger = Tagger([Example(text, "", "fly", tagged=(place(text, "city", text[7:]),)) for text in texts])
    copy = pickle.loads(pickle.dumps(tagger))
    for text in (*texts, "fly to bonn", "walk"):
        assert copy.tag(text, "", "fly") == tagger.tag(text, "", "fly")
    empty = pickle.loads(pickle.dumps(Tagger([])))
    assert empty.tag("fly", "", "fly") == ((), 1.0)
