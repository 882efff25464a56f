"""All work on texts, frames and user ids, in one Arrow UDF.

Logs repeat themselves: each batch is reduced to its distinct values, plain Python works on those alone, and Arrow
puts the results back in their places. Lists are taken apart into flat columns and the number of the row each
element belongs to, so that a batch is a handful of arrays however deep it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, lru_cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from selflearn.lakehouse.schema import HEARD_TEXT, READING, SLOT
from selflearn.turns.text import SUSPECT_RE2, UNIT_SEPARATOR, hash_user, mask_personal_data, normalise_text

Masker = Callable[[pa.Array], pa.Array]

CLEANED = StructType(
    [
        StructField("text", StringType()),
        StructField("normalised_text", StringType()),
        StructField("text_alternatives", ArrayType(HEARD_TEXT)),
        StructField("prompt", StringType()),
        StructField("response", StringType()),
        StructField("slots", ArrayType(SLOT)),
        StructField("goal", StringType()),
        StructField("nlu_alternatives", ArrayType(READING)),
        StructField("user_id", StringType()),
    ]
)
# Null where cleaning leaves them as they are.
_SELDOM_CHANGED = ("text", "text_alternatives", "prompt", "response")
CLEANED_FROM = (
    "text",
    "text_alternatives",
    "prompt",
    "response",
    "intent",
    "slots",
    "nlu_alternatives",
    "user_id",
)

_CACHED_TEXTS = 1 << 16
_LONGEST_CACHED = 256


def clean(turns: DataFrame, mask: bool, user_key: bytes) -> DataFrame:
    """Mask and normalise the texts, make goals of the frames, hash the users, name the utterances.

    `user_id` comes in as what is to be hashed and goes out as its keyed hash. `nlu_alternatives` come in as
    frames with a score and go out as goals with a score. Columns that need no cleaning pass through.
    """
    kept = [name for name in turns.columns if name not in CLEANED.fieldNames()]
    cleaned = _cleaner(mask, user_key)(*map(F.col, CLEANED_FROM)).alias("cleaned")
    new = {name: F.col(f"cleaned.{name}") for name in CLEANED.fieldNames()}
    new |= {name: F.coalesce(new[name], F.col(name)) for name in _SELDOM_CHANGED}
    id_parts = ("locale", "context", "normalised_text")
    return (
        turns.select(*kept, *_SELDOM_CHANGED, cleaned)
        .select(*kept, *[column.alias(name) for name, column in new.items()])
        .withColumn("utterance_id", F.md5(F.concat_ws(UNIT_SEPARATOR, *id_parts)))
    )


def _cleaner(mask: bool, user_key: bytes) -> Callable[..., Column]:
    # The key travels inside the function, of which plans and logs show the name alone.
    users = partial(hash_user, key=user_key)
    masked = _masked if mask else _unchanged

    def clean_batch(
        text: pa.Array,
        text_alternatives: pa.Array,
        prompt: pa.Array,
        response: pa.Array,
        intent: pa.Array,
        slots: pa.Array,
        nlu_alternatives: pa.Array,
        user_id: pa.Array,
    ) -> pa.Array:
        stored = masked(text)
        goals, sorted_slots = _goals(intent, slots, masked)
        columns = [
            _changed(stored, text),
            masked(_map_distinct(stored, _normalise)),
            _heard(text_alternatives, masked),
            _changed(masked(prompt), prompt),
            _changed(masked(response), response),
            sorted_slots,
            goals,
            _readings(nlu_alternatives, masked),
            _map_distinct(user_id, users),
        ]
        return pa.StructArray.from_arrays(columns, fields=list(_arrow_type()))

    cleaned: Callable[..., Column] = arrow_udf(clean_batch, CLEANED)  # type: ignore[call-overload]
    return cleaned


@cache
def _arrow_type() -> pa.StructType:
    return to_arrow_type(CLEANED)


_json = lru_cache(maxsize=_CACHED_TEXTS)(partial(json.dumps, ensure_ascii=False))
_normalise_cached = lru_cache(maxsize=_CACHED_TEXTS)(normalise_text)


def _normalise(text: str) -> str:
    return _normalise_cached(text) if len(text) <= _LONGEST_CACHED else normalise_text(text)


def _map_distinct(values: pa.Array, function: Callable[[str], str]) -> pa.Array:
    coded = values.dictionary_encode()
    return pa.array(map(function, coded.dictionary.to_pylist()), pa.string()).take(coded.indices)


def _masked(values: pa.Array) -> pa.Array:
    """`mask_personal_data` of each value, put to those alone that can need it."""
    suspect = pc.fill_null(pc.match_substring_regex(values, SUSPECT_RE2), False)
    if not pc.any(suspect).as_py():
        return values
    return pc.replace_with_mask(values, suspect, _map_distinct(values.filter(suspect), mask_personal_data))


def _unchanged(values: pa.Array) -> pa.Array:
    return values


def _explode(lists: pa.ListArray) -> tuple[pa.Array, pa.StructArray]:
    """The row of each element of all lists, and the elements; null ones left out."""
    rows, elements = pc.list_parent_indices(lists), pc.list_flatten(lists)
    kept = elements.is_valid()
    return rows.filter(kept), elements.filter(kept)


def _implode(rows: pa.Array, elements: pa.Array, like: pa.ListArray) -> pa.ListArray:
    """Lists of the elements, which are sorted by row; null where `like` is."""
    counts = np.bincount(rows.to_numpy(), minlength=len(like))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), elements, mask=like.is_null())


def _changed(new: pa.Array, old: pa.Array) -> pa.Array:
    """The new values, null where they are the old ones: what does not travel costs nothing."""
    if new is old:
        return pa.nulls(len(old), pa.string())
    return pc.if_else(pc.equal(new, old), pa.scalar(None, pa.string()), new)


def _heard(lists: pa.ListArray, masked: Masker) -> pa.ListArray:
    """N-best lists with masked texts, entries without a text left out; null where that changes nothing."""
    rows, entries = _explode(lists)
    texts, scores = entries.flatten()
    stored, kept = masked(texts), texts.is_valid()
    if stored is texts and texts.null_count == 0 and len(rows) == len(lists.flatten()):
        return pa.nulls(len(lists), lists.type)
    entries = pa.StructArray.from_arrays([stored.filter(kept), scores.filter(kept)], ["text", "score"])
    return _implode(rows.filter(kept), entries, lists)


def _goals(intents: pa.Array, slots: pa.ListArray, masked: Masker) -> tuple[pa.Array, pa.ListArray]:
    """Canonical JSON of each frame (see `frame_goal`), and its slots in that order.

    A slot without a name or a value is not filled and is left out.
    """
    rows, entries = _explode(slots)
    names, values = entries.flatten()
    filled = pa.table({"row": rows, "name": names, "value": masked(values)}).drop_null().combine_chunks()
    spoken = masked(_map_distinct(_column(filled, "value"), _normalise))
    ordered = filled.append_column("spoken", spoken).sort_by(
        [(key, "ascending") for key in ("row", "name", "spoken", "value")]
    )
    rows, names, values, spoken = (_column(ordered, key) for key in ("row", "name", "value", "spoken"))
    pairs = pc.binary_join_element_wise(
        '{"name":', _map_distinct(names, _json), ',"value":', _map_distinct(spoken, _json), "}", ""
    )
    joined = pc.binary_join(_implode(rows, pairs, slots), ",").fill_null("")
    goals = pc.binary_join_element_wise('{"intent":', _map_distinct(intents, _json), ',"slots":[', joined, "]}", "")
    return goals, _implode(rows, pa.StructArray.from_arrays([names, values], ["name", "value"]), slots)


def _readings(lists: pa.ListArray, masked: Masker) -> pa.ListArray:
    """Goals of alternative frames, scores of equal goals summed, best first; frames without an intent left out."""
    rows, entries = _explode(lists)
    intents, slots, scores = entries.flatten()
    goals, _ = _goals(intents, slots, masked)
    known = pc.if_else(pc.is_nan(scores), pa.scalar(None, pa.float64()), scores)
    readings = pa.table({"row": rows, "goal": goals, "score": known}).filter(goals.is_valid())
    summed = readings.group_by(["row", "goal"], use_threads=False).aggregate([("score", "sum")])
    ordered = summed.sort_by([("row", "ascending"), ("score_sum", "descending"), ("goal", "ascending")])
    goals, scores = _column(ordered, "goal"), _column(ordered, "score_sum")
    return _implode(_column(ordered, "row"), pa.StructArray.from_arrays([goals, scores], ["goal", "score"]), lists)


def _column(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks()
