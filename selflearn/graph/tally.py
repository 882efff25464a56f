"""What turns say of their utterances and readings, added up in one pass over turns sorted by utterance, day and user.

A user has one vote for an utterance and day, shared by their turns. Nothing is held but one user's turns and one
utterance's sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selflearn.considered import considered
from selflearn.graph.people import SKETCH_SIZE
from selflearn.ragged import Floats, Ints, offsets_of

SUMS = ("n", "p_sum", "friction_sum", "gave_up_sum", "n_outcomes", "outcome_sum")
TALLY = (
    "turn_date date, kind string, locale string, source_utterance string, target string, context string, text string, "
    + ", ".join(f"{name} double" for name in SUMS)
    + ", users array<bigint>"
)
ORDER = ("utterance_id", "turn_date", "person", "turn_id")
_ABOUT = ("turn_date", "locale", "utterance_id", "context", "text")
_UTTERANCE = ""


@dataclass(frozen=True)
class Tally:
    """Sums of utterances and their readings, and who said them.

    Attributes:
        about: the columns `_ABOUT`, one row for each utterance and day.
        row: which of them each sum is of; sorted.
        target: a goal, or `_UTTERANCE` for the sums of the utterance itself.
        sums: shape (sums, `SUMS`).
        person_row, person: who said the utterances; of each at most `SKETCH_SIZE`, sorted.
    """

    about: pa.Table
    row: Ints
    target: pa.Array
    sums: Floats
    person_row: Ints
    person: Ints


def tally_turns(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows of `TALLY` of turns in `ORDER`; an utterance and day that goes on in the next batch goes on in its sums."""
    turns: pa.Table | None = None
    last: Tally | None = None
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        rows = pa.concat_tables([turns, rows]).combine_chunks() if turns else rows
        end = int(_starts(rows, "utterance_id", "turn_date", "person")[-1]) if len(rows) else 0
        turns = rows.slice(end)
        if end:
            done, last = _last_apart(_together(last, tally(rows.slice(0, end).combine_chunks())))
            yield from _rows(done)
    if turns:
        yield from _rows(_together(last, tally(turns.combine_chunks())))


def tally(turns: pa.Table) -> Tally:
    """Sums of turns in `ORDER`, no user's share cut in two.

    Columns besides `ORDER` and `_ABOUT`: `goal, nlu_score, goals, goal_scores, is_acted_on` (not a fallback),
    `p_friction, p_gave_up, outcome_log_odds`.
    """
    first = _starts(turns, "utterance_id", "turn_date")
    votes = _starts(turns, "utterance_id", "turn_date", "person")
    row = np.repeat(np.arange(len(first)), np.diff(first, append=len(turns)))
    n_turns = np.diff(votes, append=len(turns))
    share = np.repeat(1 / n_turns, n_turns)
    friction, log_odds = _numbers(turns["p_friction"]), _numbers(turns["outcome_log_odds"])
    gave_up = share * _numbers(turns["p_gave_up"])
    of_turn = np.column_stack([share, share, share * friction, gave_up, np.zeros((len(turns), 2))])

    top = turns["goal"].combine_chunks()
    lists, scores = turns["goals"].combine_chunks(), turns["goal_scores"].combine_chunks()
    readings = considered(top, _numbers(turns["nlu_score"]), lists, scores)
    turn = np.repeat(np.arange(len(turns)), np.diff(readings.offsets))
    target = pa.concat_arrays([pa.repeat(_UTTERANCE, len(turns)), readings.goals])
    codes = pa.concat_arrays([target, top]).dictionary_encode().indices
    code = codes.fill_null(-1).to_numpy().astype(np.int64)
    is_top = code[len(turns) : len(target)] == code[len(target) :][turn]
    acted = share[turn] * (is_top & np.asarray(turns["is_acted_on"])[turn])
    of_reading = np.column_stack(
        [
            share[turn],
            share[turn] * readings.probabilities,
            acted * friction[turn],
            np.zeros(len(turn)),
            acted,
            acted * log_odds[turn],
        ]
    )
    people = turns["person"].to_numpy()[votes]
    return _added_up(
        turns.select(_ABOUT).take(pa.array(first)),
        np.concatenate([row, row[turn]]),
        target,
        np.concatenate([of_turn, of_reading]),
        row[votes],
        people,
    )


def _added_up(about: pa.Table, row: Ints, target: pa.Array, sums: Floats, person_row: Ints, person: Ints) -> Tally:
    coded = target.dictionary_encode()
    n_targets = max(1, len(coded.dictionary))
    key = row * n_targets + coded.indices.to_numpy().astype(np.int64)
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    row, code = np.divmod(key[order][starts], n_targets)
    total = np.add.reduceat(sums[order], starts) if len(starts) else sums
    by_hash = np.lexsort((person, person_row))
    person_row, person = person_row[by_hash], person[by_hash]
    counts = np.bincount(person_row, minlength=len(about))
    rank = np.arange(len(person)) - np.repeat(offsets_of(counts)[:-1], counts)
    kept = rank < SKETCH_SIZE
    return Tally(about, row, coded.dictionary.take(pa.array(code)), total, person_row[kept], person[kept])


def _together(one: Tally | None, other: Tally) -> Tally:
    """Two tallies as one; the last row of the first may be about what the first row of the second is about."""
    if one is None:
        return other
    names = ("utterance_id", "turn_date")
    goes_on = one.about.select(names).slice(len(one.about) - 1).equals(other.about.select(names).slice(0, 1))
    about = pa.concat_tables([one.about, other.about.slice(int(goes_on))])
    shift = len(one.about) - int(goes_on)
    return _added_up(
        about.combine_chunks(),
        np.concatenate([one.row, other.row + shift]),
        pa.concat_arrays([one.target, other.target]),
        np.concatenate([one.sums, other.sums]),
        np.concatenate([one.person_row, other.person_row + shift]),
        np.concatenate([one.person, other.person]),
    )


def _last_apart(whole: Tally) -> tuple[Tally, Tally]:
    """All but the last utterance and day, and that."""
    at = len(whole.about) - 1
    end, person_end = np.searchsorted(whole.row, at), np.searchsorted(whole.person_row, at)
    done = Tally(
        whole.about.slice(0, at),
        whole.row[:end],
        whole.target.slice(0, end),
        whole.sums[:end],
        whole.person_row[:person_end],
        whole.person[:person_end],
    )
    last = Tally(
        whole.about.slice(at),
        whole.row[end:] - at,
        whole.target.slice(end),
        whole.sums[end:],
        whole.person_row[person_end:] - at,
        whole.person[person_end:],
    )
    return done, last


def _rows(found: Tally) -> Iterator[pa.RecordBatch]:
    about = found.about.take(pa.array(found.row)).combine_chunks()
    is_utterance = np.asarray(pc.equal(found.target, _UTTERANCE))
    only = pa.array(is_utterance)
    sizes = np.bincount(found.person_row, minlength=len(found.about))
    offsets = offsets_of(np.where(is_utterance, sizes[found.row], 0)).astype(np.int32)
    users = pa.ListArray.from_arrays(pa.array(offsets), pa.array(found.person), mask=pa.array(~is_utterance))
    columns = {
        "turn_date": about["turn_date"],
        "kind": pc.if_else(only, "utterance", "reading"),
        "locale": about["locale"],
        "source_utterance": about["utterance_id"],
        "target": found.target,
        "context": pc.if_else(only, about["context"], None),
        "text": pc.if_else(only, about["text"], None),
        **{name: pa.array(column) for name, column in zip(SUMS, found.sums.T, strict=True)},
        "users": users,
    }
    yield from pa.table(columns).to_batches()


def _starts(rows: pa.Table, *names: str) -> Ints:
    """Rows that differ from the one before in any of the columns, the first one included."""
    differs = np.zeros(len(rows), dtype=bool)
    differs[:1] = True
    for name in names:
        column = rows[name].combine_chunks()
        differs[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return np.flatnonzero(differs).astype(np.int64)


def _numbers(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
