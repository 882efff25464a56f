"""Labels for people: what each signal votes, how right they are, and why one was given, down to the turns."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from rich.console import Console
from typer.testing import CliRunner

from selflearn.cli import app
from selflearn.errors import DataError
from selflearn.evaluate import evaluate_labels, read_truth_goals
from selflearn.evaluate.weak_labels import vote_summary
from selflearn.report import explain_label, label_tree
from selflearn.settings import Graph

DAY = date(2026, 1, 31)
DAWN = datetime(2026, 1, 31, 5, tzinfo=UTC)
JAZZ = '{"intent":"play","slots":[{"name":"genre","value":"jazz"}]}'
MERGED = '{"intent":"play","slots":[{"name":"genre","value":"jazz"},{"name":"room","value":"hall"}]}'
HALL = '{"intent":"play","slots":[{"name":"genre","value":"jass"},{"name":"room","value":"hall"}]}'
STOP = '{"intent":"stop","slots":[]}'


def votes(**leads: float) -> list[dict[str, Any]]:
    return [{"signal": signal, "lead": lead} for signal, lead in leads.items()]


def label(utterance: str, text: str, goal: str | None, **fields: Any) -> dict[str, Any]:
    return {
        "as_of": DAY,
        "locale": "en-US",
        "utterance_id": utterance,
        "context": "",
        "text": text,
        "goal": goal,
        "intent": json.loads(goal or STOP)["intent"],
        "is_intent_only": goal is None,
        "annotated_utterance": text,
        "p_correct": 0.9,
        "p_correct_lb": 0.6,
        "p_intent": 0.95,
        "p_slots": 0.94 if goal else None,
        "is_new": True,
        "n_turns": 3.0,
        "n_pairs": 1.0,
        "n_users": 3,
        "n_users_behind": 4,
        "n_days": 2,
        "n_edges": 1,
        "votes": votes(nlu=-1.0, outcome=2.0, pair=0.5, variant=0.0),
        "reason": "the NLU reads stop with 0.70",
    } | fields


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lake")

    def write(name: str, rows: list[dict[str, Any]], partition: str = "as_of") -> None:
        write_deltalake(str(folder / name), pd.DataFrame(rows), partition_by=[partition])

    labels = [label("u1", "play jass", JAZZ), label("u2", "stop it", None, is_new=False)]
    write("weak_labels", [*labels, label("u4", "jass in the hall", MERGED)])
    node = {"as_of": DAY, "rank": 1, "posterior": 0.9, "p_nlu": 0.3, "pair_evidence": 2.5, "merge_evidence": 0.0}
    write(
        "graph_nodes",
        [
            node | {"utterance_id": "u1", "text": "play jass", "goal": JAZZ},
            node | {"utterance_id": "u1", "text": "play jass", "goal": STOP, "rank": 2, "posterior": 0.1, "p_nlu": 0.7},
            node | {"utterance_id": "u3", "text": "play some jazz", "goal": JAZZ},
            node | {"utterance_id": "u4", "text": "jass in the hall", "goal": MERGED, "merge_evidence": 1.5},
        ],
    )
    edge = {"as_of": DAY, "source_utterance": "u1", "target_utterance": "u3", "n_pairs": 1.0, "p_rephrase": 0.8}
    write("graph_edges", [edge | {"n_users": 1}])
    write("goal_variants", [{"as_of": DAY, "left_utterance": "u1", "right_utterance": "u3", "p_same_goal": 0.7}])
    turn = {"turn_date": DAY, "response": "stopped", "goal": STOP}
    turns = [("t1", "u1", "play jass", 0), ("t2", "u3", "play some jazz", 9), ("t3", "u1", "play jass", 20)]
    turns.append(("t4", "u4", "jass in the hall", 8))
    said = [
        turn | {"turn_id": name, "utterance_id": of, "text": text, "ts": DAWN + timedelta(minutes=minute)}
        for name, of, text, minute in turns
    ]
    said[1]["goal"], said[3]["goal"] = JAZZ, HALL
    write("turns", said, "turn_date")
    write("turn_outcomes", [{"turn_date": DAY, "turn_id": "t1", "p_friction": 0.9}], "turn_date")
    pair = {"turn_date": DAY, "target_utterance": "u3", "target_turn_id": "t2", "p_rephrase": 0.8, "p_merged": 0.7}
    merged = pair | {"source_utterance": "u4", "source_turn_id": "t4", "merged_goal": MERGED}
    pairs = [pair | {"source_utterance": "u1", "source_turn_id": "t1", "merged_goal": None}, merged]
    write("rephrase_pairs", [*pairs, merged | {"p_rephrase": 0.05}, merged | {"p_merged": 0.0}], "turn_date")
    run = pa.table({"stage": ["label"], "state": ["succeeded"], "started_at": [DAWN]})
    noted = pa.array([[("label_calibration_error", 0.01)]], pa.map_(pa.string(), pa.float64()))
    write_deltalake(str(folder / "runs"), run.append_column("metrics", noted))
    return str(folder)


def printed(shown: Any) -> str:
    console = Console(width=200)
    with console.capture() as found:
        console.print(shown)
    return found.get()


def test_a_label_is_explained_down_to_the_turns(lake: str) -> None:
    explanation = explain_label(lake, "play jass", Graph())[0]
    assert [row["goal"] for row in explanation.goals] == [JAZZ, STOP]
    assert [turn["turn_id"] for turn in explanation.turns] == ["t3", "t1"]
    shown = printed(label_tree(explanation))
    for told in (
        "play (genre jazz)",
        "right with 0.90 (at least 0.60)",
        "the NLU reads stop with 0.70",
        "3 people on 2 days, 4 behind the goal",
        "outcome: for it, +2.00",
        "nlu: against it, -1.00",
        "variant: none",
        "0.10 stop, the NLU 0.70",
        "1.0 times as 'play some jazz', play (genre jazz)",
        "t1: 'play jass' read as stop, failed with 0.90 -> 'stopped'",
        "one goal with 0.70: 'play some jazz'",
    ):
        assert told in shown
    alone = label_tree(explain_label(lake, "stop it", Graph())[0])
    assert "stop, the intent alone" in printed(alone)


def test_a_goal_that_two_readings_make_together_is_explained_by_both_turns(lake: str) -> None:
    (explanation,) = explain_label(lake, "jass in the hall", Graph())
    shown = printed(label_tree(explanation))
    for told in (
        "merged of two readings in pairs of turns: 1; +1.50 of the +2.50 log evidence of pairs for it",
        "room hall kept of the first, genre jazz of the second; p_rephrase 0.80, then meant with 0.70",
        "t4: 'jass in the hall' read as play (genre jass, room hall)",
        "t2: 'play some jazz' read as play (genre jazz)",
    ):
        assert told in shown
    assert "merged" not in printed(label_tree(explain_label(lake, "play jass", Graph())[0]))


def test_words_without_a_label_are_refused(lake: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no label of 'sing'"):
        explain_label(lake, "sing", Graph())
    with pytest.raises(DataError, match="holds no graph"):
        explain_label(str(tmp_path), "sing", Graph())
    with pytest.raises(DataError, match="has no table weak_labels"):
        evaluate_labels(str(tmp_path))


def test_votes_are_counted_as_coverage_overlap_and_conflict() -> None:
    found = vote_summary([votes(a=1.0, b=-2.0, c=0.0), votes(a=3.0, b=0.0, c=0.0), votes(a=0.5, b=0.1, c=-1.0), []])
    assert found.set_index("signal").to_dict("index") == {
        "a": {"coverage": 0.75, "overlap": 0.5, "conflict": 0.5, "for": 0.75, "against": 0.0},
        "b": {"coverage": 0.5, "overlap": 0.5, "conflict": 0.5, "for": 0.25, "against": 0.25},
        "c": {"coverage": 0.25, "overlap": 0.25, "conflict": 0.25, "for": 0.0, "against": 0.25},
    }


def test_labels_are_scored_by_what_they_say(lake: str, tmp_path: Path) -> None:
    meant = {"t1": JAZZ, "t3": STOP}
    rows = [json.dumps({"turn_id": name, **json.loads(goal)}) for name, goal in meant.items()]
    (tmp_path / "truth.jsonl").write_text("\n".join(rows) + "\n")
    for path in (tmp_path, tmp_path / "truth.jsonl"):
        scores = evaluate_labels(lake, read_truth_goals(path)).scores
        assert scores is not None
        assert (scores.n, scores.precision, scores.deployed_precision, scores.n_differing) == (2, 0.5, 0.5, 2)
        assert scores.calibration_error == pytest.approx(0.4)
    unknown = pd.DataFrame({"turn_id": ["nobody's"], "goal": [JAZZ]})
    with pytest.raises(DataError, match="no labelled turn"):
        evaluate_labels(lake, unknown)


@pytest.mark.parametrize("content", ["{", '{"turn_id": "a"}', '{"turn_id": "a", "intent": "x", "slots": [1]}', ""])
def test_a_truth_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "truth.jsonl").write_text(content)
    with pytest.raises(DataError, match="truth"):
        read_truth_goals(tmp_path)


def test_both_commands_say_what_they_found(lake: str, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"lake: {lake}\nsource: {{path: logs}}\n")
    explained = CliRunner().invoke(app, ["explain", "label", "play jass", "--settings", str(settings)])
    assert explained.exit_code == 0, explained.output
    assert "votes, by how much log evidence" in explained.stdout
    evaluated = CliRunner().invoke(app, ["evaluate", "labels", "--settings", str(settings)])
    assert evaluated.exit_code == 0, evaluated.output
    assert "3 labels as of 2026-01-31: 2 new, 1 of their intent" in evaluated.stdout
    assert "label_calibration_error" in evaluated.stdout
