"""The goals that the NLU considered for each turn, with probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selflearn.ragged import Floats, Ints, offsets_of, sum_of


@dataclass(frozen=True)
class Considered:
    """Lists by turn; `probabilities` of a turn sum to one at most."""

    offsets: Ints
    goals: pa.Array
    probabilities: Floats


def considered(top: pa.Array, score: Floats, goals: pa.ListArray, scores: pa.ListArray) -> Considered:
    """The alternatives of each turn; of a turn without any, its top reading, which is certain where it has no score.

    Scores that sum to more than one are scaled down; one that is missing or negative counts as none.
    """
    counts = pc.fill_null(pc.list_value_length(goals), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    alone = (counts == 0) & np.asarray(top.is_valid())
    flat = pa.concat_arrays([pc.list_flatten(goals), top])
    offered = pc.list_flatten(scores).cast(pa.float64()).to_numpy(zero_copy_only=False)
    flat_scores = np.concatenate([offered, np.where(np.isnan(score), 1.0, score)])
    given = offsets_of(counts)
    offsets = offsets_of(np.where(alone, 1, counts))
    # Where the only reading is the top one, it lies behind all alternatives, at its turn's number.
    start = np.where(alone, given[-1] + np.arange(len(top)), given[:-1])
    order = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], np.diff(offsets))
    known = np.maximum(np.nan_to_num(flat_scores[order]), 0.0)
    total = np.repeat(np.maximum(1.0, sum_of(known, offsets)), np.diff(offsets))
    return Considered(offsets, flat.take(pa.array(order)), known / total)
