"""The first step of forgetting: people out of every table, and their words out of what was learnt."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.erasure import (
    days_knowing,
    held_by,
    holding,
    only_theirs,
    said,
    unsupported,
    without_people,
    words_of_evidence,
    words_of_turns,
)
from selflearn.graph.people import person
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import Land, landing
from selflearn.lakehouse.schema import Table
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline.encoders import ENCODERS
from selflearn.pipeline.erasures import REQUESTED, note
from selflearn.pipeline.learning import launch_set
from selflearn.pipeline.stage import StageContext
from selflearn.turns.erasure import erasure_id, is_of

_OF_USERS = (tables.TURN_OUTCOMES, tables.REPHRASE_PAIRS)
_OF_WORDS = (
    tables.UTTERANCES,
    tables.GOAL_VARIANTS,
    tables.GRAPH_NODES,
    tables.GRAPH_EDGES,
    tables.AMBIGUOUS_UTTERANCES,
    tables.REWRITES,
    tables.WEAK_LABELS,
    tables.TRAINING_SETS,
)


@dataclass(frozen=True)
class People:
    """Who is to be forgotten: their ids as tables have them, and the secret that these were hashed with."""

    user_ids: frozenset[str]
    key: bytes

    @property
    def erasure_ids(self) -> frozenset[str]:
        return frozenset(map(erasure_id, self.user_ids))


@dataclass(frozen=True)
class _Traces:
    """What the lake holds of the people.

    Attributes:
        people: `user_id`, and `person` as sketches have it.
        days_kept: days that have turns, of whomever.
        days: those of them that are to be made again.
        said: who of them said which utterance; see `erasure.said`.
        words: what nobody else has said; see `erasure.only_theirs`.
    """

    people: DataFrame
    days_kept: Collection[date]
    days: Collection[date]
    said: DataFrame
    words: DataFrame


def remove_people(context: StageContext, days: Sequence[date], people: People) -> Sequence[date]:
    """Take the people out of every table, as upkeep; the days to be made again are noted with the request.

    Days whose turns are gone for their age cannot be made again: there the rows of theirs go, and what others said
    too stays, without them.
    """
    context.label = replace(context.label, is_upkeep=True)
    with landing(context.lake, context.label.run_id) as land:
        traces = _find_traces(context, people, land)
        note(context, people.erasure_ids, REQUESTED, traces.days)
        _strike_words(context, traces, land)
        _strike_labels(context, traces, land)
        _strike_quarantine(context, people)
        _strike_lost_days(context, traces)
        turns = context.lake.read(tables.TURNS) if traces.days else None
        if turns is not None:
            _replace(context, tables.TURNS, _without(turns, traces), traces.days)
    context.metrics |= {"people": float(len(people.user_ids)), "days": float(len(traces.days))}
    _name_encoders(context)
    return days


def _find_traces(context: StageContext, who: People, land: Land) -> _Traces:
    lake = context.lake
    names = lake.spark.createDataFrame([(name,) for name in sorted(who.user_ids)], "user_id string")
    people = F.broadcast(names.withColumn("person", person(F.col("user_id"))))
    turns, days_kept = _read(lake, tables.TURNS), _days(_read(lake, tables.TURNS))
    lost = _beyond(_read(lake, tables.EVIDENCE), days_kept)
    own, held = land(turns.join(people, "user_id")), land(held_by(lost, people))
    context.metrics["turns_removed"] = float(own.count())
    others = words_of_turns(turns.join(people, "user_id", "left_anti")).unionByName(
        words_of_evidence(without_people(lost, people, _spellings(lake)))
    )
    launch = launch_set(context)
    if launch is not None:
        others = others.unionByName(words_of_turns(launch))
    readings = lost.where("kind = 'reading'").join(
        held.select("turn_date", "source_utterance"), ["turn_date", "source_utterance"], "left_semi"
    )
    theirs = words_of_turns(own).unionByName(words_of_evidence(held)).unionByName(words_of_evidence(readings))
    words = land(only_theirs(theirs, others))
    known = _days(days_knowing(_read(lake, tables.DETECTORS), words))
    days = _days(own) | (known & days_kept)
    return _Traces(people, days_kept, days, land(said(own, held)), words)


def _strike_words(context: StageContext, traces: _Traces, land: Land) -> None:
    """Rows of what was learnt that hold their words go; a release that held some is no longer published."""
    n_removed, withdrawn = 0, []
    for table in _OF_WORDS:
        struck = land(holding(_read(context.lake, table), table, traces.words))
        partitions = _strike(context, table, struck)
        n_removed += struck.count()
        if table is tables.TRAINING_SETS:
            withdrawn = partitions
    context.metrics["learnt_rows_removed"] = float(n_removed)
    if withdrawn:
        _withdraw(context, withdrawn)


def _strike_labels(context: StageContext, traces: _Traces, land: Land) -> None:
    """Labels whose support falls below the floor go."""
    lake = context.lake
    edges, variants = _read(lake, tables.GRAPH_EDGES), _read(lake, tables.GOAL_VARIANTS)
    ends = [
        (rows, f"{left}_utterance", f"{right}_utterance")
        for rows, one, other in ((edges, "source", "target"), (variants, "left", "right"))
        for left, right in ((one, other), (other, one))
    ]
    linked = [
        rows.select("as_of", F.col(left).alias("utterance_id"), F.col(right).alias("other_id"))
        for rows, left, right in ends
    ]
    links = linked[0].unionByName(linked[1]).unionByName(linked[2]).unionByName(linked[3])
    labels = _read(lake, tables.WEAK_LABELS)
    struck = land(unsupported(labels, links, traces.said, context.settings.labels.min_users))
    _strike(context, tables.WEAK_LABELS, struck)
    context.metrics["labels_below_the_floor"] = float(struck.count())


def _strike(context: StageContext, table: Table, keys: DataFrame) -> list[object]:
    """Remove the rows of those keys; returns the values of the partitions that had some."""
    [column] = table.partition
    rows, key = _read(context.lake, table), list(table.key)
    found = rows.join(F.broadcast(keys), key, "left_semi").select(column).distinct().collect()
    values = sorted(row[column] for row in found)
    if values:
        kept = rows.where(F.col(column).isin(values)).join(F.broadcast(keys), key, "left_anti")
        context.replace(table, kept, **{column: values})
    return values


def _withdraw(context: StageContext, release_ids: Sequence[object]) -> None:
    releases = context.lake.read(tables.RELEASES, release_id=release_ids)
    context.replace(tables.RELEASES, releases.withColumn("state", F.lit("withdrawn")), release_id=release_ids)
    context.metrics["releases_withdrawn"] = float(len(release_ids))
    _tell(context, f"releases withdrawn, which held sentences of theirs alone: {', '.join(map(str, release_ids))}")


def _strike_quarantine(context: StageContext, people: People) -> None:
    rows = _read(context.lake, tables.QUARANTINE)
    is_theirs = is_of(people.erasure_ids, people.key)(F.lit(None).cast("string"), F.col("raw_row"))
    theirs = rows.where(is_theirs).groupBy("turn_date").count().collect()
    context.metrics["quarantined_rows_removed"] = float(sum(row["count"] for row in theirs))
    _replace(context, tables.QUARANTINE, rows.where(~is_theirs), {row["turn_date"] for row in theirs})


def _strike_lost_days(context: StageContext, traces: _Traces) -> None:
    """Where no turns are left that a day could be made again from."""
    lake = context.lake
    for table in _OF_USERS:
        rows = _beyond(_read(lake, table), traces.days_kept)
        theirs = _days(rows.join(traces.people, "user_id", "left_semi"))
        _replace(context, table, _without(rows, traces), theirs)
    evidence = _beyond(_read(lake, tables.EVIDENCE), traces.days_kept)
    left = without_people(evidence, traces.people, _spellings(lake))
    _replace(context, tables.EVIDENCE, left, _days(held_by(evidence, traces.people)))
    patterns = _beyond(_read(lake, tables.LEVEL_PATTERNS), traces.days_kept)
    word = traces.words.select(F.col("word").alias("pattern"), F.lit("utterance").alias("model"))
    counted = _days(patterns.join(F.broadcast(word), ["pattern", "model"], "left_semi"))
    kept = patterns.join(F.broadcast(word), ["pattern", "model"], "left_anti")
    _replace(context, tables.LEVEL_PATTERNS, kept, counted)
    detectors = _beyond(_read(lake, tables.DETECTORS), traces.days_kept)
    _replace(context, tables.DETECTORS, detectors.limit(0), _days(days_knowing(detectors, traces.words)))


def _replace(context: StageContext, table: Table, rows: DataFrame, days: Collection[date]) -> None:
    if days:
        context.replace(table, rows.where(F.col("turn_date").isin(sorted(days))), turn_date=sorted(days))


def _name_encoders(context: StageContext) -> None:
    """Encoders learn words from whole logs: which one must be trained anew is for a person to say."""
    trained = sorted(file.parent.name for file in (Path(context.lake.root) / ENCODERS).glob("*/modules.json"))
    if trained:
        _tell(
            context,
            f"encoders of the lake, which may know words of theirs, are to be trained anew: {', '.join(trained)}",
        )


def _tell(context: StageContext, sentence: str) -> None:
    context.message = "; ".join(filter(None, (context.message, sentence)))


def _without(rows: DataFrame, traces: _Traces) -> DataFrame:
    return rows.join(traces.people, "user_id", "left_anti")


def _read(lake: Lakehouse, table: Table) -> DataFrame:
    """The table's rows, none where it is not there."""
    return lake.read(table) if lake.exists(table) else lake.spark.createDataFrame([], table.schema)


def _beyond(rows: DataFrame, days: Collection[date]) -> DataFrame:
    """Rows of other days."""
    return rows.where(~F.col("turn_date").isin(sorted(days))) if days else rows


def _days(rows: DataFrame) -> set[date]:
    return {row["turn_date"] for row in rows.select("turn_date").distinct().collect()}


def _spellings(lake: Lakehouse) -> DataFrame:
    texts: Iterable[str] = ("utterance_id", "text")
    return _read(lake, tables.UTTERANCES).select(*texts).dropDuplicates(["utterance_id"])
