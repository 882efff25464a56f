"""The contest of the closed loop: what each system makes of a log, how it is scored, and the whole at small scale."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

import loop
from loop_project import PARTS, WHOLE, settings_without
from loop_scores import Meant, Unseen, nlu_scores, summary, traffic_scores
from loop_systems import Distilled, Label, Marupa, Miner, Oracle, PairCounts, SelfTraining, SuccessChain, example_of
from loop_wordings import pool_of
from selflearn.errors import SettingsError
from selflearn.nlu import Example, Item, Reading, ReferenceNLU, Tagged
from selflearn.settings import USER_KEY_VARIABLE
from selflearn.simulate.deployment import Asked, Division, Told, World, divide, sample_wordings
from selflearn.simulate.world import Frame
from selflearn.turns import frame_goal

DAY = date(2026, 1, 5)
WORLD = World(n_sessions=150, n_users=60, n_cycles=2)
PLAY, STOP, CALL = (frame_goal(intent, ()) for intent in ("play", "stop", "call"))
LAUNCH = [Example("play", "", "play"), Example("halt", "", "stop"), Example("dial", "", "call")]


@pytest.fixture(scope="module")
def division() -> Division:
    return divide(sample_wordings("en-GB"), n_launch=3, test_share=0.2, seed=1)


def told(heard: str, intent: str, **more: object) -> Told:
    base = {"turn_id": "t", "session_id": "s", "text": heard, "goal": Frame(intent, ()), "behaviour": "want"}
    base |= dict.fromkeys(("is_failure", "is_noticed", "would_fail", "is_planted"), False) | {"rephrase_of": None}
    return Told(**{**base, "heard": heard, **more})  # type: ignore[arg-type]


def mined(system: type[Miner], *sessions: Sequence[tuple[str, str | None, float]]) -> Miner:
    """A system that has seen sessions of (text, goal read, friction), each turn said again by the next."""
    miner = system(LAUNCH)
    turns, pairs = [], []
    for number, session in enumerate(sessions):
        for place, (text, goal, friction) in enumerate(session):
            is_last = place == len(session) - 1
            turns.append((f"{number}-{place}", text, f"user-{number}", goal, friction, friction if is_last else 0.0))
            if not is_last:
                pairs.append((f"{number}-{place}", f"{number}-{place + 1}", 1, 0.9 * friction + 0.05))
    miner.turns = pd.DataFrame(turns, columns=["turn_id", "text", "user_id", "goal", "p_friction", "p_gave_up"])
    miner.pairs = pd.DataFrame(pairs, columns=["source", "target", "distance", "p_rephrase"])
    return miner


def labels_of(miner: Miner) -> dict[str, str]:
    return {label.text: label.goal for label in miner.conclude().labels}


def test_pair_counts_copy_what_was_read_of_the_next_turn_even_where_it_failed() -> None:
    sessions = [[("put on a tune", STOP, 0.9), ("a tune please", CALL, 0.9)]] * 2
    assert labels_of(mined(PairCounts, *sessions)) == {"put on a tune": CALL}
    assert labels_of(mined(Marupa, *sessions)) == {}


def test_a_majority_of_people_projects_the_reading_that_worked() -> None:
    right, wrong = (
        [("put on a tune", STOP, 0.9), ("play", PLAY, 0.1)],
        [("put on a tune", STOP, 0.9), ("dial", CALL, 0.1)],
    )
    assert labels_of(mined(Marupa, right, right, wrong)) == {"put on a tune": PLAY}
    assert labels_of(mined(Marupa, right, wrong)) == {}


def test_a_chain_goes_on_to_where_people_end() -> None:
    way = [("put on a tune", STOP, 0.9), ("a tune please", None, 0.9), ("play", PLAY, 0.05)]
    chain = mined(SuccessChain, way, way)
    assert labels_of(chain) == {"put on a tune": PLAY, "a tune please": PLAY}
    assert chain.conclude().rewrites["a tune please"].text == "play"
    assert labels_of(mined(SuccessChain, way)) == {}


def test_self_training_believes_the_newest_reading_it_is_sure_of() -> None:
    system = SelfTraining(LAUNCH)
    row = {"intent": "play", "slots": []}
    rows = [row | {"text": "a tune", "nlu_score": 0.95}, row | {"text": "hum", "nlu_score": 0.5}]
    assert [label.text for label in system.learn(DAY, rows, []).labels] == ["a tune"]
    assert not system.learn(DAY, [row | {"text": "a tune", "nlu_score": 0.4}], []).labels


def test_the_oracle_learns_what_people_mostly_meant_and_nothing_planted() -> None:
    turns = [told("tune", "play"), told("tune", "play"), told("tune", "stop"), told("dog", "stop", is_planted=True)]
    found = Oracle(LAUNCH).learn(DAY, [], turns)
    assert [(label.text, label.goal) for label in found.labels] == [("tune", PLAY)]
    assert found.examples is not None
    assert found.examples[: len(LAUNCH)] == LAUNCH


def test_values_are_learnt_where_they_stand_in_the_words() -> None:
    goal = frame_goal("alarm", [("time", "7 am")])
    found = example_of("wake me at 7 am", goal)
    assert (found.items, found.tagged) == (frozenset({("time", "7 am")}), (Tagged("time", 11, 15),))
    assert example_of("wake me at seven", goal).tagged is None


class Fixed:
    """Reads every sentence as one intent."""

    def __init__(self, intent: str, items: frozenset[Item] = frozenset()) -> None:
        self._reading = Reading(intent, items, 0.9, 1.0)

    def read(self, texts: Sequence[str], contexts: Sequence[str], most: int = 1) -> list[list[Reading]]:
        return [[self._reading]] * len(texts)


def test_errors_are_told_apart_by_what_they_are_of() -> None:
    asked = [Asked("a", Frame("play", ())), Asked("b", Frame("stop", ())), Asked("c", Frame("call", ()))]
    test = Unseen.of(asked, Fixed("play"), {"play": 10.0, "stop": 8.0, "call": 1.0}, with_slots=False)
    scores = nlu_scores(Fixed("call"), test)
    assert scores["error"] == pytest.approx(2 / 3)
    assert scores["error_tail"] == 0.0
    assert scores["error_friction"] == pytest.approx(1 / 2)
    assert scores["regressions_unseen"] == pytest.approx(1 / 3)


def test_exact_frames_need_their_values() -> None:
    time = ("time", "7 am")
    asked = [Asked("a", Frame("alarm", (time,))), Asked("b", Frame("alarm", ()))]
    test = Unseen.of(asked, Fixed("alarm"), {"alarm": 1.0}, with_slots=True)
    scores = nlu_scores(Fixed("alarm", frozenset({time})), test)
    assert (scores["error"], scores["exact"], scores["slot_f1"]) == (0.0, 0.5, pytest.approx(2 / 3))


def test_labels_are_held_against_what_was_meant() -> None:
    meant = Meant(False, {"play", "stop", "call"})
    meant.add([told("tune", "play"), told("tune", "play"), told("tune", "call"), told("quiet", "stop")])
    meant.add([told("tune", "stop", is_planted=True)] * 5)
    scores = meant.label_scores(
        [Label("Tune", PLAY, 0.9), Label("quiet", CALL, 0.9), Label("never said", PLAY)], Fixed("play")
    )
    assert (scores["labels"], scores["precision"], scores["novelty"], scores["yield"]) == (2, 0.5, 0.5, 1.0)
    assert scores["ece"] == pytest.approx(0.4)


def test_what_is_out_of_scope_is_not_to_be_learnt_or_acted_on() -> None:
    meant = Meant(False, {"play", "stop"})
    meant.add([told("tune", "play"), told("fly me", "oos"), told("be my friend", "play"), told("be my friend", "oos")])
    labels = [Label(text, PLAY, 0.9) for text in ("tune", "fly me", "be my friend")]
    scores = meant.label_scores(labels, Fixed("play"))
    assert (scores["out_of_scope_learnt"], scores["precision"]) == (1.0, pytest.approx(2 / 3))
    assert "out_of_scope_learnt" not in Meant(False, {"play"}).label_scores(labels, Fixed("play"))
    launched, beyond = Fixed("play"), [Asked("fly", Frame("oos", ()))]
    test = Unseen.of([Asked("a", Frame("play", ()))], launched, {"play": 1.0}, False, beyond)
    assert nlu_scores(launched, test)["out_of_scope_acted_on"] == 1.0


def test_the_oracle_has_no_intent_for_what_is_out_of_scope() -> None:
    found = Oracle(LAUNCH).learn(DAY, [], [told("tune", "play"), told("fly me", "oos")])
    assert [label.text for label in found.labels] == ["tune"]


def test_regressions_are_turns_that_were_right_and_would_no_longer_be() -> None:
    meant = Meant(False, {"play", "stop", "call"})
    assert np.isnan(meant.regressions(Fixed("play")))
    meant.add(
        [told("tune", "play"), told("tune", "play"), told("quiet", "stop"), told("dial", "call", would_fail=True)]
    )
    meant.add([told("tune", "stop", is_planted=True)] * 5)
    assert meant.regressions(Fixed("play")) == pytest.approx(1 / 3)
    assert meant.regressions(Fixed("call")) == 1.0


def test_rewrites_are_judged_by_the_same_turns_without_them() -> None:
    turns = [
        told("a", "play", would_fail=True),
        told("a", "play", would_fail=True),
        told("a", "play", is_failure=True),
        told("b", "play", is_failure=True),
        told("c", "play", is_failure=True, would_fail=True),
        told("d", "play", is_failure=True, is_planted=True),
    ]
    scores = traffic_scores(turns, ["r1", "r1", "r1", "r2", None, "r2"])
    assert (scores["mended"], scores["broken"], scores["wins"], scores["losses"]) == (2, 2, 1, 1)
    assert scores["defects"] == pytest.approx(3 / 5)


def test_shares_are_of_the_oracles_gain_seed_by_seed() -> None:
    errors = {"oracle": [0.1, 0.2], "none": [0.4, 0.6], "project": [0.1, 0.4]}
    rows = [
        {"system": name, "seed": seed, "cycle": cycle, "error": error if cycle else errors["none"][seed]}
        for name, by_seed in errors.items()
        for seed, error in enumerate(by_seed)
        for cycle in (0, 1)
    ]
    found = summary(pd.DataFrame(rows))
    assert found["none"]["share_error"]["mean"] == 0.0
    assert found["project"]["share_error"]["mean"] == pytest.approx((1.0 + 0.5) / 2)
    assert found["project"]["error"]["low"] < 0.25 < found["project"]["error"]["high"]


@pytest.mark.parametrize("name", loop.PLAIN)
def test_every_plain_system_learns_in_a_small_world(name: str, division: Division, tmp_path: Path) -> None:
    start, *_, end = loop.contest(name, division, WORLD, 1, tmp_path)
    assert (end["cycle"], start["cycle"]) == (2, 0)
    if name == "none":
        assert end["error"] == start["error"]
    else:
        assert end["labels"] > 0
        assert end["examples"] > len(division.launch)
    if name == "oracle":
        assert end["precision"] > 0.98
        assert end["error"] < 0.6 * start["error"]


class Meanings:
    """Knows that a halt is a stop and a tune is played, whatever the letters; of other words it knows nothing."""

    encoder_id = "meanings-1"
    dimension = 3

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        known = (("halt", "stop", "enough"), ("play", "tune"), ("dial", "call"))
        return np.array([[float(any(word in text for word in of)) for of in known] for text in texts], dtype=np.float32)


def test_what_an_encoder_brings_is_learnt_from_words_alone() -> None:
    system = Distilled(LAUNCH, Meanings())
    said = ("a tune", "enough", "xyzzy", "play")
    learnt = system.learn(DAY, [{"text": text} for text in said], [])
    found = {label.text: label.goal for label in learnt.labels}
    assert found["a tune"] == PLAY
    assert found["enough"] == STOP
    assert not {"xyzzy", "play"} & set(found)
    assert learnt.examples is not None
    assert [example.text for example in learnt.examples[: len(LAUNCH)]] == [example.text for example in LAUNCH]


def test_a_system_that_needs_an_encoder_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["loop.py", "--systems", "distilled", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        loop.main()
    assert "distilled needs --encoder" in capsys.readouterr().err


def test_a_run_goes_on_where_it_was(division: Division, tmp_path: Path) -> None:
    whole = list(loop.contest("marupa", division, WORLD, 1, tmp_path))
    (rest,) = loop.contest("marupa", division, WORLD, 1, tmp_path, n_done=2)
    changing = ("seconds", "seconds_learning")
    assert {k: v for k, v in rest.items() if k not in changing} == {
        k: v for k, v in whole[2].items() if k not in changing
    }
    assert not list(loop.contest("marupa", division, WORLD, 1, tmp_path, n_done=3))


def test_the_benchmark_writes_scores_and_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="the plot needs the extra `report`")
    small = "--cycles 1 --seeds 2 --sessions 60 --launch 2 --systems none,oracle --out"
    monkeypatch.setattr(sys, "argv", ["loop.py", *small.split(), str(tmp_path)])
    loop.main()
    figures = json.loads((tmp_path / "scores.json").read_text())["figures"]
    assert figures["systems"]["oracle"]["share_error"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert (tmp_path / "error.png").stat().st_size > 0


def test_unknown_pools_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere"):
        pool_of("nowhere", tmp_path)


DATA = Path(os.environ.get("SELFLEARN_DATA", "../shared/data"))


@pytest.mark.parametrize("name", ["slurp_asr", "xsid:de", "dstc2_turns", "clinc150"])
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the folder of data sets: set SELFLEARN_DATA")
def test_data_sets_are_pools(name: str) -> None:
    wordings = pool_of(name, DATA)
    assert len(wordings) > 300
    has_slots = np.mean([bool(one.goal.slots) for one in wordings])
    assert (has_slots > 0.1) == (name != "clinc150")
    assert bool(wordings[0].heard) == (name in ("slurp_asr", "dstc2_turns"))


def test_the_project_labels_through_the_whole_pipeline(
    spark: SparkSession, division: Division, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(USER_KEY_VARIABLE, "simulated people have no secrets")
    (record,) = loop.contest("project", division, World(n_sessions=200, n_users=60, n_cycles=1), 1, tmp_path, n_done=1)
    assert record["labels"] > 10
    assert record["precision"] > 0.8
    assert record["examples"] >= len(division.launch)


@pytest.mark.parametrize("name", loop.ABLATED)
def test_each_part_can_be_left_out(name: str, tmp_path: Path) -> None:
    whole, less = settings_without(WHOLE, tmp_path), settings_without(PARTS[name], tmp_path)
    is_changed = whole.fingerprint() != less.fingerprint()
    assert is_changed or PARTS[name].skipped or not PARTS[name].is_fitted


def test_launched_sentences_are_read_by_a_real_nlu(division: Division) -> None:
    nlu = ReferenceNLU([example_of(one.text, frame_goal(one.goal.intent, ())) for one in division.launch])
    found = nlu.read([one.text for one in division.launch], [""] * len(division.launch))
    assert np.mean([of[0].intent == one.goal.intent for of, one in zip(found, division.launch, strict=True)]) > 0.9
