"""The numbers by which a supervised model tells rephrases: of the pair, of its two turns, and of those around."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from selflearn.detect.comparison import Comparison
from selflearn.detect.items import NONE
from selflearn.detect.latent_class import LevelModel
from selflearn.detect.signals import PAIR_SIGNAL_NAMES
from selflearn.detect.supervised.batch import BEYOND, Batch, batch_of, dot, squares, unit
from selflearn.detect.supervised.item_table import item_table, summaries
from selflearn.detect.supervised.reader import SecondReader, fit_reader, second_opinion
from selflearn.detect.supervised.statistics import Expectation, count_expectations
from selflearn.ragged import Floats, Ints, max_of, sum_of

LABEL_FREE = "label_free"


@dataclass(frozen=True)
class LogStatistics:
    """What features need to know of the log as a whole: the label-free model, what is usual, and a second reader."""

    label_free: LevelModel
    usual: Mapping[str, Expectation]
    reader: SecondReader

    def to_fields(self) -> dict[str, Any]:
        usual = {name: expectation.to_fields() for name, expectation in self.usual.items()}
        return {"label_free": self.label_free.to_json(), "usual": usual, "reader": self.reader.to_fields()}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> LogStatistics:
        usual = {name: Expectation.from_fields(of_kind) for name, of_kind in fields["usual"].items()}
        reader = SecondReader.from_fields(fields["reader"])
        return cls(LevelModel.from_json(fields["label_free"]), usual, reader)


def log_statistics(sample: Comparison, label_free: LevelModel) -> LogStatistics:
    """Statistics of a sample of the log."""
    batch = batch_of(sample)
    return LogStatistics(label_free, count_expectations(batch), fit_reader(batch))


def pair_features(batch: Batch, log: LogStatistics) -> tuple[tuple[str, ...], Floats]:
    """Names of the features, and the features of every pair, shape (pairs, features); NaN where missing."""
    compared, source, target = batch.compared, batch.compared.source, batch.compared.target
    columns = {name: compared.signals[:, k] for k, name in enumerate(PAIR_SIGNAL_NAMES)}
    columns |= _around(compared, log.label_free.log_odds(compared.levels, compared.seeds), batch)
    columns |= _unexplained(batch, source, target)
    columns |= second_opinion(log.reader, batch, source, target)
    found = summaries(item_table(batch, source, target, log.usual))
    columns |= {f"item.{name}": values for name, values in found.items()}
    columns |= _of_turns(batch, source, target)
    return tuple(columns), np.column_stack(list(columns.values()))


def _around(compared: Comparison, log_odds: Floats, batch: Batch) -> dict[str, Floats]:
    """The label-free log-odds of the pair, and of pairs of its turns with those around them; NaN where none was."""
    source, target = compared.source, compared.target
    before, after = batch.turn_after(source, -1), batch.turn_after(target, 1)
    keys = source * compared.n_turns + target

    def of(left: Ints, right: Ints) -> Floats:
        wanted = left * compared.n_turns + right
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        is_found = (keys[at] == wanted) & (left != BEYOND) & (right != BEYOND)
        return np.where(is_found, log_odds[at], np.nan)

    return {
        LABEL_FREE: log_odds,
        "before_and_source": of(before, source),
        "before_and_target": of(before, target),
        "target_and_after": of(target, after),
        "source_and_after": of(source, after),
    }


def _unexplained(batch: Batch, source: Ints, target: Ints) -> dict[str, Floats]:
    """How much of what was heard is no part of the values read from it, and whether the target says that again."""
    grams, none = batch.compared.turns.gram_profiles, len(batch.prompts)
    prompt = np.where(batch.compared.turns.prompt == NONE, none, batch.compared.turns.prompt)
    told = batch.prompt_grams[prompt]
    rest = sparse.csr_array(grams - grams.multiply(batch.read_grams))
    new = sparse.csr_array(rest - rest.multiply(told > 0))
    whole = unit(rest)
    after = batch.turn_after(target, 1)
    of_source, of_target = rest[source], grams[target]
    return {
        "rest_again": dot(of_source, of_target),
        "rest_alike": dot(whole[source], whole[target]),
        "rest_both": dot(of_source, rest[target]),
        "rest_source": squares(rest)[source],
        "rest_target": squares(rest)[target],
        "rest_new": squares(new)[source],
        "rest_new_again": dot(new[source], of_target),
        "rest_after": np.where(after == BEYOND, np.nan, dot(of_source, grams[after])),
        "echo_source": dot(grams, told)[source],
        "echo_target": dot(grams, told)[target],
        "prompts_alike": dot(told[source], told[target]),
        "wording_after": np.where(after == BEYOND, np.nan, dot(grams[source], grams[after])),
    }


def _of_turns(batch: Batch, source: Ints, target: Ints) -> dict[str, Floats]:
    """What is known of source and target by themselves."""
    turns, readings = batch.compared.turns, batch.compared.turns.readings
    p, offsets = readings.probabilities, readings.offsets
    is_top = readings.codes == np.repeat(readings.top, np.diff(offsets))
    rows = np.arange(batch.compared.n_turns)
    previous = batch.turn_after(rows, -1)
    columns = {
        "confidence": turns.confidence,
        "recognition": turns.recognition,
        "friction": turns.heuristic_friction(),
        "unread": turns.unread.astype(np.float64),
        "length": turns.length.astype(np.float64),
        "p_all": sum_of(p, offsets),
        "p_top": max_of(np.where(is_top, p, 0.0), offsets, 0.0),
        "p_other": max_of(np.where(is_top, 0.0, p), offsets, 0.0),
        "entropy": -sum_of(p * np.log(np.maximum(p, 1e-12)), offsets),
        "n_readings": np.diff(offsets).astype(np.float64),
        "n_texts": np.diff(turns.text_offsets).astype(np.float64),
        "gap_before": np.where(previous == BEYOND, np.nan, (turns.at - turns.at[previous]) / 1e6),
        "place": (rows - batch.first).astype(np.float64),
    }
    return {
        f"{side}.{name}": values[at]
        for side, at in (("source", source), ("target", target))
        for name, values in columns.items()
    }
