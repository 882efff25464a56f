"""The simulated logs: repeatable, of the promised shape, and hard in the promised ways."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from selflearn.errors import DataError, SettingsError
from selflearn.simulate import SimulationSummary, TruthRow, read_truth, simulate
from selflearn.simulate.chance import draws, zipf
from selflearn.simulate.people import Behaviour
from selflearn.simulate.world import Carrier, Utterance, load_world

START = date(2025, 2, 28)
N_TURNS = 12_000
LOG_KEYS = {
    "turn_id", "session_id", "user_id", "ts", "locale", "text", "text_alternatives", "asr_score", "intent",
    "slots", "nlu_score", "nlu_alternatives", "prompt", "response", "context", "fallback", "barge_in",
    "error", "cancelled", "completed", "feedback", "rewrite_id", "model_version",
}  # fmt: skip
TRUTH_ONLY = {"is_failure", "noticed", "rephrase_of", "behaviour"}
TRUTH_KEYS = {"turn_id", "session_id", "locale", "intent", "slots", "text"} | TRUTH_ONLY
BEHAVIOURS = set(get_args(Behaviour))
AGAIN = {"rephrase", "simplify", "repeat_words"}

Row = dict[str, Any]


@dataclass(frozen=True)
class World:
    out: Path
    summary: SimulationSummary
    logs: dict[str, Row]
    truth: dict[str, TruthRow]
    sessions: dict[str, list[str]]
    launch: list[Row]


def _lines(path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def _words(row: Row) -> tuple[str, str, str]:
    return row["locale"], row["context"], row["text"]


def _files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.jsonl"))}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    out = tmp_path_factory.mktemp("simulated") / "world"
    summary = simulate(out, n_turns=N_TURNS, days=2, start=START, seed=5, workers=1)
    logs = {row["turn_id"]: row for path in sorted(summary.logs.iterdir()) for row in _lines(path)}
    truth = {row.turn_id: row for row in read_truth(summary.truth)}
    sessions = defaultdict(list)
    for turn_id in sorted(logs):
        sessions[logs[turn_id]["session_id"]].append(turn_id)
    return World(out, summary, logs, truth, sessions, _lines(summary.launch))


def test_same_arguments_give_same_bytes_whatever_the_workers(world: World, tmp_path: Path) -> None:
    simulate(tmp_path / "two", n_turns=N_TURNS, days=2, start=START, seed=5, workers=2)
    assert _files(tmp_path / "two") == _files(world.out)


def test_another_seed_gives_another_world(world: World, tmp_path: Path) -> None:
    simulate(tmp_path / "other", n_turns=300, days=2, start=START, seed=6, workers=1)
    assert (tmp_path / "other" / "launch.jsonl").read_bytes() != world.summary.launch.read_bytes()


def test_files_are_one_per_day_and_hold_their_own_turns(world: World) -> None:
    for folder in (world.summary.logs, world.summary.truth):
        assert sorted(path.name for path in folder.iterdir()) == ["2025-02-28.jsonl", "2025-03-01.jsonl"]
    for path in world.summary.logs.iterdir():
        rows = _lines(path)
        assert {row["ts"][:10] for row in rows} == {path.stem}
        mirror = [row["turn_id"] for row in _lines(world.summary.truth / path.name)]
        assert [row["turn_id"] for row in rows] == mirror


def test_log_lines_have_the_canonical_shape(world: World) -> None:
    assert len(world.logs) == N_TURNS
    for row in world.logs.values():
        assert set(row) == LOG_KEYS
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["ts"])
        assert re.fullmatch(r"user-\d{6}", row["user_id"])
        assert "" != row["text"] == row["text"].strip()
        assert (row["rewrite_id"], row["model_version"]) == (None, "launch")
        assert row["feedback"] in (-1, 0, 1, None)
        for flag in ("fallback", "barge_in", "error", "cancelled", "completed"):
            assert row[flag] in (True, False, None)


def test_recogniser_lists_are_ordered_and_begin_with_the_text(world: World) -> None:
    for row in world.logs.values():
        texts = [entry["text"] for entry in row["text_alternatives"]]
        scores = [entry["score"] for entry in row["text_alternatives"]]
        assert 1 <= len(texts) == len(set(texts)) <= 5
        assert texts[0] == row["text"]
        assert scores[0] < 0
        assert row["asr_score"] == pytest.approx(math.exp(scores[0]), abs=1e-4)
        assert scores == sorted(scores, reverse=True)


def test_nlu_lists_are_probabilities_and_begin_with_the_reading(world: World) -> None:
    for row in world.logs.values():
        listed = row["nlu_alternatives"]
        scores = [entry["score"] for entry in listed]
        assert 1 <= len(listed) <= 4
        assert scores == sorted(scores, reverse=True)
        assert 0 < sum(scores) <= 1 + 1e-9
        assert scores[0] == row["nlu_score"]
        assert row["fallback"] == (row["intent"] is None)
        if not row["fallback"]:
            assert (listed[0]["intent"], listed[0]["slots"]) == (row["intent"], row["slots"])


def test_prompts_repeat_the_last_response_and_contexts_its_question(world: World) -> None:
    books = load_world().phrasebooks
    for ids in world.sessions.values():
        rows = [world.logs[turn_id] for turn_id in ids]
        assert rows[0]["prompt"] is None
        assert rows[0]["context"] == ""
        for before, after in pairwise(rows):
            assert before["ts"] < after["ts"]
            assert after["prompt"] == before["response"]
            assert before["user_id"] == after["user_id"]
        for row in rows:
            assert not row["fallback"] or row["response"] == books[row["locale"]].not_understood


def test_truth_stays_out_of_the_logs(world: World) -> None:
    assert set(world.truth) == set(world.logs)
    for path in world.summary.truth.iterdir():
        assert all(set(row) == TRUTH_KEYS for row in _lines(path))
    assert not any(TRUTH_ONLY & set(row) for row in world.logs.values())
    assert all(row.session_id == world.logs[row.turn_id]["session_id"] for row in world.truth.values())


def test_every_behaviour_occurs_in_every_locale(world: World) -> None:
    seen = defaultdict(set)
    for row in world.truth.values():
        seen[row.locale].add(row.behaviour)
    assert all(behaviours == BEHAVIOURS for behaviours in seen.values())


def test_rephrases_say_a_noticed_failure_again(world: World) -> None:
    rephrases = [row for row in world.truth.values() if row.rephrase_of]
    assert len(rephrases) == world.summary.n_rephrases
    assert {row.behaviour for row in rephrases} == AGAIN | {"answer"}
    for row in rephrases:
        failed = world.truth[row.rephrase_of or ""]
        assert failed.turn_id < row.turn_id
        assert failed.session_id == row.session_id
        assert failed.noticed
        assert failed.goal.intent == row.goal.intent
        if row.behaviour == "repeat_words":
            assert (failed.text, failed.goal) == (row.text, row.goal)
    places = {turn_id: place for ids in world.sessions.values() for place, turn_id in enumerate(ids)}
    assert any(places[row.turn_id] - places[row.rephrase_of or ""] > 1 for row in rephrases)


def test_people_react_to_failure_as_promised(world: World) -> None:
    following = Counter[str]()
    for ids in world.sessions.values():
        for before, after in pairwise(world.truth[turn_id] for turn_id in ids):
            following[after.behaviour] += before.is_failure and before.noticed
    following["give_up"] = sum(world.truth[ids[-1]].noticed for ids in world.sessions.values())
    at_once = following["rephrase"] + following["repeat_words"]
    assert 0.33 < at_once / following.total() < 0.5
    assert 0.25 < following["repeat_words"] / at_once < 0.42
    assert min(following[kind] for kind in ("simplify", "cancel", "give_up", "switch_topic")) > 0


def test_one_turn_in_six_fails_and_one_failure_in_ten_is_overlooked(world: World) -> None:
    failures = [row for row in world.truth.values() if row.is_failure]
    assert len(failures) == world.summary.n_failures
    assert 0.15 < len(failures) / N_TURNS < 0.2
    assert 0.07 < sum(not row.noticed for row in failures) / len(failures) < 0.13
    assert not any(row.noticed for row in world.truth.values() if not row.is_failure)


def test_failure_is_what_the_log_and_the_truth_disagree_on(world: World) -> None:
    silent = 0
    for turn_id, row in world.truth.items():
        log = world.logs[turn_id]
        read = (log["intent"], tuple((slot["name"], slot["value"]) for slot in log["slots"]))
        assert row.is_failure == (log["error"] or read != row.goal)
        silent += row.is_failure and log["completed"] is True
    assert silent > 0


def test_scores_tell_something_but_not_all(world: World) -> None:
    right = sorted(world.logs[i]["nlu_score"] for i, row in world.truth.items() if not row.is_failure)
    wrong = [world.logs[i]["nlu_score"] for i, row in world.truth.items() if row.is_failure]
    sample = right[:: max(1, len(right) // 500)]
    above = sum(good > bad for bad in wrong for good in sample) / (len(wrong) * len(sample))
    assert 0.7 < above < 0.95


def test_the_same_words_are_read_the_same_way(world: World) -> None:
    readings = defaultdict(set)
    for row in world.logs.values():
        readings[_words(row)].add((row["intent"], json.dumps(row["slots"]), row["nlu_score"]))
    assert sum(len(found) > 1 for found in readings.values()) < 0.002 * len(readings)


def test_languages_include_one_without_spaces_and_one_from_right_to_left(world: World) -> None:
    texts = defaultdict(list)
    for row in world.logs.values():
        texts[row["locale"]].append(row["text"])
    assert len(texts) >= 5
    unspaced = [locale for locale, own in texts.items() if sum(" " in text for text in own) < 0.01 * len(own)]
    scripts = {
        locale: {unicodedata.bidirectional(letter) for text in own for letter in text if letter.isalpha()}
        for locale, own in texts.items()
    }
    leftward = [locale for locale, found in scripts.items() if found <= {"AL", "R"}]
    assert unspaced == ["ja-JP"]
    assert leftward == ["ar-EG"]


def test_world_is_as_wide_as_promised() -> None:
    world = load_world()
    assert len({intent.domain for intent in world.intents.values()}) >= 8
    assert 25 <= len(world.intents) <= 35


def test_short_answers_mean_what_was_asked_for(world: World) -> None:
    meanings: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for turn_id, row in world.truth.items():
        context = world.logs[turn_id]["context"]
        if row.behaviour == "answer":
            assert context == f"{context.split(':')[0]}:{row.goal.intent}"
            meanings[row.locale, row.text][context] = row.goal.intent
    shared = {locale for (locale, _), found in meanings.items() if len(set(found.values())) > 1}
    assert shared == set(load_world().phrasebooks)


def test_some_session_runs_over_midnight_and_none_over_the_end(world: World) -> None:
    days = [{world.logs[turn_id]["ts"][:10] for turn_id in ids} for ids in world.sessions.values()]
    assert {"2025-02-28", "2025-03-01"} in days
    assert set().union(*days) == {"2025-02-28", "2025-03-01"}


def test_nobody_talks_twice_at_a_time(world: World) -> None:
    spans = defaultdict(list)
    for ids in world.sessions.values():
        first, last = world.logs[ids[0]], world.logs[ids[-1]]
        if first["ts"][:10] == "2025-02-28":
            spans[first["user_id"]].append((first["ts"], last["ts"]))
    assert max(map(len, spans.values())) > 3
    for own in spans.values():
        assert all(before[1] < after[0] for before, after in pairwise(sorted(own)))


def test_people_and_sessions_are_counted_right(world: World) -> None:
    assert world.summary.n_sessions == len(world.sessions)
    assert world.summary.n_users == len({row["user_id"] for row in world.logs.values()})
    assert world.summary.n_launch_sentences == len(world.launch)
    assert 1 <= min(map(len, world.sessions.values())) <= max(map(len, world.sessions.values())) <= 10


def test_popular_words_are_heard_from_many_people_and_a_tail_once(world: World) -> None:
    users = defaultdict(set)
    for row in world.logs.values():
        users[_words(row)].add(row["user_id"])
    assert sum(len(own) >= 5 for own in users.values()) > 100
    assert sum(len(own) == 1 for own in users.values()) > 0.3 * len(users)


def test_launch_set_holds_every_goal_once_per_sentence(world: World) -> None:
    assert len(world.launch) == len(set(map(_words, world.launch)))
    goals = {(row["locale"], row["intent"]) for row in world.launch}
    known = load_world()
    assert len(goals) > 0.95 * len(known.intents) * len(known.phrasebooks)
    assert any(row["context"] for row in world.launch)
    for row in world.launch:
        assert set(row) == {"locale", "text", "intent", "slots", "context"}
        assert all(slot["value"] in row["text"] for slot in row["slots"])


def test_many_people_use_words_that_the_launch_set_lacks(world: World) -> None:
    known = {(row["locale"], row["text"]) for row in world.launch}
    said = Counter((row.locale, row.text) in known for row in world.truth.values())
    assert 0.2 < said[False] / N_TURNS < 0.8


def test_fewer_turns_than_days_leave_empty_days(tmp_path: Path) -> None:
    summary = simulate(tmp_path, n_turns=2, days=5, start=START, seed=1, workers=1)
    sizes = [len(_lines(path)) for path in sorted(summary.logs.iterdir())]
    assert len(sizes) == 5
    assert sum(sizes) == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n_turns": 0}, "n_turns is 0"),
        ({"days": -1}, "days is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"start": date(9999, 12, 31)}, "calendar"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(tmp_path: Path, change: Row, named: str) -> None:
    arguments: Row = {"n_turns": 10, "days": 2, "start": START, "seed": 1, "workers": 1} | change
    with pytest.raises(SettingsError, match=named):
        simulate(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    for out in (tmp_path, kept):
        with pytest.raises(SettingsError):
            simulate(out, n_turns=10, days=1, start=START, seed=1)
    assert kept.read_text() == "mine"


def test_truth_of_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no ground truth"):
        list(read_truth(tmp_path))


def test_carriers_put_values_where_they_belong() -> None:
    carrier = Carrier.parse("{event} on {day} please", "event_create", "")
    said = Utterance.of(carrier, {"day": "Monday", "event": "lunch", "time": "noon"}, ("um ", ""))
    assert said.text == "um lunch on Monday please"
    assert said.frame == ("event_create", (("day", "Monday"), ("event", "lunch")))


def test_draws_depend_on_their_key_alone() -> None:
    assert draws("a", 1) == draws("a", 1) != draws("a", 2)
    assert all(0 <= u < 1 for u in draws("a", 1))
    assert zipf(3) == pytest.approx((6 / 11, 9 / 11, 1))
