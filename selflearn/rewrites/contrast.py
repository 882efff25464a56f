"""Words that decide: wordings that differ in these words alone mostly mean different goals; no language is known.

On and off, a negation, today and tomorrow: what such words do is seen wherever people say both with all else alike
(minimal pairs, as phonology finds its phonemes). What is seen of two words in whichever sentences counts for every
candidate that swaps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, product

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.lakehouse import tables
from selflearn.wording import words_of

MIN_SURE = 0.9
"""Least posterior of the goal of an utterance that says what words do."""
_LEAST_PAIRS = 2
"""Least pairs of utterances of different goals: one alone may be one utterance that is misunderstood."""
_MOST_WORDS = 40
"""Of an end's own words, those that are looked at: texts that differ in more have no minimal pairs."""
_MOST_ALIKE = 200
"""Of the units that complete one remainder, those that are compared: thousands of names may complete some."""
_EDGE = "\x1f"
"""Stands on both sides of every word, so that words are found whole, alone and in a row. No word holds it."""
_HOLE = "\x1e"
_NOTHING = ""
_ENDS = ("utterance_id", "target_utterance")
_CANDIDATE = (*_ENDS, "locale", "text", "target_text")
_SWAP = (*_ENDS, "locale", "one", "other")
_MARKED = "locale string, context string, goal bigint, marked string, heads array<string>"

Swap = tuple[str, str]
"""Two units in order: a word or a run of words, each between two `_EDGE`; the lesser may be `_NOTHING`."""


def contrasts(found: DataFrame, nodes: DataFrame) -> DataFrame:
    """The candidates one of whose swaps decides: distinct `utterance_id, target_utterance`.

    A swap decides where utterances of one locale and context whose goals are sure are the same but for it in at least
    two cases, and have different goals more often than the same.

    Args:
        found: `utterance_id, target_utterance, locale, text, target_text`.
        nodes: columns of `tables.GRAPH_NODES`.
    """
    swaps = found.select(*_CANDIDATE).mapInArrow(_swapped, ", ".join(f"{name} string" for name in _SWAP))
    return swaps.join(_deciding(swaps, _marked(nodes)), ["locale", "one", "other"]).select(*_ENDS).distinct()


def swaps_of(source: Sequence[str], target: Sequence[str]) -> set[Swap]:
    """What was swapped from the words of one wording to those of another.

    Each word that only the one has for each that only the other has, in whatever place, and runs of such words
    likewise. Where one has none of its own, the other's for nothing; elsewhere other words may say what was left out.

    >>> swaps_of(["lights", "on"], ["lights", "off"])
    {('\\x1foff\\x1f', '\\x1fon\\x1f')}
    >>> swaps_of(["wake", "me"], ["don't", "wake", "me"])
    {('', "\\x1fdon't\\x1f")}
    """
    runs, target_runs = _own(source, target), _own(target, source)
    single, target_single = ({(word,) for run in of_end for word in run} for of_end in (runs, target_runs))
    if not runs or not target_runs:
        return {(_NOTHING, _mark(unit)) for unit in {*runs, *target_runs, *single, *target_single}}
    pairs = {*product(single, target_single), *product(runs, target_runs)}
    return {(min(ends), max(ends)) for ends in ((_mark(one), _mark(other)) for one, other in pairs)}


def _own(words: Sequence[str], others: Sequence[str]) -> list[tuple[str, ...]]:
    """Words that the others do not have, in runs as they stand."""
    theirs, runs, n = set(others), [], 0
    for is_own, run in groupby(words, lambda word: word not in theirs):
        if is_own and n < _MOST_WORDS:
            runs.append(tuple(run)[: _MOST_WORDS - n])
            n += len(runs[-1])
    return runs


def _mark(words: Sequence[str]) -> str:
    return "".join(f"{_EDGE}{word}{_EDGE}" for word in words)


def _swapped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Each candidate's swaps."""
    schema = pa.schema([(name, pa.string()) for name in _SWAP])
    for batch in batches:
        *ends, locale, text, target_text = (batch.column(name).to_pylist() for name in _CANDIDATE)
        swaps = map(swaps_of, _words(text), _words(target_text))
        rows = [[*known, *swap] for *known, found in zip(*ends, locale, swaps, strict=True) for swap in sorted(found)]
        yield pa.RecordBatch.from_pylist([dict(zip(_SWAP, row, strict=True)) for row in rows], schema)


def _marked(nodes: DataFrame) -> DataFrame:
    """Utterances whose goal is sure; `heads` are the first words that a unit of theirs may have, nothing among them."""
    is_sure = (F.col("rank") == 1) & (F.col("posterior") >= MIN_SURE) & (F.col("goal") != tables.OTHER_GOAL)
    sure = nodes.where(is_sure).select("locale", "context", F.xxhash64("goal").alias("goal"), "text")

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            words = _words(batch.column("text").to_pylist())
            heads = [[_NOTHING, *sorted({_EDGE + word for word in found})] if found else [] for found in words]
            columns = [batch.column(name) for name in ("locale", "context", "goal")]
            columns += [
                pa.array([_mark(found) for found in words], pa.string()),
                pa.array(heads, pa.list_(pa.string())),
            ]
            yield pa.RecordBatch.from_arrays(columns, ["locale", "context", "goal", "marked", "heads"])

    return sure.mapInArrow(run, _MARKED)


def _words(texts: Sequence[str]) -> list[list[str]]:
    return words_of([text.casefold() for text in texts])


def _deciding(swaps: DataFrame, marked: DataFrame) -> DataFrame:
    """Swaps that decide: `locale, one, other`.

    Utterances are the same but for a swap where they are the same once a hole is put in the place of what is swapped,
    or, for a swap with nothing, once it is gone. So each is looked at once, without the units that it holds.
    """
    without = F.when(F.col("one") == _NOTHING, _NOTHING).otherwise(_HOLE).alias("without")
    units = swaps.select("locale", without, F.explode(F.array("one", "other")).alias("unit")).distinct()
    heads = units.withColumn("head", F.substring_index("unit", _EDGE, 2))
    left = F.replace("marked", "unit", "without")
    alike = (
        marked.withColumn("head", F.explode("heads"))
        .join(F.broadcast(heads), ["locale", "head"])
        .where(F.contains("marked", "unit"))
        .groupBy("locale", F.xxhash64("context", left).alias("left"), "without")
        .agg(F.collect_set(F.struct("unit", "goal")).alias("units"))
        .where(F.size("units") > 1)
    )
    few = alike.withColumn("units", F.slice(F.array_sort("units"), 1, _MOST_ALIKE))
    pairs = few.withColumn("first", F.explode("units")).withColumn("second", F.explode("units"))
    one, other = F.col("first.unit"), F.col("second.unit")
    is_same = F.col("first.goal") == F.col("second.goal")
    n_same, n_other = F.count_if(is_same), F.count_if(~is_same)
    return (
        pairs.where((one < other) & ((one == _NOTHING) | (F.col("without") == _HOLE)))
        .groupBy("locale", one.alias("one"), other.alias("other"))
        .agg(n_same.alias("n_same"), n_other.alias("n_other"))
        .where((F.col("n_other") >= _LEAST_PAIRS) & (F.col("n_other") > F.col("n_same")))
        .select("locale", "one", "other")
    )
