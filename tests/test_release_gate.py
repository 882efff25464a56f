"""The gate: a release is published where a loss is ruled out, with either trainer; a broken one publishes nothing."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from release_rows import Row, example
from selflearn.errors import DataError, InfrastructureError, SettingsError
from selflearn.release import Suite, held_out, judge, read_by_each, suites_of
from selflearn.release.gate import bootstrap, compare, is_right
from selflearn.release.trainer import MAX_OF_EACH, Meaning, sampled
from selflearn.settings import Trainer

NOTHING: frozenset[tuple[str, str]] = frozenset()


def suite(n: int, name: str = "golden", is_protected: bool = True) -> Suite:
    return Suite(name, tuple(example(f"s{number}", "play") for number in range(n)), np.ones(n), is_protected)


def readings(n: int, wrong: range = range(0)) -> list[Meaning]:
    return [("stop" if number in wrong else "play", NOTHING) for number in range(n)]


def verdict(n: int, before: range, after: range, is_protected: bool = True) -> tuple[bool, str]:
    one = suite(n, is_protected=is_protected)
    found = judge([one], {"golden": readings(n, before)}, {"golden": readings(n, after)}, 0.02)
    return found.is_passed, found.reason


def test_equal_readings_pass_however_few_they_are() -> None:
    assert verdict(3, range(1), range(1))[0]


def test_a_certain_loss_is_rejected_with_what_was_measured() -> None:
    is_passed, reason = verdict(500, range(10), range(40))
    assert not is_passed
    assert "golden: 0.980 to 0.920 of 500 sentences right" in reason
    assert reason.endswith("is a loss")


def test_a_protected_suite_must_rule_a_loss_out() -> None:
    swapped = (range(4), range(4, 8))
    is_passed, reason = verdict(150, *swapped)
    assert not is_passed
    assert "does not rule out a loss of more than 0.02" in reason
    assert verdict(150, *swapped, is_protected=False)[0]
    assert verdict(2_000, *swapped)[0]


def test_a_certain_loss_is_one_however_small() -> None:
    for is_protected in (True, False):
        is_passed, reason = verdict(2_000, range(0), range(12), is_protected=is_protected)
        assert not is_passed
        assert reason.endswith("is a loss")


def test_few_sentences_that_could_rule_nothing_out_count_by_their_shares() -> None:
    assert verdict(60, range(10), range(1, 13))[0]
    is_passed, reason = verdict(60, range(10), range(1, 14))
    assert not is_passed
    assert "is more than 0.02 and of too few sentences to tell it from chance" in reason


def test_what_is_probably_wrong_may_be_read_otherwise() -> None:
    """Of 1,000 sentences ten may have a wrong meaning: to lose these is no loss, to lose as many more is one."""
    doubtful = replace(suite(1_000), doubt=0.01)
    for n_lost, is_passed in ((10, True), (40, False)):
        readings_of = {"golden": readings(1_000, range(n_lost))}
        found = judge([doubtful], {"golden": readings(1_000)}, readings_of, 0.02)
        assert found.is_passed == is_passed
        assert found.figures["golden.doubt"] == 0.01
    assert "0.010 probably mean something else" in found.reason
    assert not judge(
        [suite(1_000)], {"golden": readings(1_000)}, {"golden": readings(1_000, range(10))}, 0.02
    ).is_passed


def test_a_gain_is_published_and_told() -> None:
    assert verdict(300, range(60), range(20)) == (True, "no suite lost; golden went from 0.800 to 0.933")


def test_nothing_to_compare_on_is_no_pass() -> None:
    found = judge([suite(0)], {"golden": []}, {"golden": []}, 0.02)
    assert not found.is_passed
    assert "no sentence to compare" in found.reason


def test_one_bad_suite_is_enough() -> None:
    two = [suite(400, "good"), suite(400, "bad")]
    found = judge(
        two,
        {"good": readings(400, range(50)), "bad": readings(400)},
        {"good": readings(400), "bad": readings(400, range(50))},
        0.02,
    )
    assert not found.is_passed
    assert found.reason.startswith("bad:")
    assert found.figures["good.challenger"] == 1.0
    assert found.figures["bad.n"] == 400.0


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    p_gain, p_loss, hits = 0.08, 0.05, 0
    for _ in range(80):
        drawn = rng.random(300)
        low, high = bootstrap(np.where(drawn < p_gain, 1.0, np.where(drawn < p_gain + p_loss, -1.0, 0.0)), np.ones(300))
        hits += low <= p_gain - p_loss <= high
    assert hits >= 70


@given(st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(0.1, 10)), min_size=1, max_size=30))
def test_the_interval_lies_among_the_differences_and_turns_with_their_sign(pairs: list[tuple[float, float]]) -> None:
    differences, weights = (np.array(column) for column in zip(*pairs, strict=True))
    low, high = bootstrap(differences, weights)
    assert differences.min() - 1e-9 <= low <= high <= differences.max() + 1e-9
    mirrored = bootstrap(-differences, weights)
    assert mirrored == pytest.approx((-high, -low))


def test_sentences_count_by_their_turns() -> None:
    one = Suite("head", (example("a", "play"), example("b", "play")), np.array([3.0, 1.0]), True)
    found = compare(one, [("play", NOTHING), ("stop", NOTHING)], [("stop", NOTHING), ("play", NOTHING)])
    assert (found.champion, found.challenger) == (0.75, 0.25)


def test_right_is_the_whole_frame_and_the_intent_alone_where_values_are_unknown() -> None:
    row = example("Play Jazz", "play", ("genre", 5, 9))
    assert is_right(row, ("play", frozenset({("genre", "jazz")})))
    assert not is_right(row, ("play", NOTHING))
    assert not is_right(row, ("stop", frozenset({("genre", "jazz")})))
    assert is_right(row | {"is_intent_only": True}, ("play", NOTHING))


def test_suites_protect_what_people_rely_on() -> None:
    head = [
        example(text, "stop") | {"n_turns": n, "p_correct": p} for text, n, p in (("stop", 3.0, 1.0), ("no", 1.0, 0.8))
    ]
    golden = {"smoke": [example("alarm at 7", "alarm_set"), example("halt", "stop")]}
    found = suites_of(head, golden, [example("play")], [example("mined")], ["stop", "never"])
    assert {one.name: (len(one.rows), one.is_protected) for one in found} == {
        "head traffic": (2, True),
        "golden smoke": (2, True),
        "launch set": (1, True),
        "intent stop": (3, True),
        "intent never": (0, True),
        "mined": (1, False),
    }
    assert found[0].weights.tolist() == [3.0, 1.0]
    assert {one.name: round(one.doubt, 3) for one in found if one.doubt} == {"head traffic": 0.05, "intent stop": 0.067}


def test_held_out_sentences_stand_in_no_training_set() -> None:
    rows = [
        example(text) | {"is_held_out": held} for text, held in (("a", True), ("b", True), ("c", False), ("D", True))
    ]
    assert [row["text"] for row in held_out(rows, [[example("B", context="other")], [example("d")]])] == ["a"]


WORDS = {
    "play": ["play {} now", "put on {}", "i want {}"],
    "weather": ["weather in {}", "is it sunny in {}", "will it rain in {}"],
}
VALUES = {"play": ["jazz", "rock", "folk", "soul", "punk"], "weather": ["rome", "oslo", "bonn", "lima", "kyiv"]}


def sentences() -> list[Row]:
    slot = {"play": "genre", "weather": "city"}
    rows = []
    for intent, patterns in WORDS.items():
        for pattern in patterns:
            for value in VALUES[intent]:
                text, start = pattern.format(value), pattern.index("{}")
                rows.append(example(text, intent, (slot[intent], start, start + len(value))))
    return rows


def test_the_reference_nlu_reads_what_it_was_trained_on_and_both_are_told_apart() -> None:
    rows = sentences()
    crossed = [row | {"intent": {"play": "weather", "weather": "play"}[row["intent"]]} for row in rows]
    straight, wrong = read_by_each([rows, crossed], rows, None)
    assert all(is_right(row, read) for row, read in zip(rows, straight, strict=True))
    assert not any(is_right(row, read) for row, read in zip(rows, wrong, strict=True))


@pytest.mark.parametrize("origin", ["launch", "corrected"])
def test_of_many_sentences_some_of_each_intent_are_learnt_the_same_every_time(origin: str) -> None:
    counts = (("a", 4_000), ("b", 3))
    many = [example(f"{intent} {number}", intent, origin=origin) for intent, n in counts for number in range(n)]
    other = [example("of the other kind", "a", origin="corrected" if origin == "launch" else "launch")]
    (kept,) = sampled([[*other, *many]])
    assert len(kept) == MAX_OF_EACH + 1
    assert other[0] in kept
    assert sum(row["intent"] == "b" for row in kept) == 3
    (again,) = sampled([Random(1).sample(many, len(many))])
    assert {row["example_id"] for row in [*again, *other]} == {row["example_id"] for row in kept}
    assert sampled([other]) == [other]


def test_what_two_training_sets_hold_is_shown_to_both_or_to_neither() -> None:
    """Shown as many as it may be of a larger set, a challenger would seem to lose what the champion was shown."""
    champion = [example(str(number), "a", origin="corrected") for number in range(2_000)]
    more = [example(str(number), "a", origin="confirmed") for number in range(2_000, 6_000)]
    relabelled = [row | {"intent": "b", "example_id": f"b {row['text']}", "origin": "confirmed"} for row in champion]
    of_champion, of_challenger = sampled([champion, [*relabelled, *more]])
    both = {row["text"] for row in champion}
    assert {row["text"] for row in of_champion} == {row["text"] for row in of_challenger} & both
    assert len(of_challenger) == MAX_OF_EACH
    assert 0 < len(of_champion) < len(champion)


def test_what_is_asked_is_shown_to_whoever_has_it() -> None:
    """Else what the sample happens to leave out decides which of the two seems to have lost it."""
    champion = [example(str(number), "a", origin="confirmed") for number in range(4_000)]
    challenger = [*champion, *(example(str(number), "a", origin="confirmed") for number in range(4_000, 8_000))]
    asked = [example(str(number), "a") for number in range(3_900, 4_100)]
    for rows, held in zip(sampled([champion, challenger], asked), (asked[:100], asked), strict=True):
        assert {row["text"] for row in held} <= {row["text"] for row in rows}
        assert len(rows) <= MAX_OF_EACH + len(held)


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A trainer of one's own: it remembers sentences, and reads others as nothing."""
    file = tmp_path / "own trainer.py"
    file.write_text(
        textwrap.dedent(
            """
            import json, pathlib, sys
            lines = lambda file: [json.loads(line) for line in pathlib.Path(file).read_text().split("\\n")[:-1]]
            if sys.argv[1] == "train":
                known = {row["text"]: row for row in lines(sys.argv[2])}
                (pathlib.Path(sys.argv[3]) / "known.json").write_text(json.dumps(known))
            else:
                known = json.loads((pathlib.Path(sys.argv[2]) / "known.json").read_text())
                found = [known.get(row["text"], {"intent": "nothing"}) for row in lines(sys.argv[3])]
                pathlib.Path(sys.argv[4]).write_text("".join(json.dumps(row) + "\\n" for row in found))
            """
        ),
        encoding="utf-8",
    )
    return f"{sys.executable} '{file}'"


def own(train: str, predict: str = "true", minutes: float = 1.0) -> Trainer:
    return Trainer(train=train, predict=predict, time_limit_minutes=minutes)


def script(tmp_path: Path, code: str, name: str = "script.py") -> str:
    (tmp_path / name).write_text(code, encoding="utf-8")
    return f"{sys.executable} {tmp_path / name}"


def test_a_trainer_of_ones_own_plugs_in_as_two_commands(program: str) -> None:
    rows = [*sentences(), example("東京 \u2028 [x]", "weather", ("city", 0, 2))]
    asked = [*rows[:3], rows[-1], example("never said")]
    trainer = own(f"{program} train", f"{program} predict")
    first, second = read_by_each([rows, rows[:1]], asked, trainer)
    assert [is_right(row, read) for row, read in zip(asked, first, strict=True)] == [True] * 4 + [False]
    assert second[1] == ("nothing", NOTHING)
    assert read_by_each([rows], [], trainer) == [[]]


def test_a_trainer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"release\.trainer\.train `no-such-program` cannot be run"):
        read_by_each([sentences()], sentences(), own("no-such-program"))


def test_a_trainer_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = script(tmp_path, "import sys; print('no GPU left'); sys.exit(3)")
    with pytest.raises(
        InfrastructureError, match=r"failed with exit code 3; nothing was published; it said:\nno GPU left"
    ):
        read_by_each([sentences()], sentences(), own(command))


def test_a_trainer_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = script(
        tmp_path,
        f"import time, pathlib\nwhile True: pathlib.Path({str(alive)!r}).write_text(str(time.time()))",
        "child.py",
    )
    parent = (
        f"import subprocess, time; print('waiting', flush=True)\nsubprocess.Popen({child.split()}); time.sleep(600)"
    )
    command = script(tmp_path, parent)
    started = time.monotonic()
    with pytest.raises(InfrastructureError, match=r"was not done after 0\.05 minutes and was stopped(.|\n)*waiting"):
        read_by_each([sentences()], sentences(), own(command, minutes=0.05))
    assert time.monotonic() - started < 60
    time.sleep(0.5)
    last = alive.read_text()
    time.sleep(0.5)
    assert alive.read_text() == last


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param(None, "wrote no output.jsonl", id="no file"),
        pytest.param('{"intent": "play"}\n', "wrote 1 lines for 2 sentences", id="too few"),
        pytest.param('{"intent": "play"}\nplay\n', "wrote in line 2: play", id="no JSON"),
        pytest.param('{"intent": "play"}\n{"slots": []}\n', "wrote in line 2", id="no intent"),
        pytest.param('{"intent": 3}\n{"intent": "play"}\n', "wrote in line 1", id="no text"),
        pytest.param(
            '{"intent": "a", "slots": {"x": "y"}}\n{"intent": "a"}\n', "wrote in line 1", id="slots of another shape"
        ),
        pytest.param('[]\n{"intent": "a"}\n', "wrote in line 1", id="no object"),
    ],
)
def test_output_of_another_shape_is_told_by_its_line(tmp_path: Path, written: str | None, told: str) -> None:
    code = "import sys, pathlib\n" + ("" if written is None else f"pathlib.Path(sys.argv[3]).write_text({written!r})")
    with pytest.raises(DataError, match=told):
        read_by_each([sentences()], sentences()[:2], own("true", script(tmp_path, code)))


def test_what_a_trainer_is_given_is_what_the_contract_says(tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    code = (
        "import json, os, pathlib, sys\n"
        "seen = [pathlib.Path(sys.argv[1]).read_text(), os.listdir(sys.argv[2])]\n"
        f"pathlib.Path({str(seen)!r}).write_text(json.dumps(seen))"
    )
    rows = Random(1).sample(sentences(), 5)
    with pytest.raises(DataError, match="wrote no output"):
        read_by_each([rows], rows, own(script(tmp_path, code)))
    lines, model = json.loads(seen.read_text())
    assert model == []
    given_rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["text"] for row in given_rows] == [row["text"] for row in rows]
    assert set(given_rows[0]) == {
        "text",
        "locale",
        "context",
        "intent",
        "slots",
        "is_intent_only",
        "weight",
        "other_intents",
    }
