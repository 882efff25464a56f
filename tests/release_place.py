"""A lake in which labels can be said and released, for tests."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from selflearn.lakehouse import tables
from selflearn.lakehouse.manifest import Manifest
from selflearn.lakehouse.schema import DOUBLE, Table
from selflearn.lakehouse.store import CommitLabel, Lakehouse
from selflearn.pipeline import STAGES, run_stage
from selflearn.pipeline.run import run_pipeline
from selflearn.release import read_releases
from selflearn.settings import Release, Settings, Source, Trainer

DAY = date(2025, 1, 5)
_PATIENCE_SECONDS = 300
LABEL = CommitLabel("run", "fingerprint")
Row = dict[str, Any]

# Reads everything as the intent that most examples have: quick, and easily led astray.
MAJORITY = """
import collections, json, pathlib, sys
lines = lambda file: [json.loads(line) for line in pathlib.Path(file).read_text().splitlines()]
if sys.argv[1] == "train":
    counts = collections.Counter(row["intent"] for row in lines(sys.argv[2]))
    (pathlib.Path(sys.argv[3]) / "intent").write_text(counts.most_common()[0][0])
else:
    intent = (pathlib.Path(sys.argv[2]) / "intent").read_text()
    pathlib.Path(sys.argv[4]).write_text("".join(json.dumps({"intent": intent}) + "\\n" for _ in lines(sys.argv[3])))
"""

# Does what it is given once a file is there, and says before that it has begun.
WAITING = """
import os, pathlib, runpy, sys, time
opened = pathlib.Path(sys.argv[1])
(opened.parent / f"{opened.name} {os.getpid()}").touch()
while not opened.exists():
    time.sleep(0.02)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Place:
    """A lake with labels and evidence, and settings for it."""

    lake: Lakehouse
    settings: Settings
    folder: Path

    def release(self, **changes: Any) -> Manifest:
        """Run the stage with some of the release settings changed."""
        section = self.settings.release.model_copy(update=changes)
        settings = self.settings.model_copy(update={"release": section})
        return run_stage(STAGES["release"], self.lake, settings, [DAY])

    def run(self, **changes: Any) -> Manifest:
        """The same as a run of the pipeline, which takes the lease."""
        section = self.settings.release.model_copy(update=changes)
        settings = self.settings.model_copy(update={"release": section})
        ((manifest, _),) = run_pipeline(self.lake, settings, [DAY], [STAGES["release"]])
        return manifest

    def waiting(self) -> Trainer:
        """The trainer, which waits for `gate` to be there."""
        waiting = self.folder / "waiting.py"
        waiting.write_text(textwrap.dedent(WAITING), encoding="utf-8")
        trainer = self.settings.release.trainer
        assert trainer is not None
        train = trainer.train.replace(sys.executable, f"{sys.executable} {waiting} {self.gate}", 1)
        return trainer.model_copy(update={"train": train})

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    @contextmanager
    def held(self, n_trainers: int) -> Iterator[None]:
        """While so many trainers wait, which they do before that; they go on afterwards."""
        ends = time.monotonic() + _PATIENCE_SECONDS
        try:
            while len(list(self.folder.glob("gate *"))) < n_trainers:
                assert time.monotonic() < ends, f"fewer than {n_trainers} trainers were begun"
                time.sleep(0.02)
            yield
        finally:
            self.gate.touch()

    def states(self) -> list[str]:
        return read_releases(self.lake.root)["state"].tolist()

    def write(self, table: Table, rows: Sequence[Row], **partition: Any) -> None:
        names = table.schema.fieldNames()
        frame = self.lake.spark.createDataFrame([tuple(row[name] for name in names) for row in rows], table.schema)
        self.lake.replace(table, frame, LABEL, **partition)

    def label(self, texts: Sequence[str], intent: str, is_new: bool = True) -> list[Row]:
        return [
            {
                "as_of": DAY,
                "locale": "en-GB",
                "utterance_id": f"id of {text}",
                "context": "",
                "text": text,
                "goal": json.dumps({"intent": intent, "slots": []}),
                "intent": intent,
                "slots": [],
                "is_intent_only": False,
                "annotated_utterance": text,
                "p_correct": 0.9,
                "p_correct_lb": 0.7,
                "p_intent": 0.9,
                "p_slots": 0.9,
                "votes": [],
                "n_days": 1,
                "n_edges": 1,
                "nlu_goal": None,
                "is_new": is_new,
                "n_turns": 5.0,
                "n_pairs": 1.0,
                "n_users": 2,
                "n_users_behind": 2,
                "friction": 0.5,
                "reason": "people",
            }
            for text in texts
        ]

    def say(self, labels: Sequence[Row], users: Sequence[int] = (1, 2)) -> None:
        """Put labels, and who said their words, in the place of what is there."""
        self.write(tables.WEAK_LABELS, labels, as_of=[DAY])
        rows = [
            dict.fromkeys(tables.EVIDENCE.schema.fieldNames(), 0.0)
            | {
                "turn_date": DAY,
                "kind": "utterance",
                "locale": "en-GB",
                "target": "",
                "context": "",
                "text": row["text"],
            }
            | {"source_utterance": row["utterance_id"], "users": list(users)}
            for row in labels
        ]
        self.write(tables.EVIDENCE, rows, turn_date=[DAY])

    def lean(self, texts: Sequence[str], intent: str, posterior: float) -> None:
        """Put what utterances, two people behind each, may mean in the place of what is there."""
        nothing = dict.fromkeys((field.name for field in tables.GRAPH_NODES.schema if field.dataType == DOUBLE), 0.0)
        about = {"as_of": DAY, "locale": "en-GB", "context": "", "rank": 1, "n_users": 2, "n_users_behind": 2}
        goal = json.dumps({"intent": intent, "slots": []})
        of_goal = {"goal": goal, "posterior": posterior, "posterior_without_one": posterior}
        rows = [nothing | about | of_goal | {"utterance_id": f"id of {text}", "text": text} for text in texts]
        self.write(tables.GRAPH_NODES, rows, as_of=[DAY])


def sentences(file: Path, rows: Sequence[tuple[str, str]]) -> Source:
    lines = [json.dumps({"text": text, "locale": "en-GB", "intent": intent, "slots": []}) for text, intent in rows]
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return Source(path=str(file))


def make_place(spark: SparkSession, tmp_path: Path) -> Place:
    """A lake below the folder, with a launch set of two intents, a golden set, and a quick trainer."""
    lake = Lakehouse(spark, str(tmp_path / "lake"))
    lake.create(tables.GRAPH_NODES)
    program = tmp_path / "majority.py"
    program.write_text(textwrap.dedent(MAJORITY), encoding="utf-8")
    command = f"{sys.executable} {program}"
    launch = [*((f"play song {number}", "play") for number in range(30)), *((f"stop {n}", "stop") for n in range(10))]
    release = Release(
        golden={"smoke": sentences(tmp_path / "golden.jsonl", [(f"put on record {n}", "play") for n in range(20)])},
        trainer=Trainer(train=f"{command} train", predict=f"{command} predict"),
        confirmed_share=10,
    )
    settings = Settings(
        lake=lake.root,
        source=Source(path="unused"),
        launch=sentences(tmp_path / "launch.jsonl", launch),
        release=release,
    )
    return Place(lake, settings, tmp_path)


@contextmanager
def nothing_published(place: Place) -> Iterator[None]:
    """Both tables stay as they are."""

    def written() -> list[Any]:
        names = (tables.TRAINING_SETS, tables.RELEASES)
        return [place.lake.version(table) for table in names]

    before = written()
    yield
    assert written() == before
