"""The simulated deployment: whose words are said, what is heard, what people do then, and what the log may tell."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selflearn.errors import DataError, SettingsError
from selflearn.nlu import Reading
from selflearn.simulate.deployment import (
    Assistant,
    Deployment,
    Division,
    Rewrite,
    Told,
    Wording,
    World,
    divide,
    read_wordings,
    sample_wordings,
    wordings_of,
)
from selflearn.simulate.deployment.channel import Channel
from selflearn.simulate.lines import Json
from selflearn.simulate.world import Frame

DAY = date(2026, 1, 5)
WORLD = World(n_sessions=400, n_users=120, n_cycles=4)


class Parrot:
    """Reads what it was taught rightly, all else as nothing it is sure of."""

    def __init__(self, known: Sequence[Wording]) -> None:
        self._known = {one.text.casefold(): one.goal.intent for one in known}

    def read(self, texts: Sequence[str], contexts: Sequence[str], most: int = 1) -> list[list[Reading]]:
        return [[self._reading(text.casefold())] for text in texts]

    def _reading(self, text: str) -> Reading:
        intent = self._known.get(text)
        return Reading(intent or "music_pause", frozenset(), 0.9 if intent else 0.3, 1.0)


@pytest.fixture(scope="module")
def division() -> Division:
    return divide(sample_wordings("en-GB"), n_launch=6, test_share=0.25, seed=1)


def _day(division: Division, world: World = WORLD, cycle: int = 0, **more: Rewrite) -> tuple[list[Json], list[Told]]:
    assistant = Assistant(Parrot(division.launch), "launch", more)
    return Deployment(division, world, seed=3).day(cycle, DAY, assistant)


def test_rows_of_any_form_are_read_and_each_text_once(tmp_path: Path) -> None:
    rows = [
        {"text": "wake me at 7 am", "intent": "alarm", "slots": [["time", "7 AM"]]},
        {"text": "Wake me  at 7 am", "intent": "other"},
        {"text": "play hello by adele", "intent": "play", "slots": {"song": "hello", "artist": "adele"}, "lang": "de"},
        {"text": "stop", "intent": "stop", "slots": [], "heard": ["stop", "shop"]},
        {"text": "at noon", "intent": "alarm", "slots": [{"name": "time", "value": "noon"}]},
    ]
    path = tmp_path / "pool.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    alarm, play, stop, noon = read_wordings(path)
    assert alarm.goal == Frame("alarm", (("time", "7 am"),))
    assert (play.locale, play.names) == ("de", ("", "song", "", "artist"))
    assert stop.heard == ("stop", "shop")
    assert alarm.saying(noon.goal) == "wake me at noon"


def test_a_value_that_is_not_said_makes_no_carrier() -> None:
    wording = Wording.of("wake me early", Frame("alarm", (("time", "7 am"),)), "en")
    assert not wording.is_carrier


def test_what_is_no_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_wordings(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="row 1"):
        wordings_of([{"text": "hello"}], "en", "here")
    with pytest.raises(DataError, match="leave none"):
        divide(sample_wordings("en-GB")[:3], n_launch=5, test_share=0.1, seed=1)
    with pytest.raises(SettingsError, match="tlh"):
        sample_wordings("tlh")


def test_sentences_are_divided_without_overlap(division: Division) -> None:
    parts = [{one.text for one in part} for part in (division.launch, division.spoken, division.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(sample_wordings("en-GB"))


def test_nobody_says_a_test_sentence(division: Division) -> None:
    tested = {one.text.casefold() for one in division.test}
    said = [one for cycle in range(WORLD.n_cycles) for one in _day(division, cycle=cycle)[1]]
    # Another's words with one's own values, or misheard words, would come out as such a sentence by chance.
    assert not [one for one in said if {one.text.casefold(), one.heard.casefold()} & tested]


def test_the_same_world_talks_the_same(division: Division) -> None:
    assert _day(division) == _day(division)


def test_log_and_truth_stand_row_by_row(division: Division) -> None:
    rows, told = _day(division)
    assert [row["turn_id"] for row in rows] == [one.turn_id for one in told]
    assert [row["text"] for row in rows] == [one.heard for one in told]
    assert [row["ts"] for row in rows] == sorted(str(row["ts"]) for row in rows)
    assert not {"goal", "is_failure", "behaviour"} & rows[0].keys()


def test_people_do_what_people_do_after_a_failure(division: Division) -> None:
    _, told = _day(division, replace(WORLD, n_sessions=3_000, poisoned=0.0))
    noticed = [one for one in told if one.is_noticed and one.turn_id.endswith("-00")]
    again = Counter(one.behaviour for one in told if one.rephrase_of and one.turn_id.endswith("-01"))
    at_once = (again["rephrase"] + again["repeat_words"]) / len(noticed)
    assert at_once == pytest.approx(0.46, abs=0.05)
    assert again["repeat_words"] / (again["rephrase"] + again["repeat_words"]) == pytest.approx(1 / 3, abs=0.05)


def test_nobody_says_a_failed_thing_again_where_all_are_silent(division: Division) -> None:
    _, told = _day(division, replace(WORLD, silent=1.0))
    assert any(one.is_failure for one in told)
    assert not any(one.is_noticed or one.rephrase_of for one in told)


def test_a_rewrite_is_served_to_most_and_never_to_the_control_arm(division: Division) -> None:
    rows, told = _day(division)
    failing = Counter(one.heard for one in told if one.is_failure and not one.is_planted).most_common(1)[0][0]
    intent = next(one.goal.intent for one in told if one.heard == failing)
    target = next(one.text for one in division.launch if one.goal.intent == intent)
    rows, told = _day(division, **{failing.casefold(): Rewrite("r1", target)})
    served = [one for row, one in zip(rows, told, strict=True) if row["rewrite_id"] == "r1"]
    spoken = [one for one in told if one.heard.casefold() == failing.casefold()]
    assert served
    assert len(served) <= len(spoken)
    assert any(one.would_fail and not one.is_failure for one in served)


def test_poisoners_say_what_they_do_not_mean(division: Division) -> None:
    _, told = _day(division, replace(WORLD, poisoned=0.2))
    planted = [one for one in told if one.is_planted]
    assert {one.behaviour for one in planted} == {"plant", "plant_target"}
    assert len({one.text for one in planted}) <= 6
    assert not any(one.is_planted for one in _day(division, replace(WORLD, poisoned=0.0))[1])


def test_new_wordings_come_up_later_and_taste_drifts(division: Division) -> None:
    early, late = (
        {one.text for one in _day(division, replace(WORLD, n_sessions=3_000, late_share=0.5), cycle)[1]}
        for cycle in (0, 3)
    )
    assert len(late - early) > len(early - late)
    pool = Deployment(division, WORLD, seed=3).pool
    assert pool.popularity(3) != pool.popularity(0)
    still = Deployment(division, replace(WORLD, drift=0.0), seed=3).pool
    assert still.popularity(3) == still.popularity(0)


def test_what_is_out_of_scope_is_said_and_tested_but_never_launched() -> None:
    beyond = "translate_word"
    wordings = sample_wordings("en-GB")
    division = divide(wordings, n_launch=2, test_share=0.25, seed=1, out_of_scope=beyond)
    asked = {one.text for one in wordings if one.goal.intent == beyond}
    assert {one.text for one in (*division.out_of_scope, *division.out_of_scope_test)} == asked
    assert beyond not in {one.goal.intent for one in (*division.launch, *division.spoken, *division.test)}
    with pytest.raises(DataError, match="no wording is of the intent fly"):
        divide(wordings, n_launch=2, test_share=0.25, seed=1, out_of_scope="fly")


def test_some_want_what_is_out_of_scope_and_know_no_other_words_for_it() -> None:
    division = divide(sample_wordings("en-GB"), n_launch=2, test_share=0.25, seed=1, out_of_scope="translate_word")
    _, told = _day(division, replace(WORLD, n_sessions=2_000, poisoned=0.0))
    beyond = [one for one in told if one.goal.intent == "translate_word"]
    wants = [one for one in told if one.behaviour == "want"]
    assert np.mean([one.goal.intent == "translate_word" for one in wants]) == pytest.approx(
        WORLD.out_of_scope, abs=0.015
    )
    assert all(one.is_failure for one in beyond)
    first = {one.session_id: one.text for one in beyond if one.turn_id.endswith("-00")}
    again = [one for one in beyond if one.rephrase_of and one.rephrase_of.endswith("-00")]
    assert again
    assert all(one.text == first[one.session_id] for one in again)
    tested = {one.text for one in division.out_of_scope_test}
    assert not tested & {one.text for one in told}
    assert len(Deployment(division, WORLD, seed=3).out_of_scope_test()) == len(tested)


def test_recordings_are_heard_where_there_are_any() -> None:
    rows = [
        {"text": f"sentence {word} {number}", "intent": word, "heard": [f"hurt {word} {number}"]}
        for word in ("one", "two")
        for number in range(8)
    ]
    division = divide(wordings_of(rows, "en", "here"), n_launch=2, test_share=0.25, seed=0)
    deployment = Deployment(division, replace(WORLD, poisoned=0.0), seed=0)
    heard = {row["text"] for row in deployment.day(0, DAY, Assistant(Parrot(division.launch), "launch"))[0]}
    assert heard <= {row["heard"][0] for row in rows}
    assert {one.heard for one in deployment.test()} <= {row["heard"][0] for row in rows}


@given(st.text(alphabet="abcd efghz é漢字", min_size=1).map(str.strip).filter(bool), st.integers(0, 99))
def test_what_is_heard_is_never_nothing(text: str, seed: int) -> None:
    heard = Channel([text, "some other words"], seed).hear(Random(seed), text, noise=1.0)
    assert 1 <= len(heard) <= 2
    assert all(one.strip() for one, _ in heard)
    assert [score for _, score in heard] == sorted((score for _, score in heard), reverse=True)


def test_mishearings_recur_and_sound_alike() -> None:
    texts = ["set an alarm", "play some music", "said nothing", "place a call", "farm life", "pay the bill"]
    channel = Channel(texts, seed=1)
    heard = Counter(channel.hear(Random(number), "set an alarm", noise=1.0)[0][0] for number in range(300))
    assert heard.most_common(1)[0][1] > 15
    assert any("farm" in text or "said" in text for text in heard)
    assert channel.hear(Random(1), "set an alarm", noise=0.0)[0][0] == "set an alarm"
