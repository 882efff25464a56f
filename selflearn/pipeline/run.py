"""The pipeline: stages in order, over a range of days."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date

from selflearn.lakehouse.manifest import Manifest, succeeded_runs
from selflearn.lakehouse.store import Lakehouse, versions
from selflearn.pipeline.learning import GRAPH, LABEL, RELEASE
from selflearn.pipeline.mining import DETECT, EVIDENCE, INGEST
from selflearn.pipeline.rewriting import REWRITE
from selflearn.pipeline.stage import Clock, Stage, run_stage, utc_now
from selflearn.pipeline.variants import EMBED, VARIANTS
from selflearn.settings import Settings

MINING: tuple[Stage, ...] = (INGEST, DETECT, EMBED, EVIDENCE)
LEARNING: tuple[Stage, ...] = (VARIANTS, GRAPH, REWRITE, LABEL, RELEASE)
STAGES = {stage.name: stage for stage in (*MINING, *LEARNING)}


def run_pipeline(
    lake: Lakehouse,
    settings: Settings,
    days: Sequence[date],
    stages: Sequence[Stage] = (*MINING, *LEARNING),
    resume: bool = False,
    clock: Clock = utc_now,
    announce: Callable[[Stage], None] = lambda stage: None,
) -> Iterator[tuple[Manifest, bool]]:
    """Run the stages in order; yields each one's manifest, and whether it was done already.

    With `resume`, a stage is skipped while it, and all before it, have succeeded for these days with these
    settings, what it read has not changed since, and what it wrote is still the newest version.
    """
    earlier = succeeded_runs(lake) if resume else []
    for stage in stages:
        announce(stage)
        done = _done_already(stage, lake, settings, days, earlier)
        if done is not None:
            yield done, True
            continue
        earlier = []
        yield run_stage(stage, lake, settings, days, clock), False


def _done_already(
    stage: Stage, lake: Lakehouse, settings: Settings, days: Sequence[date], earlier: Sequence[Manifest]
) -> Manifest | None:
    wanted = set(days) if stage in MINING else {max(days)}
    fingerprint = settings.fingerprint()
    for run in reversed(earlier):
        if run.stage == stage.name and wanted <= set(run.days) and run.settings_fingerprint == fingerprint:
            unchanged = run.versions_read == versions(lake, stage.reads)
            kept = run.versions_written == versions(lake, stage.writes)
            return run if unchanged and kept else None
    return None
