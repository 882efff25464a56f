"""Sketches of distinct people: the `SKETCH_SIZE` smallest of their hashes, sorted.

The k-minimum-values sketch of Bar-Yossef et al. (2002): exact for fewer people than that, about 6 % off beyond. The
sketch of two groups together is made of both sketches alone, so days and utterances can be put together later.
"""

from __future__ import annotations

import numpy as np
from pyspark.sql import Column
from pyspark.sql import functions as F

from selflearn.ragged import Ints, offsets_of

SKETCH_SIZE = 256
_HASHES = 2.0**64


def person(user_id: Column) -> Column:
    """What a sketch is made of: a 64-bit hash of the user."""
    return F.xxhash64(user_id)


def sketch(people: Column) -> Column:
    """Aggregate: the sketch of all people of a group; null ones do not count."""
    return _smallest(F.collect_set(people))


def merged(sketches: Column) -> Column:
    """Aggregate: the sketch of the people of all sketches of a group; null ones hold nobody."""
    return _smallest(F.array_distinct(F.flatten(F.collect_list(sketches))))


def n_people(of: Column) -> Column:
    """How many people a sketch stands for: counted below `SKETCH_SIZE`, else estimated from how dense they lie."""
    share = (F.element_at(of, SKETCH_SIZE).cast("double") + _HASHES / 2) / _HASHES
    estimate = F.round((SKETCH_SIZE - 1) / share).cast("long")
    return F.when(F.size(of) < SKETCH_SIZE, F.size(of).cast("long")).otherwise(estimate)


def count_people(group: Ints, people: Ints, n_groups: int) -> Ints:
    """`n_people` of each group's sketches together; `people` are all their hashes, in any order."""
    order = np.lexsort((people, group))
    group, people = group[order], people[order]
    is_new = np.ones(len(group), dtype=bool)
    is_new[1:] = (group[1:] != group[:-1]) | (people[1:] != people[:-1])
    group, people = group[is_new], people[is_new]
    counts = np.bincount(group, minlength=n_groups)
    many = np.flatnonzero(counts >= SKETCH_SIZE)
    last = people[offsets_of(counts)[many] + SKETCH_SIZE - 1].astype(np.float64)
    counts[many] = np.rint((SKETCH_SIZE - 1) / ((last + _HASHES / 2) / _HASHES))
    return counts


def _smallest(people: Column) -> Column:
    return F.slice(F.sort_array(people), 1, SKETCH_SIZE)
