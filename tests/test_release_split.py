"""Training sets on the driver: no sentence in two splits, none in an evaluation set, and what is odd is told."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from datetime import date, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_rows import Row, example
from selflearn.errors import DataError
from selflearn.release import Issues, check_intents, content_hash, find_issues, leaks, sentence_of, training_set
from selflearn.release.likeness import NEAR_DUPLICATE, near_pairs, nearest
from selflearn.release.split import launch_split, split_of_sentences

FIRST = date(2025, 1, 1)


def mined(text: str, day: int = 0, is_held_out: bool = False, **fields: object) -> Row:
    row = example(text, origin="corrected", weight=0.9)
    return row | {"first_day": FIRST + timedelta(days=day), "is_held_out": is_held_out} | fields


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    texts = st.sampled_from(["stop", "Stop", " stop ", "play", "weiter", "次", "NEXT", "next"])
    launch = [
        example(text, context=context) for text, context in draw(st.lists(st.tuples(texts, st.sampled_from("ab"))))
    ]
    rows = draw(st.lists(st.tuples(texts, st.integers(0, 3), st.booleans(), st.sampled_from(["en-GB", "de-DE"]))))
    return launch, [mined(text, day, held, locale=locale) for text, day, held, locale in rows]


@given(logs())
def test_a_sentence_has_one_split_whatever_its_context_and_spelling(log: tuple[list[Row], list[Row]]) -> None:
    launch, labels = log
    splits = split_of_sentences(launch, labels)
    assert splits.keys() == {sentence_of(row) for row in (*launch, *labels)}
    known = {sentence_of(row) for row in launch}
    of_sentence = defaultdict(list)
    for row in labels:
        of_sentence[sentence_of(row)].append(row)
    for sentence, rows in of_sentence.items():
        if sentence in known:
            assert splits[sentence] == launch_split(sentence)
        else:
            assert (splits[sentence] == "train") == (not all(row["is_held_out"] for row in rows))


def test_the_newer_half_of_what_only_held_out_people_said_is_the_test() -> None:
    rows = [mined(f"said {day}", day, True) for day in range(10)] + [mined("common", 9)]
    splits = split_of_sentences([], Random(1).sample(rows, len(rows)))
    assert [splits["en-GB", f"said {day}"] for day in range(10)] == ["validation"] * 5 + ["test"] * 5
    assert splits["en-GB", "common"] == "train"


def test_launch_sentences_are_split_by_their_words_in_every_release() -> None:
    launch = [example(f"sentence {number}") for number in range(1_000)]
    splits = split_of_sentences(launch, [])
    assert splits == split_of_sentences(launch[::-1], [mined("sentence 7", 0, True)])
    shares = Counter(splits.values())
    assert shares["train"] == pytest.approx(800, abs=50)
    assert min(shares["validation"], shares["test"]) == pytest.approx(100, abs=35)


def test_launch_sentences_win_and_equal_rows_stand_once() -> None:
    launch = [example("stop"), example("stop")]
    rows = training_set(launch, [mined("stop"), mined("halt"), mined("stop", intent="mute")])
    found = [(row["text"], row["intent"], row["origin"], row["weight"]) for row in rows]
    assert sorted(found) == [
        ("halt", "play", "corrected", 0.9),
        ("stop", "mute", "corrected", 0.9),
        ("stop", "play", "launch", 1.0),
    ]
    assert [row["example_id"] for row in rows] == sorted({row["example_id"] for row in rows})


def test_content_hash_is_of_the_content_alone() -> None:
    rows = training_set([example(f"s{number}", "play", ("n", 0, 1)) for number in range(50)], [mined("other")])
    known = content_hash(rows)
    assert len(known) == 10
    assert set(known) <= set("0123456789abcdef")
    assert content_hash(Random(1).sample(rows, len(rows))) == known
    changes = [{"text": "x"}, {"weight": 0.5}, {"slots": []}, {"split": "other"}, {"reason": "y"}]
    others = {content_hash([rows[0] | change, *rows[1:]]) for change in changes}
    others |= {content_hash(rows[1:]), content_hash([]), content_hash([*rows, rows[0]])}
    assert len(others - {known}) == 8


def test_one_intent_alone_is_refused() -> None:
    rows = [example("a"), example("b"), example("c", "stop", split="test")]
    with pytest.raises(
        DataError, match=r"all 2 examples have the one intent 'play', and a classifier needs two"
    ) as caught:
        check_intents(rows)
    assert "launch set" in caught.value.next_step
    with pytest.raises(DataError, match="all 1 examples are held out"):
        check_intents(rows[2:])
    check_intents([*rows, example("d", "stop")])


def test_what_stands_in_an_evaluation_set_or_nearly_so_leaks() -> None:
    evaluated = [example("Turn on the lights in the kitchen"), example("stop"), example("halt", locale="de-DE")]
    evaluated += [example("turn the lights in the hall off", "off")]
    said = {
        "turn ON the lights in the  kitchen": True,
        "turn on the lights in the kitchen!": True,
        "turn on the lights in thee kitchen": True,
        "turn the lights in the hall off": True,
        "turn the lights in the hall of": False,
        "turn on the lights in the bathroom": False,
        "stopp": False,
        "halt": False,
    }
    found = leaks([mined(text) for text in said], evaluated)
    assert {sentence_of(mined(text)) in found for text, leaking in said.items() if leaking} == {True}
    assert {sentence_of(mined(text)) in found for text, leaking in said.items() if not leaking} == {False}
    assert found["en-GB", "turn on the lights in thee kitchen"] == "turn on the lights in the kitchen"
    assert leaks([mined("stop")], []) == {}


texts = st.lists(st.text(st.sampled_from("ab 東"), max_size=6), max_size=5)


def alike(one: str, other: str) -> float:
    """The plain rule of likeness."""
    mine, theirs = _grams(one), _grams(other)
    total = sum(mine.values()) * sum(theirs.values())
    return sum((mine[gram] * theirs[gram]) ** 0.5 for gram in mine) / total**0.5


def _grams(text: str) -> Counter[str]:
    bounded = f"\x02{text}\x02"
    return Counter(bounded[at : at + size] for size in (2, 3) for at in range(len(bounded) - size + 1))


@given(texts, texts)
def test_the_nearest_equals_the_plain_rule(left: list[str], right: list[str]) -> None:
    best, place = nearest(left, right)
    for at, text in enumerate(left):
        expected = [alike(text, other) for other in right]
        assert best[at] == pytest.approx(max(expected, default=0.0))
        if best[at] > 0:
            assert expected[place[at]] == pytest.approx(best[at])


LONG = st.text(st.sampled_from("ab 東"), min_size=8, max_size=20)


@given(st.lists(LONG, max_size=6), st.data())
def test_near_pairs_are_all_that_the_plain_rule_finds(written: list[str], data: st.DataObject) -> None:
    """Each text beside some with a letter more, less or twice."""
    texts = list(written)
    for text in written:
        at = data.draw(st.integers(0, len(text) - 1))
        texts += [text[:at] + text[at + 1 :], text[:at] + "c" + text[at:], f"{text} {text}"]
    first, second = near_pairs(texts)
    found = list(zip(first.tolist(), second.tolist(), strict=True))
    assert found == sorted(found)
    for pair in itertools.combinations(range(len(texts)), 2):
        likeness = alike(texts[pair[0]], texts[pair[1]])
        if abs(likeness - NEAR_DUPLICATE) > 1e-6:
            assert (pair in found) == (likeness > NEAR_DUPLICATE)


def test_issues_name_what_a_person_should_look_at() -> None:
    launch = [example(f"play the song number {number}", "play") for number in range(30)]
    launch += [example(f"what is the weather in city {number}", "weather") for number in range(30)]
    rows = [
        *launch,
        example("stop", "stop", context="a"),
        example("stop", "mute", context="a", example_id="x"),
        example("stop", "cancel", context="b", example_id="y"),
        mined("play the song number 31!", intent="play"),
        mined("what is the weather in city 31", intent="play"),
        mined("zzz qqq", intent="weather"),
    ]
    found = find_issues(rows, {("en-GB", "play the song number 3"): "play the song number 3"})
    listed = defaultdict(set)
    for issue in found.listed:
        listed[issue.kind].add(issue.text)
    assert listed["conflict"] == {"stop"}
    assert {issue.note for issue in found.listed if issue.kind == "conflict"} == {"means mute and stop after a"}
    assert "play the song number 31!" in listed["near_duplicate"]
    assert listed["near_conflict"] == {"what is the weather in city 31"}
    assert listed["outlier"] == {"zzz qqq"}
    assert listed["leak"] == {"play the song number 3"}
    assert found.counts["leak"] == 1
    assert Issues.from_json(found.to_json()) == found


def test_rare_and_crowded_intents_are_an_imbalance() -> None:
    rows = [example(f"{intent} {number}", intent) for intent in "abcde" for number in range(20)]
    rows += [example("rare", "f"), *(example(f"g {number}", "g") for number in range(201))]
    found = [issue for issue in find_issues(rows, {}).listed if issue.kind == "imbalance"]
    assert [(issue.text, issue.note) for issue in found] == [
        ("f", "has 1 examples, the median intent 20"),
        ("g", "has 201 examples, the median intent 20"),
    ]
