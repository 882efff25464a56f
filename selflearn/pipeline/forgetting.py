"""Forgetting people: out of every table, their days made again without them, and no file left that held them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import date, timedelta
from functools import partial

from selflearn.errors import SettingsError
from selflearn.graph import window_days
from selflearn.lakehouse.landing import clear_landing, file_system
from selflearn.lakehouse.lease import leased
from selflearn.lakehouse.manifest import Manifest, succeeded_runs
from selflearn.lakehouse.store import Lakehouse
from selflearn.lakehouse.tables import ALL_TABLES
from selflearn.pipeline.erasures import ERASED, days_to_finish, finished, note
from selflearn.pipeline.mining import DETECT, EVIDENCE
from selflearn.pipeline.removal import People, remove_people
from selflearn.pipeline.run import LEARNING
from selflearn.pipeline.stage import Clock, Stage, StageContext, run_stage, utc_now
from selflearn.settings import Settings, read_user_key
from selflearn.turns.erasure import erasure_id
from selflearn.turns.text import hash_user

_DAYS_AT_ONCE = 7
_OWNER = "an erasure"


def read_requests(lake: Lakehouse, path: str) -> list[str]:
    """User ids, one a line.

    Raises:
        SettingsError: there is no such file.
    """
    system, place = file_system(lake, path)
    if not system.exists(place):
        raise SettingsError(f"the file of erasure requests, {path}, does not exist", "mend its name, or put it there")
    lines = (row["value"].strip() for row in lake.spark.read.text(path).collect())
    return [line for line in lines if line]


def forget(
    lake: Lakehouse,
    settings: Settings,
    users: Iterable[str],
    clock: Clock = utc_now,
    announce: Callable[[Stage], None] = lambda stage: None,
) -> Iterator[Manifest]:
    """Erase users, given by their ids in the source; yields the manifest of each stage that was run for it.

    Who was erased before is left out. Killed, it is finished by asking again. Nobody else may write the lake meanwhile;
    whoever reads an older version of a table finds its files gone, and has to read again.

    Raises:
        InfrastructureError: a run is writing the lake.
    """
    key = read_user_key()
    with leased(lake, "mining", _OWNER), leased(lake, "learning", _OWNER):
        done = finished(lake)
        asked = {hash_user(user, key) for user in users}
        people = People(frozenset(name for name in asked if erasure_id(name) not in done), key)
        if not people.user_ids:
            return

        def run(stage: Stage, days: Sequence[date]) -> Manifest:
            announce(stage)
            return run_stage(stage, lake, settings, days, clock)

        removed = run(_stage("forget", partial(remove_people, people=people)), [clock().date()])
        yield removed
        again = days_to_finish(lake, people.erasure_ids)
        for days in _stretches(again):
            yield run(DETECT, days)
            yield run(EVIDENCE, days)
        for as_of in _learnt_from(lake, settings, again):
            for stage in LEARNING:
                yield run(stage, [as_of])
        yield run(_stage("erase", partial(_erase, people=people)), [clock().date()])


def _stage(name: str, run: Callable[[StageContext, Sequence[date]], Sequence[date]]) -> Stage:
    return Stage(name, run, (), ())


def _stretches(days: Collection[date]) -> Iterator[list[date]]:
    """Days that follow one another, a few at once: a detector learns from all days before its own."""
    stretch: list[date] = []
    for day in sorted(days):
        if stretch and (day != stretch[-1] + timedelta(days=1) or len(stretch) == _DAYS_AT_ONCE):
            yield stretch
            stretch = []
        stretch.append(day)
    if stretch:
        yield stretch


def _learnt_from(lake: Lakehouse, settings: Settings, days: Collection[date]) -> list[date]:
    """The newest as-of day, where its window holds one of the days; none where it does not."""
    learnt = [max(run.days) for run in succeeded_runs(lake) if run.stage == LEARNING[0].name]
    if learnt and set(days) & set(window_days(max(learnt), settings.graph)):
        return [max(learnt)]
    return []


def _erase(context: StageContext, days: Sequence[date], people: People) -> Sequence[date]:
    """Delete every file that a table no longer refers to, and what runs left behind."""
    lake = context.lake
    for table in ALL_TABLES:
        if lake.exists(table):
            lake.vacuum(table, 0)
    clear_landing(lake)
    note(context, people.erasure_ids, ERASED, ())
    return days
