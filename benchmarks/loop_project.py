"""The project in the contest: the real pipeline, day by day on a lake of its own, whole or without one of its parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from loop_systems import Label, Learnt, Row
from selflearn import load_training_set
from selflearn.errors import DataError
from selflearn.graph import FittedWeights, PoolWeights
from selflearn.lakehouse.store import Lakehouse
from selflearn.nlu import Example, examples_of
from selflearn.pipeline import LEARNING, MINING, run_pipeline
from selflearn.settings import Settings, parse_settings
from selflearn.simulate.deployment import Rewrite, Told
from selflearn.turns import normalise_text
from selflearn.turns.mapping import TURN

_LOG_SCHEMA = ", ".join(f"{one.name} {one.dataType.simpleString()}" for one in TURN.json_columns)
"""Where an expression is given the columns would be inferred, and the type of what is always empty cannot be."""


@dataclass(frozen=True)
class Part:
    """What the project is without: changes of its settings, stages that are not run, weights that are not fitted."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    is_fitted: bool = True


WHOLE = Part()
PARTS = {
    "context": Part({"source": {"columns": {"prompt": "''", "response": "''", "context": "''"}}}),
    "variants": Part(skipped=("embed", "variants")),
    "support": Part({"labels": {"min_users": 1}}),
    "calibration": Part(is_fitted=False),
    "self-awareness": Part({"source": {"columns": {"rewrite_id": "cast(null as string)"}}}),
}
"""By what is missing. Without support one person is enough; without calibration the pool has its default weights;
without self-awareness what became of a rewritten turn is said of the wording that was rewritten."""


class Project:
    """`selflearn run` over each new day, and what it released."""

    def __init__(
        self, spark: SparkSession, work: Path, launch: Sequence[Row], part: Part = WHOLE, encoder: str | None = None
    ) -> None:
        """Begin with an empty lake in a folder; `launch` has rows of the launch set."""
        self._logs = work / "logs"
        self._logs.mkdir(parents=True)
        (work / "launch.jsonl").write_text(_lines(launch), encoding="utf-8")
        self._settings = settings_without(part, work, encoder)
        self._lake = Lakehouse(spark, self._settings.lake)
        self._stages = [stage for stage in (*MINING, *LEARNING) if stage.name not in part.skipped]
        self._part = part

    def learn(self, day: date, rows: Sequence[Row], told: Sequence[Told]) -> Learnt:
        """Mine the day, learn as of it; the NLU is trained on the release."""
        (self._logs / f"{day}.jsonl").write_text(_lines(rows), encoding="utf-8")
        # No session goes on past midnight: with a file of the next day there, this one is not made again with it.
        (self._logs / f"{day + timedelta(days=1)}.jsonl").touch()
        seconds = {}
        with nullcontext() if self._part.is_fitted else _unfitted():
            for manifest, _ in run_pipeline(self._lake, self._settings, [day], self._stages):
                seconds[manifest.stage] = manifest.seconds
        lake, as_of = Path(self._settings.lake), [("as_of", "=", day)]
        found = DeltaTable(lake / "weak_labels").to_pandas(filters=as_of, columns=["text", "goal", "p_correct"])
        # Where the intent alone is trusted there is no goal.
        labels = found.dropna(subset="goal")
        rewrites = DeltaTable(lake / "rewrites").to_pandas(filters=as_of)
        served = rewrites[rewrites["state"] != "retired"]
        return Learnt(
            [Label(*row) for row in labels.itertuples(index=False)],
            self._released(),
            {normalise_text(row.text): Rewrite(row.rewrite_id, row.target_text) for row in served.itertuples()},
            seconds,
        )

    def _released(self) -> Sequence[Example] | None:
        """Of the release in use, which may be an earlier one; None while the gate has passed none."""
        try:
            released = load_training_set(self._settings.lake)
        except DataError:
            return None
        return examples_of(released.to_dict("records"))


def settings_without(part: Part, work: Path, encoder: str | None = None) -> Settings:
    """Settings of a lake, logs and launch set in a folder; of days that may well differ in volume."""
    whole: dict[str, Any] = {
        "lake": str(work / "lake"),
        "source": {"path": str(work / "logs" / "{date}.jsonl"), "raw_schema": _LOG_SCHEMA},
        "launch": {"path": str(work / "launch.jsonl")},
        "turns": {"max_volume_factor": None},
        "variants": {"encoder": encoder},
    }
    for section, changes in part.settings.items():
        whole[section] = whole.get(section, {}) | changes
    return parse_settings(whole)


@contextmanager
def _unfitted() -> Iterator[None]:
    """The pool's weights are fitted on the driver, whence they can be held at their defaults."""
    nothing = float("nan")
    unfitted = FittedWeights(PoolWeights(), 0, nothing, nothing, nothing)
    with patch("selflearn.pipeline.learning.fit_to_outcomes", lambda candidates: unfitted):
        yield


def _lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
