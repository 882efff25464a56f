"""Formats give back what they were given, through each format's own reader; what one cannot carry is refused."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from release_rows import Row, example
from selflearn.release.card import Made, card
from selflearn.release.export import _delta
from selflearn.release.formats.huggingface import write_huggingface
from selflearn.release.formats.massive import read_massive, write_massive
from selflearn.release.formats.rasa import VERSION, read_rasa, write_rasa
from selflearn.release.training_set import EXAMPLE

CARRIED = ("example_id", "split", "locale", "context", "text", "intent", "slots", "is_intent_only", "weight", "origin")
NASTY = st.text(
    st.sampled_from(list("ab 1[](){}:|\"'\\#&*!%@`,?>-~=\t\n\r\x85\u2028\ufeff\u200f\u202eאב東é😀")), max_size=12
)
NAMES = st.text(st.sampled_from(list("ab_:.)]}\"' /東")), min_size=1, max_size=5)


@st.composite
def examples(draw: st.DrawFn) -> list[Row]:
    rows = []
    for number in range(draw(st.integers(1, 4))):
        pieces = draw(st.lists(st.tuples(NASTY, NAMES, st.booleans()), min_size=1, max_size=4))
        text, spans = "", []
        for piece, name, is_slot in pieces:
            if is_slot and piece:
                spans.append((name, len(text), len(text) + len(piece)))
            text += piece
        fields = {
            "locale": draw(st.sampled_from(["en-GB", "he-IL"])),
            "context": draw(NASTY),
            "example_id": f"e{number}",
        }
        split = draw(st.sampled_from(["train", "validation", "test"]))
        rows.append(example(text, draw(NAMES), *spans, split=split, weight=draw(st.floats(0.01, 1)), **fields))
    return rows


def in_folder(
    rows: Sequence[Row], write: Callable[[Sequence[Row], Path], list[Row]], read: Callable[[Path], list[Row]]
) -> None:
    """What was not refused comes back, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        refused = {row["example_id"] for row in write(rows, Path(folder))}
        found = {row["example_id"]: row for row in read(Path(folder))}
    expected = {row["example_id"]: row for row in rows if row["example_id"] not in refused}
    assert found.keys() == expected.keys()
    for name, row in expected.items():
        assert {field: found[name][field] for field in CARRIED} == {field: row[field] for field in CARRIED}


def massive_lines(folder: Path) -> list[Row]:
    # Only a line feed ends a line of JSON lines.
    texts = [file.read_bytes().decode() for file in folder.glob("*.jsonl")]
    return [read_massive(line) for text in texts for line in text.split("\n")[:-1]]


def rasa_examples(folder: Path) -> list[Row]:
    """By the letter of Rasa's `nlu.yml` schema and its reader: text and metadata of each example."""
    found = []
    for file in folder.glob("*/*.yml"):
        content = yaml.safe_load(file.read_bytes().decode())
        assert list(content) == ["version", "nlu"]
        assert content["version"] == VERSION
        for block in content["nlu"]:
            assert set(block) == {"intent", "examples"}
            for one in block["examples"]:
                assert set(one) == {"text", "metadata"}
                assert "/" not in block["intent"]
                assert block["intent"] == block["intent"].strip()
                read = read_rasa(one["text"])
                assert read is not None
                text, slots = read
                fields = {"locale": file.parent.name, "split": file.stem, "intent": block["intent"]}
                found.append(fields | {"text": text, "slots": slots} | one["metadata"])
    return found


def delta_rows(folder: Path) -> list[Row]:
    rows: list[Row] = DeltaTable(str(folder)).to_pyarrow_table().to_pylist()
    return rows


@settings(max_examples=60)
@given(examples())
def test_massive_gives_back_what_it_does_not_refuse(rows: list[Row]) -> None:
    in_folder(rows, write_massive, massive_lines)


@settings(max_examples=60)
@given(examples())
def test_rasa_gives_back_what_it_does_not_refuse(rows: list[Row]) -> None:
    in_folder(rows, write_rasa, rasa_examples)


@pytest.mark.parametrize("write", [write_massive, write_rasa])
def test_plain_sentences_of_any_script_are_never_refused(
    write: Callable[[Sequence[Row], Path], list[Row]], tmp_path: Path
) -> None:
    rows = [
        example('say "no" | yes: #1, don\'t', "say", ("what", 5, 7)),
        example("no", "deny"),
        example("null", "0o17", ("n", 0, 4)),
        example("明日東京の天気は", "weather", ("city", 2, 4)),
        example("מוזיקה בתל אביב", "play", ("city", 8, 15)),
        example("two\nlines", "say"),
    ]
    assert write(rows, tmp_path) == []


def test_what_the_brackets_would_hide_is_refused_and_counted(tmp_path: Path) -> None:
    rows = [
        example("play [live] jazz", "play", ("genre", 12, 16)),
        example("play [x : y]"),
        example("play [it](now)"),
        example("play a]b", "play", ("title", 5, 8)),
        example("play [a][b]"),
        example("play [a]{b}"),
        example("play jazz", "play", ("genre", 5, 9)),
    ]
    folders = [tmp_path / name for name in ("massive", "rasa")]
    for folder in folders:
        folder.mkdir()
    refused = [
        [row["text"] for row in write(rows, folder)]
        for write, folder in zip((write_massive, write_rasa), folders, strict=True)
    ]
    assert refused == [["play [x : y]", "play a]b"], ["play [it](now)", "play a]b", "play [a][b]", "play [a]{b}"]]


def test_massive_reads_as_its_own_script_reads_it(tmp_path: Path) -> None:
    """Tokens and labels as MASSIVE's `create_hf_dataset.py` takes them from `annot_utt`, left to right."""
    row = example("wake me at seven am on friday", "alarm_set", ("time", 11, 19), ("date", 23, 29), split="validation")
    assert write_massive([row], tmp_path) == []
    (line,) = (tmp_path / "en-GB.jsonl").read_text(encoding="utf-8").splitlines()
    fields = json.loads(line)
    assert {"id", "locale", "partition", "scenario", "intent", "utt", "annot_utt", "worker_id"} <= set(fields)
    assert (fields["partition"], fields["scenario"]) == ("dev", "alarm")
    assert fields["annot_utt"] == "wake me at [time : seven am] on [date : friday]"
    label, labels = "Other", []
    chunks = iter(fields["annot_utt"].split())
    for chunk in chunks:
        if chunk.startswith("["):
            label = chunk.lstrip("[")
            next(chunks)
            continue
        labels.append(label)
        label = "Other" if chunk.endswith("]") else label
    assert list(zip(fields["utt"].split(), labels, strict=True)) == [
        ("wake", "Other"), ("me", "Other"), ("at", "Other"), ("seven", "time"), ("am", "time"), ("on", "Other"),
        ("friday", "date"),
    ]  # fmt: skip


@settings(max_examples=8)
@given(examples())
def test_delta_gives_back_everything(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert _delta(rows, Path(folder), "card") == []
        found = {row["example_id"]: row for row in delta_rows(Path(folder))}
    assert found == {row["example_id"]: row for row in rows}


def nasty_rows() -> list[Row]:
    texts = ['a "b"\n[c] : d', "שלום\u202e", "x\u2028y", "|", ""]
    splits = ["train", "train", "train", "validation", "test"]
    return [example(text, "no", split=split, locale="he-IL") for text, split in zip(texts, splits, strict=True)]


def test_hugging_face_reads_every_row_and_the_card(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs `datasets`, of the extra `dev`")
    rows = nasty_rows()
    folder = tmp_path / "set"
    folder.mkdir()
    assert write_huggingface(rows, folder, "# The card\n") == []
    found = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(found[split]) for split in found} == {"train": 3, "validation": 1, "test": 1}
    read = [dict(row) for split in found for row in found[split]]
    assert [{name: row[name] for name in EXAMPLE} for row in read] == rows
    _, front, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    settings: dict[str, Any] = yaml.safe_load(front)
    assert settings["language"] == ["he"]
    assert settings["size_categories"] == ["n<1K"]
    assert body.strip() == "# The card"


def test_a_split_without_rows_has_no_file(tmp_path: Path) -> None:
    write_huggingface([example("a")], tmp_path, "card")
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["train.parquet"]
    front = yaml.safe_load((tmp_path / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert [one["split"] for one in front["configs"][0]["data_files"]] == ["train"]


def test_the_card_names_what_it_counts() -> None:
    from datetime import date

    from selflearn.release import Comparison, Verdict, find_issues

    rows = [example("a"), example("b", "stop", origin="corrected", weight=0.9, split="test")]
    verdict = Verdict(True, "fine", (Comparison("golden a|b", 12, True, 0.5, 0.75, 0.1, 0.4),))
    made = Made("2026-01-11-abc", date(2026, 1, 11), "0123", None, {"vetoed": 2})
    text = card(made, rows, find_issues(rows, {}), verdict)
    for told in (
        "# Training set 2026-01-11-abc",
        "| train | 1 | 0 | 0 | 0 |",
        "| test | 0 | 1 | 0 | 0 |",
        "| golden a\\|b | 12 | 0.500 | 0.750 | +0.100 to +0.400 |",
        "the launch set alone",
        "Left out: 2 vetoed.",
    ):
        assert told in text
