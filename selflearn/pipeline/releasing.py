"""Releasing: labels and the launch set to a training set that is published, or rejected with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from selflearn.errors import DataError
from selflearn.graph import window_days
from selflearn.labels import unsure_intents, with_annotation
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import Land, landing
from selflearn.pipeline.learning import launch_set
from selflearn.pipeline.stage import Stage, StageContext
from selflearn.release import (
    Issues,
    Made,
    Row,
    Verdict,
    card,
    check_intents,
    content_hash,
    find_issues,
    held_out,
    judge,
    leaks,
    read_by_each,
    select_labels,
    sentence_of,
    suites_of,
    training_set,
    with_first_said,
    without_vetoed,
)
from selflearn.turns import read_launch_set

MAX_SENTENCES = 2_000
"""Sentences of head traffic, and of held-out people, that challenger and champion read: more would tell no more."""


@dataclass(frozen=True)
class Material:
    """What a release is made of and held against, on the driver: bounded by caps and by the user's own sets.

    Attributes:
        launch: annotated launch sentences.
        chosen: rows of `selection.CHOSEN`, none of which stands in an evaluation set.
        head: confirmed labels of what several people say, with most turns.
        held_out: labels of people who are held out.
        golden: evaluation sets, by name.
        leaks: launch sentences that stand in evaluation sets.
        left_out: reason to number of labels.
    """

    launch: list[Row]
    chosen: list[Row]
    head: list[Row]
    held_out: list[Row]
    golden: dict[str, list[Row]]
    leaks: dict[tuple[str, str], str]
    left_out: dict[str, int]


def run_release(context: StageContext, days: Sequence[date]) -> Sequence[date]:
    """Weak labels as of the last day, and the launch set, to one immutable release.

    The release id holds a hash of the content: the same content is the same release, and is left as it is unless it
    was rejected. Rows of `training_sets` are nobody's until `releases` names them as published, in one commit.
    """
    as_of = max(days)
    with landing(context.lake, context.label.run_id) as land:
        material = gather(context, as_of, land)
    if not material.chosen:
        context.message = f"no label as of {as_of} adds to the launch set; nothing was released"
        return [as_of]
    examples = training_set(material.launch, material.chosen)
    check_intents(examples)
    release_id = f"{as_of.isoformat()}-{content_hash(examples)}"
    state = _state(context, release_id, examples)
    if state in ("published", "withdrawn"):
        context.message = f"release {release_id} is {state} already, and was left as it is"
        return [as_of]
    champion_id = _champion(context)
    verdict = gate(context, material, examples, champion_id)
    issues = find_issues(examples, material.leaks)
    made = Made(release_id, as_of, context.label.settings_fingerprint, champion_id, material.left_out)
    if verdict.is_passed:
        rows = _examples_frame(context, release_id, examples)
        context.replace(tables.TRAINING_SETS, rows, release_id=[release_id])
    record = _record(context, made, examples, issues, verdict)
    context.replace(tables.RELEASES, record, release_id=[release_id])
    context.metrics.update({"is_published": float(verdict.is_passed), **verdict.figures})
    context.message = f"release {release_id} {'published' if verdict.is_passed else 'rejected'}: {verdict.reason}"
    return [as_of]


def gather(context: StageContext, as_of: date, land: Land) -> Material:
    """Read and choose.

    Raises:
        DataError: there is no label, or a set is unfit.
    """
    lake, settings = context.lake, context.settings
    labels = lake.read(tables.WEAK_LABELS, as_of=[as_of])
    n_labels = labels.count()
    if not n_labels:
        raise DataError(
            f"there is no weak label as of {as_of}, so nothing to release",
            "mine more days, or see in table graph_nodes what labels.threshold and labels.min_users keep back",
        )
    golden = {name: _golden(context, name) for name in settings.release.golden}
    evidence = lake.read(tables.EVIDENCE, turn_date=window_days(as_of, settings.graph))
    said = land(with_first_said(_unvetoed(context, _with_unsure(context, labels, as_of)), evidence))
    allowed = said.where("is_label")
    launch = _launch(context)
    launch = None if launch is None else land(launch)
    chosen = _rows(select_labels(said, launch, _variants(context, as_of), settings.release))
    launch_rows = [] if launch is None else _rows(launch)
    known = [row for rows in golden.values() for row in rows]
    leaking, leaking_launch = leaks(chosen, known), leaks(launch_rows, known)
    kept = [row for row in chosen if sentence_of(row) not in leaking]
    # What one person alone says is no head, and its label is wrong more often than what the gate would find lost.
    several = allowed.where("NOT is_new AND n_users > 1")
    head = several.orderBy(F.desc("n_turns"), "utterance_id").limit(MAX_SENTENCES)
    quiet = allowed.where("is_held_out").orderBy(F.xxhash64("utterance_id")).limit(MAX_SENTENCES)
    left_out = {
        "vetoed": n_labels - allowed.count(),
        "standing in an evaluation set": len(chosen) - len(kept),
    }
    return Material(launch_rows, kept, _rows(head), _rows(quiet), golden, leaking_launch, left_out)


def gate(context: StageContext, material: Material, examples: Sequence[Row], champion_id: str | None) -> Verdict:
    """Train challenger and champion, let both read, compare."""
    settings = context.settings.release
    challenger = [row for row in examples if row["split"] == "train"]
    if champion_id is None:
        champion = [row for row in challenger if row["origin"] == "launch"]
    else:
        released = context.lake.read(tables.TRAINING_SETS, release_id=[champion_id])
        champion = _rows(released.where("split = 'train'"))
    suites = suites_of(
        material.head,
        material.golden,
        [row for row in examples if row["origin"] == "launch" and row["split"] == "test"],
        held_out(material.held_out, [challenger, champion]),
        settings.protected_intents,
    )
    asked = [row for suite in suites for row in suite.rows]
    if not champion:
        read_by_each([challenger], asked, settings.trainer)
        return Verdict(True, "there is neither an earlier release nor a launch set to compare it with", ())
    readings = []
    for read in read_by_each([champion, challenger], asked, settings.trainer):
        rest = iter(read)
        readings.append({suite.name: [next(rest) for _ in suite.rows] for suite in suites})
    return judge(suites, readings[0], readings[1], settings.max_loss)


RELEASE = Stage(
    "release",
    run_release,
    (tables.WEAK_LABELS, tables.GRAPH_NODES, tables.EVIDENCE, tables.GOAL_VARIANTS, tables.VETOES),
    (tables.TRAINING_SETS, tables.RELEASES),
)


def _launch(context: StageContext) -> DataFrame | None:
    """Annotated launch sentences that no veto fits, None where the settings name no launch set."""
    rows = launch_set(context)
    return None if rows is None else _unvetoed(context, with_annotation(rows))


def _golden(context: StageContext, name: str) -> list[Row]:
    settings = context.settings
    source, mask = settings.release.golden[name], settings.turns.mask_personal_data
    found = _rows(read_launch_set(context.spark, source, mask, f"golden set {name!r}"))
    if not found:
        raise DataError(
            f"the golden set {name!r} {source.path} is empty", "put sentences into it, or take it out of the settings"
        )
    return [row | {"is_intent_only": row["slots"] is None} for row in found]


def _unvetoed(context: StageContext, rows: DataFrame) -> DataFrame:
    lake = context.lake
    return without_vetoed(rows, lake.read(tables.VETOES)) if lake.exists(tables.VETOES) else rows


def _with_unsure(context: StageContext, labels: DataFrame, as_of: date) -> DataFrame:
    """The labels, and the likeliest intents of words that have none: not `is_label`."""
    nodes, settings = context.lake.read(tables.GRAPH_NODES, as_of=[as_of]), context.settings
    unsure = unsure_intents(nodes, settings.labels, settings.release.unsure_from)
    others = unsure.join(labels.select("utterance_id"), "utterance_id", "left_anti")
    both = labels.withColumn("is_label", F.lit(True))
    neither = {name: F.lit(False) for name in ("is_label", "is_new")}
    return both.unionByName(others.withColumns(neither), allowMissingColumns=True)


def _variants(context: StageContext, as_of: date) -> DataFrame | None:
    lake = context.lake
    return lake.read(tables.GOAL_VARIANTS, as_of=[as_of]) if lake.exists(tables.GOAL_VARIANTS) else None


def _rows(rows: DataFrame) -> list[Row]:
    found: list[Row] = rows.toArrow().to_pylist()
    return found


def _champion(context: StageContext) -> str | None:
    """The release in use: the newest that is published."""
    if not context.lake.exists(tables.RELEASES):
        return None
    published = context.lake.read(tables.RELEASES).where("state = 'published'")
    row = published.orderBy(F.desc("as_of"), F.desc("created_at")).select("release_id").first()
    return None if row is None else str(row["release_id"])


def _state(context: StageContext, release_id: str, examples: Sequence[Row]) -> str | None:
    """State of the release where there is one of that id.

    Raises:
        DataError: it was released with other examples, so somebody wrote to the tables.
    """
    lake = context.lake
    if not lake.exists(tables.RELEASES):
        return None
    row = lake.read(tables.RELEASES, release_id=[release_id]).select("state").first()
    if row is None:
        return None
    if row["state"] != "rejected":
        stored = _rows(lake.read(tables.TRAINING_SETS, release_id=[release_id]).drop("release_id"))
        if content_hash(stored) != content_hash(examples):
            raise DataError(
                f"release {release_id} exists already, with other examples than its id says",
                "somebody changed table training_sets; withdraw it with `selflearn release rollback`",
            )
    return str(row["state"])


def _record(context: StageContext, made: Made, examples: Sequence[Row], issues: Issues, verdict: Verdict) -> DataFrame:
    origins = [row["origin"] for row in examples]
    row = {
        "release_id": made.release_id,
        "as_of": made.as_of,
        "state": "published" if verdict.is_passed else "rejected",
        "created_at": context.now.replace(tzinfo=UTC),
        "settings_fingerprint": made.settings_fingerprint,
        "n_launch": origins.count("launch"),
        "n_corrected": origins.count("corrected"),
        "n_hard_negatives": origins.count("hard_negative"),
        "n_confirmed": origins.count("confirmed"),
        "n_unsure": origins.count("unsure"),
        "champion_id": made.champion_id,
        "reason": verdict.reason,
        "figures": verdict.figures,
        "issues": issues.to_json(),
        "card": card(made, examples, issues, verdict),
    }
    schema = tables.RELEASES.schema
    return context.spark.createDataFrame([tuple(row[name] for name in schema.fieldNames())], schema).coalesce(1)


def _examples_frame(context: StageContext, release_id: str, examples: Sequence[Row]) -> DataFrame:
    schema = tables.TRAINING_SETS.schema
    rows = [row | {"release_id": release_id} for row in examples]
    return context.spark.createDataFrame(pa.Table.from_pylist(rows, to_arrow_schema(schema)), schema).coalesce(1)
