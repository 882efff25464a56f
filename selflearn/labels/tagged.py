"""Labels with the slots on their words, as far as they are sure."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import StructField, StructType

from selflearn.encoding import Encoder
from selflearn.labels.annotation import COLUMNS, annotation_columns
from selflearn.labels.meaning import Encode
from selflearn.labels.spans import Annotation, Span, annotate, bracketed, intent_alone, says_another_value
from selflearn.labels.tagging import SURE, TagModel, Untagged, fit_tags
from selflearn.lakehouse import tables
from selflearn.nlu import Tagged, Tags

MAX_UTTERANCES = 2_000
"""Of so many labels, by the hash of their id, the tags are learnt: training a tagger takes seconds for a thousand."""
MIN_UTTERANCES = 200
_FIELDS = (*COLUMNS, "p_slots")
_TYPE = StructType([StructField(name, tables.WEAK_LABELS.schema[name].dataType) for name in _FIELDS]).simpleString()

Goals = Sequence[tuple[str, float]]
"""Canonical goals of one intent and their posterior."""
LoadEncoder = Callable[[], Encoder]
"""Gives the encoder by which values are put on words that mean them; called on every worker."""


def learn_tags(chosen: DataFrame, load: LoadEncoder | None = None) -> TagModel | None:
    """Learn tags from labels, columns of `chosen_labels`; None of fewer than `MIN_UTTERANCES`."""
    encode = load().encode if load else None
    columns = ("utterance_id", "text", "context", "goals")
    some = chosen.select(*columns).orderBy(F.xxhash64("utterance_id"), "utterance_id").limit(MAX_UTTERANCES)
    rows = sorted(some.collect(), key=lambda row: row["utterance_id"])
    if len(rows) < MIN_UTTERANCES:
        return None
    folds: tuple[list[Untagged], list[Untagged]] = ([], [])
    for row in rows:
        goals = [(goal["goal"], goal["posterior"]) for goal in row["goals"]]
        folds[_fold(row["utterance_id"])].append(untagged(row["text"], row["context"], goals, encode))
    return fit_tags(folds)


def with_tags(chosen: DataFrame, model: TagModel | None, load: LoadEncoder | None = None) -> DataFrame:
    """Set `COLUMNS` and `p_slots`, the probability of the tags, were the intent right.

    The tags of a goal that is trusted are its values on the words, where all have a place: to withhold those that the
    model holds for unlikely cost nine right ones for each wrong one (a simulated week). Those of an intent alone are
    the model's, where it is sure.
    """

    def tag(*columns: pa.Array) -> pa.Array:
        return tag_columns(model, *columns, encode=load().encode if load else None)

    # The stubs demand a function type that the signature leaves out.
    tag_rows = arrow_udf(tag, _TYPE)  # type: ignore[call-overload]
    tagging = tag_rows(*map(F.col, ("utterance_id", "text", "context", "goals", "is_goal")))
    return (
        chosen.withColumn("tagging", tagging)
        .withColumns({name: F.col("tagging")[name] for name in _FIELDS})
        .drop("tagging")
    )


def without_contradicted(chosen: DataFrame) -> DataFrame:
    """Leave out goals that replace a value that the words say, as the NLU read them: that is a change of mind.

    Misheard words, and those that mean a value without saying it, say no other.
    """

    def find(texts: pa.Array, goals: pa.Array, readings: pa.Array) -> pa.Array:
        rows = zip(texts.to_pylist(), goals.to_pylist(), readings.to_pylist(), strict=True)
        return pa.array([read is not None and says_another_value(text, goal, read) for text, goal, read in rows])

    contradicts = arrow_udf(find, "boolean")  # type: ignore[call-overload]
    return chosen.where(~(F.col("is_goal") & contradicts("text", "goal", "nlu_goal")))


def tag_columns(model: TagModel | None, *columns: pa.Array, encode: Encode | None = None) -> pa.StructArray:
    """A struct of `COLUMNS` and `p_slots` of columns `utterance_id, text, context, goals, is_goal`."""
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    found = [
        _tagged(model, utterance, text, context, goals, is_goal, encode)
        for utterance, text, context, goals, is_goal in rows
    ]
    p_slots = pa.array([p for _, p in found], pa.float64())
    return pa.StructArray.from_arrays([*annotation_columns([one for one, _ in found]), p_slots], names=list(_FIELDS))


def untagged(text: str, context: str, goals: Goals, encode: Encode | None = None) -> Untagged:
    """The utterance with what its goals, all of one intent, make of its words; one with a value amiss says nothing.

    Of the first goal alone, the likeliest, values are looked for by their meaning, too.
    """
    beliefs: dict[Tags, float] = defaultdict(float)
    total = sum(posterior for _, posterior in goals)
    for rank, (goal, posterior) in enumerate(goals):
        annotation = annotate(text, goal, None if rank else encode)
        if not annotation.is_intent_only:
            beliefs[_tags(annotation)] += posterior / total
    return Untagged(text, context, json.loads(goals[0][0])["intent"], dict(beliefs))


def _tagged(
    model: TagModel | None,
    utterance: str,
    text: str,
    context: str,
    goals: Iterable[dict[str, object]],
    is_goal: bool,
    encode: Encode | None = None,
) -> tuple[Annotation, float | None]:
    known = [(str(goal["goal"]), float(str(goal["posterior"]))) for goal in goals]
    top, without = known[0][0], intent_alone(text, known[0][0])
    own = annotate(text, top, encode) if is_goal else without
    if model is None or (is_goal and own.is_intent_only):
        p_slots = known[0][1] / sum(p for _, p in known)
        return own, None if own.is_intent_only else p_slots
    weighed = model[_fold(utterance)].weigh(untagged(text, context, known, encode))
    if is_goal:
        return own, weighed.of(_tags(own))
    tags, p = weighed.best
    if p < SURE:
        return without, None
    spans = tuple(Span(one.slot, text[one.start : one.end], one.start, one.end) for one in tags)
    return Annotation(without.intent, spans, False, bracketed(text, spans)), p


def _tags(annotation: Annotation) -> Tags:
    return tuple(Tagged(span.name, span.start, span.end) for span in annotation.spans)


def _fold(utterance: str) -> int:
    return zlib.crc32(utterance.encode()) % 2
