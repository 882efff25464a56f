"""What a person reads in the terminal at the end of a run."""

from __future__ import annotations

import json
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from deltalake import write_deltalake
from rich.console import Console
from rich.table import Table

from selflearn.detect import PAIR_SIGNALS
from selflearn.report import mined_table, sample_labels_table

DAY = date(2026, 1, 5)


def shown(table: Table) -> str:
    console = Console(file=StringIO(), width=80, color_system=None)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def goal(intent: str, **slots: str) -> str:
    return json.dumps({"intent": intent, "slots": [{"name": name, "value": value} for name, value in slots.items()]})


def label(utterance: str, **fields: Any) -> dict[str, Any]:
    return {
        "as_of": DAY,
        "utterance_id": utterance,
        "locale": "en-GB",
        "context": "",
        "text": f"text of {utterance}",
        "goal": goal("alarm", time="7 am"),
        "nlu_goal": goal("reminder"),
        "p_correct": 0.9,
        "n_users_behind": 3,
        "is_new": True,
        "reason": f"the reason for {utterance}",
    } | fields


def write_labels(lake: Path, *labels: dict[str, Any]) -> str:
    write_deltalake(str(lake / "weak_labels"), pd.DataFrame(labels))
    return str(lake)


def test_a_label_says_what_was_heard_read_and_meant_and_why(tmp_path: Path) -> None:
    lake = write_labels(tmp_path, label("a"), label("b", is_new=False), label("c", nlu_goal=None, context="ask:time"))
    text = shown(sample_labels_table(lake, DAY))
    assert "2 new labels" in text
    for part in (
        "text of a",
        "reminder()",
        "alarm(time=7 am) with 0.90",
        "the reason for a",
        "after ask:time",
        "nothing",
    ):
        assert part in text
    assert "text of b" not in text


def test_sample_labels_are_spread_over_the_locales(tmp_path: Path) -> None:
    many = [label(f"en{k}", n_users_behind=100 - k) for k in range(20)]
    lake = write_labels(tmp_path, *many, label("deutsch", locale="de-DE", n_users_behind=2))
    text = shown(sample_labels_table(lake, DAY, 3))
    assert [part in text for part in ("text of en0", "text of en1", "text of deutsch", "text of en2")] == [1, 1, 1, 0]


def test_what_was_mined_is_counted_over_the_days_asked_for(tmp_path: Path) -> None:
    turns = [(DAY, f"user {k % 2}", f"s{k % 3}", f"u{k}", "en-GB") for k in range(6)]
    turns.append((date(2026, 1, 6), "user 9", "s9", "u9", "de-DE"))
    columns = ["turn_date", "user_id", "session_id", "utterance_id", "locale"]
    write_deltalake(str(tmp_path / "turns"), pd.DataFrame(turns, columns=columns))
    bad = pd.DataFrame({"turn_date": [DAY] * 3, "reason": ["empty_text", "empty_text", "future_time"]})
    write_deltalake(str(tmp_path / "quarantine"), bad)
    unknown = "0" * len(PAIR_SIGNALS)
    pairs = pd.DataFrame({"turn_date": [DAY] * 4, "pattern": [unknown] * 4, "p_rephrase": [0.2, 0.5, 0.9, 0.4]})
    write_deltalake(str(tmp_path / "rephrase_pairs"), pairs)
    outcomes = pd.DataFrame({"turn_date": [DAY] * 3, "p_failed": [0.5, 0.5, 0.0], "p_gave_up": [0.1, 0.0, 0.9]})
    write_deltalake(str(tmp_path / "turn_outcomes"), outcomes)
    text = shown(mined_table(write_labels(tmp_path, label("a"), label("b", is_new=False)), [DAY]))
    lines = {line.split("  ")[0].strip(): " ".join(line.split()) for line in text.splitlines()}
    assert "turns 6 3 sessions, 2 people" in lines["turns"]
    assert "quarantined rows 3 empty_text 2, future_time 1" in lines["quarantined rows"]
    assert "distinct utterances 6 in 1 locales" in lines["distinct utterances"]
    assert "expected failures 2 1 of them said again" in lines["expected failures"]
    assert "rephrase pairs 2 p_rephrase of 0.5 or more: rephrase 2" in lines["rephrase pairs"]
    assert "other pairs 2 topic switch 2" in lines["other pairs"]
    assert "weak labels 2 1 new" in lines["weak labels"]
