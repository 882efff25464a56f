"""Candidates as list columns of Arrow batches, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from selflearn.graph.candidates import Candidates
from selflearn.graph.weights import SOURCES
from selflearn.ragged import Floats, Ints

BY_PEOPLE = ("outcome_evidence", "pair_evidence")
"""Sources that are what people did; the others are what the NLU and the encoder make of the words."""
WITHOUT_ONE = ", ".join(f"{source}_without_one: double" for source in BY_PEOPLE)
CANDIDATE = "goal: bigint, p_nlu: double, " + ", ".join(f"{source}: double" for source in SOURCES)

Pass = Callable[[pa.RecordBatch], dict[str, pa.Array]]


def by_batch(rows: DataFrame, step: Pass, schema: Mapping[str, str]) -> DataFrame:
    """Rows of the schema, batch by batch: columns that the step does not make are the batch's own."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            made = step(batch)
            columns = [made[name] if name in made else batch.column(name) for name in schema]
            yield pa.RecordBatch.from_arrays(columns, list(schema))

    return rows.mapInArrow(run, ", ".join(f"{name} {kind}" for name, kind in schema.items()))


def read_candidates(batch: pa.RecordBatch) -> Candidates:
    """The candidates in the list column `goals` of beliefs or pooled evidence."""
    goals = batch.column("goals")
    goal, *known = fields(goals, "goal", "p_nlu", *SOURCES)
    p_nlu, *evidence = map(numbers, known)
    utterance = np.repeat(np.arange(len(batch)), np.diff(offsets(goals)))
    nothing = {"before_evidence": 0.0, "n_users_behind": np.nan}
    before, behind = (
        numbers(fields(goals, name)[0])
        if goals.type.value_type.get_field_index(name) >= 0
        else np.full(len(utterance), missing)
        for name, missing in nothing.items()
    )
    return Candidates(len(batch), utterance, goal.to_numpy(), p_nlu, np.column_stack(evidence), before, behind)


def candidate_lists(candidates: Candidates, **more: np.ndarray) -> pa.ListArray:
    """The candidates as a list for each utterance, with further fields."""
    evidence = dict(zip(SOURCES, candidates.evidence.T, strict=True))
    return lists(candidates.offsets, goal=candidates.goal, p_nlu=candidates.p_nlu, **evidence, **more)


def lists(at: Ints, **columns: np.ndarray) -> pa.ListArray:
    """A list of structs with the given fields for each row; its elements begin at an offset."""
    structs = pa.StructArray.from_arrays([pa.array(column) for column in columns.values()], list(columns))
    return pa.ListArray.from_arrays(pa.array(at, pa.int32()), structs)


def offsets(column: pa.ListArray) -> Ints:
    """Where each row's list begins, and the last one's end."""
    found = column.offsets.to_numpy().astype(np.int64)
    return np.asarray(found - found[0])


def rows(column: pa.ListArray) -> Ints:
    """The row of each element of all lists."""
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    return np.repeat(np.arange(len(column)), counts)


def fields(column: pa.ListArray, *names: str) -> list[pa.Array]:
    """Fields of all elements of all lists."""
    structs = column.flatten()
    return [structs.field(name) for name in names]


def numbers(column: pa.Array) -> Floats:
    """A column as floats."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
