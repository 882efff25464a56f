"""Words that decide: which swaps of words are seen to change what is meant, in whatever language."""

from __future__ import annotations

from collections import Counter
from itertools import groupby, product
from random import Random
from typing import Any

import pytest
from pyspark.sql import SparkSession

from selflearn.rewrites.contrast import contrasts, swaps_of
from selflearn.wording import words

Row = dict[str, Any]
Pair = tuple[str, str]

CANDIDATE = "utterance_id string, target_utterance string, locale string, text string, target_text string"
NODE = "locale string, context string, text string, goal string, rank int, posterior double"
FOUR_ROOMS = ("kitchen", "hall", "bedroom", "attic")


def candidate(locale: str, text: str, target: str) -> Row:
    ends = {"utterance_id": f"{locale}: {text}", "target_utterance": f"{locale}: {target}"}
    return ends | {"locale": locale, "text": text, "target_text": target}


def known(locale: str, wordings: dict[str, str], **node: Any) -> list[Row]:
    """Utterances by what they mean, surely unless said otherwise."""
    sure = {"locale": locale, "context": "", "rank": 1, "posterior": 0.95}
    return [sure | {"text": text, "goal": goal} | node for text, goal in wordings.items()]


def told_apart(spark: SparkSession, candidates: list[Row], nodes: list[Row]) -> set[Pair]:
    """Ends of the candidates whose words decide."""
    frames = [
        spark.createDataFrame([tuple(row[column.split()[0]] for column in schema.split(", ")) for row in rows], schema)
        for rows, schema in ((candidates, CANDIDATE), (nodes, NODE))
    ]
    found = [tuple(row) for row in contrasts(*frames).collect()]
    assert len(found) == len(set(found))
    return set(found)


def lights(do: str, goal: str, rooms: tuple[str, ...] = FOUR_ROOMS) -> dict[str, str]:
    return {f"turn the {room} light {do}": f"{goal} {room}" for room in rooms}


def alarms(*prefixes: str, goal: str) -> dict[str, str]:
    hours = ("seven", "eight", "noon")
    return {f"{prefix} {hour}": f"{goal} {hour}" for prefix in prefixes for hour in hours}


CASES = {
    "on and off": (
        known("on and off", lights("on", "on") | lights("off", "off")),
        ("turn on the garage light", "turn the garage light off"),
    ),
    "negation": (
        known("negation", alarms("wake me at", goal="set") | alarms("don't wake me at", goal="cancel")),
        ("wake me at six please", "don't wake me at six please"),
    ),
    "negation left out": (
        known("negation left out", alarms("wake me at", goal="set") | alarms("do not wake me at", goal="cancel")),
        ("do not wake me up at six", "wake me up at six"),
    ),
    "a day": (
        known(
            "a day", {f"{ask} {day}": f"{ask} {day}" for ask in ("weather", "news") for day in ("today", "tomorrow")}
        ),
        ("how's the weather tomorrow", "tell me the weather for today"),
    ),
    "Japanese negation": (
        known("Japanese negation", {"電気をつけて": "on", "電気をつけないで": "off", "音楽をつけて": "play"})
        + known("Japanese negation", {"音楽をつけないで": "stop"}),
        ("明かりをつけて", "明かりをつけないで"),
    ),
    "Chinese negation": (
        known(
            "Chinese negation",
            {"叫我起床": "set", "不要叫我起床": "cancel", "提醒我": "remind", "不要提醒我": "forget"},
        ),
        ("七点叫我", "不要七点叫我"),
    ),
}
PASSING = {
    "a mishearing": (
        known("a mishearing", lights("off", "off") | lights("of", "off") | lights("on", "on")),
        ("turn the garage light of", "turn the garage light off"),
    ),
    "nobody knows": (
        known("nobody knows", lights("on", "on") | lights("off", "off")),
        ("switch the lamp on", "light up the garage"),
    ),
    "seen once": (
        known("seen once", lights("on", "on", ("hall",)) | lights("off", "off", ("hall",))),
        ("turn the garage light on", "turn the garage light off"),
    ),
    "as often the same": (
        known("as often the same", lights("on", "on") | lights("off", "off", ("hall", "attic")))
        + known("as often the same", {f"turn the {room} light off": f"on {room}" for room in ("kitchen", "bedroom")}),
        ("turn the garage light on", "turn the garage light off"),
    ),
    "not sure": (
        known("not sure", lights("on", "on")) + known("not sure", lights("off", "off"), posterior=0.85),
        ("turn the garage light on", "turn the garage light off"),
    ),
    "no goal": (
        known("no goal", lights("on", "on")) + known("no goal", dict.fromkeys(lights("off", "off"), "*")),
        ("turn the garage light on", "turn the garage light off"),
    ),
    "less likely goals": (
        known("less likely goals", lights("on", "on")) + known("less likely goals", lights("off", "off"), rank=2),
        ("turn the garage light on", "turn the garage light off"),
    ),
    "after other questions": (
        known("after other questions", lights("on", "on"))
        + known("after other questions", lights("off", "off"), context="ask"),
        ("turn the garage light on", "turn the garage light off"),
    ),
    "said in other words": (
        known("said in other words", {f"delete alarm {hour}": f"cancel {hour}" for hour in ("six", "seven", "noon")})
        + known("said in other words", {f"alarm {hour}": f"set {hour}" for hour in ("six", "seven", "noon")}),
        ("delete bread", "take bread off the list"),
    ),
}


def test_words_decide_where_what_is_known_to_mean_different_things_differs_in_them_alone(spark: SparkSession) -> None:
    cases = CASES | PASSING
    candidates = {name: candidate(name, *pair) for name, (_, pair) in cases.items()}
    nodes = [row for rows, _ in cases.values() for row in rows]
    # The same candidates in languages of which nothing is known.
    elsewhere = [candidate(f"unlike {name}", *pair) for name, (_, pair) in cases.items()]
    found = told_apart(spark, [*candidates.values(), *elsewhere], nodes)
    assert found == {tuple(candidates[name][end] for end in ("utterance_id", "target_utterance")) for name in CASES}


@pytest.mark.parametrize(
    ("source", "target", "swaps"),
    [
        pytest.param("lights on", "lights off", {("off", "on")}, id="one word for another"),
        pytest.param("turn on the light", "turn the light off", {("off", "on")}, id="in another place"),
        pytest.param("wake me", "do not wake me", {("", "do"), ("", "not"), ("", "do not")}, id="added in a row"),
        pytest.param("wake me up now", "wake me", {("", "up"), ("", "now"), ("", "up now")}, id="left out"),
        pytest.param("now wake me up", "wake me", {("", "up"), ("", "now")}, id="left out here and there"),
        pytest.param("a b x", "c x", {("a", "c"), ("b", "c"), ("a b", "c")}, id="a row for a word"),
        pytest.param("light on", "on light", set(), id="another order"),
        pytest.param("on", "on", set(), id="the same"),
    ],
)
def test_what_was_swapped(source: str, target: str, swaps: set[Pair]) -> None:
    assert {tuple(map(spoken, swap)) for swap in swaps_of(source.split(), target.split())} == swaps
    assert swaps_of(source.split(), target.split()) == swaps_of(target.split(), source.split())


def test_long_texts_have_few_swaps() -> None:
    one, other = ([f"{end}{n}" for n in range(5_000)] for end in "ab")
    assert len(swaps_of(one, other)) < 2_000


def spoken(marked: str) -> str:
    return " ".join(marked.replace("\x1f", " ").split())


def plain_told_apart(candidates: list[Row], nodes: list[Row]) -> set[Pair]:
    """The same, by comparing every two utterances."""
    sure = {
        (row["locale"], row["context"], tuple(words(row["text"].casefold())), row["goal"])
        for row in nodes
        if row["rank"] == 1 and row["posterior"] >= 0.9 and row["goal"] != "*"
    }
    found = set()
    for row in candidates:
        for swap in plain_swaps(*(words(row[name].casefold()) for name in ("text", "target_text"))):
            seen: Counter[bool] = Counter()
            for (locale, context, one, goal), (other_locale, other_context, other, other_goal) in product(sure, sure):
                if row["locale"] == locale == other_locale and context == other_context and differ_in(one, other, swap):
                    seen[goal == other_goal] += 1
            if seen[False] >= 2 and seen[False] > seen[True]:
                found.add((row["utterance_id"], row["target_utterance"]))
    return found


def plain_swaps(source: list[str], target: list[str]) -> set[tuple[tuple[str, ...], tuple[str, ...]]]:
    runs, others = plain_runs(source, target), plain_runs(target, source)
    if runs and others:
        single, other_single = ([(word,) for run in of_end for word in run] for of_end in (runs, others))
        return {*product(runs, others), *product(single, other_single)}
    return {(unit, ()) for run in runs + others for unit in (run, *((word,) for word in run))}


def plain_runs(source: list[str], target: list[str]) -> list[tuple[str, ...]]:
    return [tuple(run) for is_shared, run in groupby(source, lambda word: word in target) if not is_shared]


def differ_in(one: tuple[str, ...], other: tuple[str, ...], swap: tuple[tuple[str, ...], tuple[str, ...]]) -> bool:
    """Whether both are alike with a hole in the place of what was swapped; gone where it was for nothing."""
    unit, other_unit = swap
    if not other_unit:
        return unit != () and without(one, unit, ()) == other and one != other
    left = without(one, unit, (None,))
    return None in left and left == without(other, other_unit, (None,))


def without(text: tuple[str, ...], unit: tuple[str, ...], hole: tuple[None, ...]) -> tuple[str | None, ...]:
    left: list[str | None] = []
    place = 0
    while place < len(text):
        is_here = text[place : place + len(unit)] == unit
        left += hole if is_here else (text[place],)
        place += len(unit) if is_here else 1
    return tuple(left)


def test_counts_are_those_of_comparing_every_two_utterances(spark: SparkSession) -> None:
    rng = Random(6)
    vocabulary = ["on", "Off", "don't", "light", "7", "明", "か", "it’s"]

    def wording() -> str:
        return rng.choice(["{}", "{}?"]).format(" ".join(rng.choices(vocabulary, k=rng.randint(1, 4))))

    nodes = [
        {
            "locale": rng.choice(["en", "ja"]),
            "context": rng.choice(["", "", "ask"]),
            "text": wording(),
            "goal": rng.choice(["a", "a", "a", "b", "*"]),
            "rank": rng.choice([1, 1, 1, 2]),
            "posterior": rng.choice([0.95, 0.9, 0.95, 0.89]),
        }
        for _ in range(700)
    ]
    candidates = [candidate(locale, wording(), wording()) for locale in ("en", "ja") for _ in range(60)]
    found = told_apart(spark, candidates, nodes)
    assert found == plain_told_apart(candidates, nodes)
    assert 20 < len(found) < 100
