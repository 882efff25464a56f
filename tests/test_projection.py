"""Projection: values on the words that were said, or on what was heard of them; never a guess."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selflearn.labels import Span, annotate, bio_tags, project
from selflearn.labels.projection import _assigned
from selflearn.nlu import Tagged
from selflearn.nlu.tagger import labels_of
from selflearn.wording import word_spans


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        pytest.param("play radio head please", ["radiohead"], ["radio head"], id="one word heard as two"),
        pytest.param("rain in newyork today", ["new york"], ["newyork"], id="two words heard as one"),
        pytest.param("remove my dentist appointment", ["dentist's appointment"], ["dentist appointment"], id="ending"),
        pytest.param("the kitten lights", ["kitchen"], ["kitten"], id="by sound"),
        pytest.param("vols to monday", ["monday", "volta"], ["monday", "vols to"], id="not what another value took"),
        pytest.param("включи бетховин", ["бетховен"], ["бетховин"], id="Cyrillic"),
        pytest.param("поставь битлс", ["bitls"], ["битлс"], id="a value in other letters"),
        pytest.param("明日東経の天気", ["東京"], ["東経"], id="Japanese, by sound"),
        pytest.param("شغل فيروس", ["فيروز"], ["فيروس"], id="Arabic"),
        pytest.param("wake me at 7 am", ["8 am"], [None], id="another number"),
        pytest.param("play some jazz", ["beethoven"], [None], id="not said"),
        pytest.param("", ["jazz"], [None], id="no words"),
        pytest.param("???", ["jazz", ""], [None, None], id="no letters"),
        pytest.param("jazz", [], [], id="no values"),
    ],
)
def test_values_are_put_on_what_was_heard_of_them(text: str, values: list[str], expected: list[str | None]) -> None:
    found = [place and text[place[0] : place[1]] for place in project(text, values)]
    assert found == expected


words = st.text(st.sampled_from("abkt1 東е"), min_size=1, max_size=6)


@given(st.lists(words, max_size=8), st.lists(words, max_size=4))
def test_places_lie_in_the_text_and_never_overlap(said: list[str], values: list[str]) -> None:
    text = " ".join(said)
    found = [place for place in project(text, values) if place]
    assert all(0 <= start < end <= len(text) for start, end in found)
    for one, other in itertools.combinations(found, 2):
        assert one[1] <= other[0] or other[1] <= one[0]


@given(st.integers(1, 4), st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_assignment_is_the_best_of_all_that_do_not_overlap(n_values: int, n_places: int, rng: Random) -> None:
    places = [(start := rng.randrange(8), start + rng.randint(1, 4)) for _ in range(n_places)]
    gain = np.array([[rng.uniform(-0.5, 0.4) for _ in places] for _ in range(n_values)])

    def total(chosen: tuple[int | None, ...] | list[int | None]) -> float:
        return float(sum(gain[row, at] for row, at in enumerate(chosen) if at is not None))

    def is_apart(chosen: tuple[int | None, ...]) -> bool:
        taken = [places[at] for at in chosen if at is not None]
        return all(one[1] <= two[0] or two[1] <= one[0] for one, two in itertools.combinations(taken, 2))

    every = itertools.product([None, *range(n_places)], repeat=n_values)
    best = max(total(chosen) for chosen in every if is_apart(chosen))
    found = _assigned(gain, places)
    assert is_apart(tuple(found))
    assert total(found) == pytest.approx(best)


def test_many_values_on_many_words_end_in_time() -> None:
    text = " ".join(f"word{'abcdefghij'[k % 10]}" for k in range(400))
    found = project(text, [f"worb{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"])
    assert len(found) == 26


def test_a_label_has_all_its_values_or_none() -> None:
    goal = '{"intent":"play","slots":[{"name":"artist","value":"radiohead"},{"name":"room","value":"%s"}]}'
    whole = annotate("play radio head in the kitten", goal % "kitchen")
    assert whole.annotated == "play [artist : radio head] in the [room : kitten]"
    part = annotate("play radio head in the kitten", goal % "bathroom")
    assert (part.is_intent_only, part.spans, part.annotated) == (True, (), "play radio head in the kitten")


@given(st.lists(st.sampled_from(["jazz", "rock", "明日", "7", "new york", "?"]), min_size=1, max_size=7), st.data())
def test_tags_are_those_that_the_tagger_learns_from(said: list[str], data: st.DataObject) -> None:
    text = " ".join(said)
    chosen = data.draw(st.lists(st.booleans(), min_size=len(said), max_size=len(said)))
    starts = itertools.accumulate((len(word) + 1 for word in said), initial=0)
    spans = tuple(
        Span(f"s{k % 2}", word, start, start + len(word))
        for k, (start, word, is_chosen) in enumerate(zip(starts, said, chosen, strict=False))
        if is_chosen and word != "?"
    )
    tags = bio_tags(text, spans)
    assert [word for word, _ in tags] == [text[start:end] for start, end in word_spans(text)]
    tagged = [Tagged(span.name, span.start, span.end) for span in spans]
    assert [tag for _, tag in tags] == labels_of(tagged, word_spans(text))
