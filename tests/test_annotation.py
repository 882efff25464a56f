"""Annotations: slots on the utterance's own words, in any script."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selflearn.labels import Annotation, annotate
from selflearn.turns import frame_goal


def annotated(text: str, *slots: tuple[str, str]) -> str | None:
    """The bracketed text, None where the label is intent-only."""
    found = annotate(text, frame_goal("i", slots))
    assert found.intent == "i"
    if found.is_intent_only:
        assert (found.spans, found.annotated) == ((), text)
        return None
    return found.annotated


@pytest.mark.parametrize(
    ("text", "slots", "expected"),
    [
        pytest.param("wake me at 7 am", [("time", "7 am")], "wake me at [time : 7 am]", id="found"),
        pytest.param("stop", [], "stop", id="no slots"),
        pytest.param("Play ABBA", [("artist", "abba")], "Play [artist : ABBA]", id="spelt as in the text"),
        pytest.param("ÉCOUTE ÉTÉ", [("song", "été")], "ÉCOUTE [song : ÉTÉ]", id="accents"),
        pytest.param("wake me at 7 am", [("time", "8 am")], None, id="a value is missing"),
        pytest.param("play abba in paris", [("artist", "abba"), ("city", "rome")], None, id="one of two is missing"),
        pytest.param("play abba", [("artist", "")], None, id="empty value"),
        pytest.param(
            "new york to york", [("a", "york"), ("b", "new york")], "[b : new york] to [a : york]", id="longest first"
        ),
        pytest.param("new york", [("a", "york"), ("b", "new york")], None, id="no overlap"),
        pytest.param("two by two", [("a", "two"), ("b", "two")], "[a : two] by [b : two]", id="same value twice"),
        pytest.param("a cat in a category", [("x", "cat")], "a [x : cat] in a category", id="whole words"),
        pytest.param("a category", [("x", "cat")], None, id="not inside a word"),
        pytest.param("concat", [("x", "cat")], None, id="not at the end of a word"),
        pytest.param("category, cat", [("x", "cat")], "category, [x : cat]", id="first whole word"),
        pytest.param("at 17:30", [("x", "7")], None, id="not inside a number"),
        pytest.param("room 5b", [("x", "5")], None, id="letters and digits are one word"),
        pytest.param("включи джаз", [("g", "джаз")], "включи [g : джаз]", id="Cyrillic"),
        pytest.param("джазовый", [("g", "аз")], None, id="a word in Cyrillic"),
        pytest.param("включи джаза", [("g", "джаз")], "включи [g : джаза]", id="inflected"),
        pytest.param("明日東京の天気は", [("c", "東京")], "明日[c : 東京]の天気は", id="Japanese"),
        pytest.param("7時に起こして", [("t", "7時")], "[t : 7時]に起こして", id="Japanese number"),
        pytest.param("ما الطقس في القاهرة", [("c", "القاهرة")], "ما الطقس في [c : القاهرة]", id="Arabic"),
        pytest.param("מוזיקה בתל אביב", [("c", "תל אביב")], "מוזיקה ב[c : תל אביב]", id="Hebrew prefix"),
        pytest.param("STRASSE groß", [("c", "gross")], "STRASSE [c : groß]", id="folding that changes the length"),
        pytest.param("play radio head", [("a", "radiohead")], "play [a : radio head]", id="misheard"),
    ],
)
def test_slots_are_put_on_the_words(text: str, slots: list[tuple[str, str]], expected: str | None) -> None:
    assert annotated(text, *slots) == expected


words = st.text(st.sampled_from("ab1 ßİé東ا-"), min_size=1, max_size=4)


@given(st.lists(words, min_size=1, max_size=6), st.lists(words, max_size=3), st.randoms(use_true_random=False))
def test_spans_lie_in_the_text_and_never_overlap(said: list[str], other: list[str], rng: Random) -> None:
    text = rng.choice(["", " "]).join(said)
    values = rng.sample(said, rng.randint(0, len(said))) + other
    slots = [(f"s{k}", value.casefold()) for k, value in enumerate(values)]
    found = annotate(text, frame_goal("i", slots))
    if found.is_intent_only:
        assert (found.spans, found.annotated) == ((), text)
        return
    assert sorted(span.name for span in found.spans) == sorted(name for name, _ in slots)
    end = 0
    for span in found.spans:
        assert end <= span.start < span.end <= len(text)
        assert text[span.start : span.end] == span.value
        end = span.end
    assert without_brackets(found) == text


def without_brackets(found: Annotation) -> str:
    rest = found.annotated
    for span in found.spans:
        rest = rest.replace(f"[{span.name} : {span.value}]", span.value, 1)
    return rest
