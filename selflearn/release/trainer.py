"""Trainers: what makes an NLU of a training set, and reads sentences with it.

The reference NLU serves where the settings name no trainer. A trainer of one's own is two commands, run without a
shell in a scratch folder, each within a time limit:

`TRAIN.. TRAIN.jsonl MODEL_DIR` learns. A line of TRAIN.jsonl has `text, locale, context, intent, slots` (a list of
`name, value, start, end`), `is_intent_only`, `weight`, the probability that it is right, and `other_intents`, what else
it may be (a list of `intent, weight`); MODEL_DIR is an empty folder for whatever it likes.

`PREDICT.. MODEL_DIR INPUT.jsonl OUTPUT.jsonl` reads. A line of INPUT.jsonl has `text, locale, context`; the same line
of OUTPUT.jsonl must have `intent` and may have `slots`, a list of `name, value`.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from selflearn.errors import DataError, InfrastructureError, SettingsError
from selflearn.release.rows import Row, digest, sentence_of
from selflearn.settings import Trainer

Meaning = tuple[str, frozenset[tuple[str, str]]]
"""Intent, and slots with their case-folded values."""

MAX_OF_EACH = 3_000
"""Launch sentences, and mined ones, that the reference NLU learns from, of all intents alike. More would take
longer and tell little more."""

_LEARNT = ("text", "locale", "context", "intent", "slots", "is_intent_only", "weight", "other_intents")
_READ = ("text", "locale", "context")
_SHOWN_CHARACTERS = 400


def read_by_each(
    trainings: Sequence[Sequence[Row]], asked: Sequence[Row], trainer: Trainer | None
) -> list[list[Meaning]]:
    """What an NLU trained on each training set reads each sentence as.

    Args:
        trainings: rows of `training_set.EXAMPLE`.
        asked: `text, locale, context`, and anything else.
        trainer: None for the reference NLU.

    Raises:
        SettingsError: a command is not to be found.
        InfrastructureError: a command failed, or took too long.
        DataError: its output is not what was asked for.
    """
    if trainer is not None:
        return [read_by_command(trainer, rows, asked) for rows in trainings]
    shown = sampled(trainings, asked)
    if len(shown) == 1:
        return [read_by_reference(shown[0], asked)]
    with ProcessPoolExecutor(len(shown), get_context("spawn")) as pool:
        return list(pool.map(read_by_reference, shown, [asked] * len(shown)))


def read_by_reference(rows: Sequence[Row], asked: Sequence[Row]) -> list[Meaning]:
    """What the reference NLU reads the sentences as. Labels count alike: weighing them did not help it."""
    # Takes seconds to import, and who only reads a release needs none of it.
    from selflearn.nlu import ReferenceNLU, examples_of

    nlu = ReferenceNLU(examples_of(row | {"weight": 1.0} for row in rows))
    readings = nlu.read([row["text"] for row in asked], [row["context"] for row in asked])
    return [(first.intent, first.items) for first, *_ in readings]


def sampled(trainings: Sequence[Sequence[Row]], asked: Sequence[Row] = ()) -> list[list[Row]]:
    """Of each training set the rows of `MAX_OF_EACH` launch sentences and as many mined ones, and those that are asked.

    They are the same of all: a sentence that two training sets hold is shown to both or to neither, lest one seems to
    have lost what it was not shown. A sentence that is asked is shown to whoever has it: an NLU that learns the whole
    training set knows it, and would be thought to lose it by the chance of the sample.
    """
    shown = {origin: _of_all_intents(_sentences(trainings, origin)) for origin in (True, False)}
    known = {sentence_of(row) for row in asked}
    return [
        [row for row in rows if row["utterance_id"] in shown[_is_launch(row)] or sentence_of(row) in known]
        for rows in trainings
    ]


def _is_launch(row: Row) -> bool:
    return bool(row["origin"] == "launch")


def _sentences(trainings: Sequence[Sequence[Row]], is_launch: bool) -> list[Row]:
    """One row of each sentence, that of the last training set which holds it."""
    return list(
        {row["utterance_id"]: row for rows in trainings for row in rows if _is_launch(row) == is_launch}.values()
    )


def _of_all_intents(rows: Sequence[Row]) -> frozenset[str]:
    ordered = sorted(rows, key=lambda row: digest(row["utterance_id"]))
    taken: Counter[tuple[str, str]] = Counter()
    turns = []
    for row in ordered:
        group = row["locale"], row["intent"]
        turns.append(taken[group])
        taken[group] += 1
    by_turn = sorted(zip(turns, ordered, strict=True), key=lambda pair: pair[0])
    return frozenset(row["utterance_id"] for _, row in by_turn[:MAX_OF_EACH])


def read_by_command(trainer: Trainer, rows: Sequence[Row], asked: Sequence[Row]) -> list[Meaning]:
    """What the user's own trainer makes of the rows reads the sentences as; see the module for what it is given."""
    with tempfile.TemporaryDirectory(prefix="selflearn-trainer-") as scratch:
        folder = Path(scratch)
        model, output = folder / "model", folder / "output.jsonl"
        model.mkdir()
        _write(folder / "train.jsonl", rows, _LEARNT)
        _write(folder / "input.jsonl", asked, _READ)
        seconds = trainer.time_limit_minutes * 60
        _run("trainer.train", trainer.train, [folder / "train.jsonl", model], folder, seconds)
        _run("trainer.predict", trainer.predict, [model, folder / "input.jsonl", output], folder, seconds)
        return _meanings(output, len(asked), trainer.predict)


def _write(file: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({name: row[name] for name in columns}, ensure_ascii=False) + "\n" for row in rows)


def _run(name: str, command: str, arguments: Sequence[Path], folder: Path, seconds: float) -> None:
    told = folder / f"{name}.log"
    with told.open("wb") as log:
        try:
            process = subprocess.Popen(
                [*shlex.split(command), *map(str, arguments)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise SettingsError(
                f"release.{name} `{command}` cannot be run: {error.strerror}", "give the whole path of the program"
            ) from None
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise InfrastructureError(
                f"release.{name} `{command}` was not done after {seconds / 60:g} minutes and was stopped; "
                f"nothing was published{_last_words(told)}",
                "mend what it waits for, or raise release.trainer.time_limit_minutes",
            ) from None
        finally:
            # What the command started ends with it, whatever ended it.
            _end(process)
    if status:
        raise InfrastructureError(
            f"release.{name} `{command}` failed with exit code {status}; nothing was published{_last_words(told)}",
            "mend it, then run the stage release again",
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        process.wait()


def _last_words(told: Path) -> str:
    said = told.read_text(encoding="utf-8", errors="replace").strip()[-_SHOWN_CHARACTERS:]
    return f"; it said:\n{said}" if said else ""


def _meanings(output: Path, n_asked: int, command: str) -> list[Meaning]:
    if not output.exists():
        raise DataError(
            f"release.trainer.predict `{command}` wrote no {output.name}", "let it write the file it is given"
        )
    # Only a line feed ends a line: JSON strings may hold other breaks as they are.
    with output.open(encoding="utf-8", errors="replace", newline="\n") as file:
        lines = file.readlines()
    if len(lines) != n_asked:
        raise DataError(
            f"release.trainer.predict `{command}` wrote {len(lines)} lines for {n_asked} sentences",
            "let it write one line for each sentence, in their order",
        )
    return [_meaning(line, number, command) for number, line in enumerate(lines, start=1)]


def _meaning(line: str, number: int, command: str) -> Meaning:
    try:
        row: Any = json.loads(line)
        slots = [(slot["name"], slot["value"]) for slot in row.get("slots") or ()]
        if not all(isinstance(part, str) for part in (row["intent"], *(part for slot in slots for part in slot))):
            raise TypeError
        return row["intent"], frozenset((name, value.casefold()) for name, value in slots)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DataError(
            f"release.trainer.predict `{command}` wrote in line {number}: {line:.200}",
            'write {"intent": "..", "slots": [{"name": "..", "value": ".."}]}',
        ) from None
