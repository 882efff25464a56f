"""One run at a time: a lease on a part of a lake, held by whoever wrote the newest entry of its log.

Each table is replaced in one commit, but a run replaces several, and two runs that take turns at them would leave
tables that do not belong together. An entry is a small file whose number nobody wrote before. The holder adds one
every few seconds; who finds no new one for a while takes the lease over, so that a killed run blocks nobody for long.
Where a store cannot create a file exclusively, Delta's own check of each commit still stands behind it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError, Py4JJavaError

from selflearn.errors import InfrastructureError
from selflearn.lakehouse.landing import file_system

if TYPE_CHECKING:
    from selflearn.lakehouse.store import Lakehouse

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
"""How often a holder shows that it lives."""
STALE_SECONDS = 30.0
"""Silence after which a holder counts as dead."""
_LOOK_SECONDS = 0.5
_FOLDER = "_leases"
_UNKNOWN = "a run that has just begun"


@dataclass(frozen=True)
class _Entry:
    """A holder's sign of life; `at` and `since` are seconds since 1970."""

    owner: str
    since: float
    at: float
    is_free: bool = False


@contextmanager
def leased(lake: Lakehouse, part: str, owner: str) -> Iterator[None]:
    """Hold the lease on a part of the lake, whose tables nobody else writes meanwhile.

    A holder that was killed is waited for, until it has been silent for `STALE_SECONDS`.

    Args:
        lake: the lake whose tables are to be written.
        part: names the tables; runs of different parts do not hinder each other.
        owner: who holds it, in words for whoever is refused.

    Raises:
        InfrastructureError: a run that is alive holds it; or this run was silent for so long that another took over.
    """
    log, since = _Log(lake, part), time.time()
    try:
        number = _take(log, part, owner, since)
    except (Py4JJavaError, OSError) as error:
        reason = error.java_exception.getMessage() if isinstance(error, Py4JJavaError) else str(error)
        raise InfrastructureError(
            f"nothing can be written to the lake {lake.root}: {reason}",
            "make it writable, free some room there, or name another `lake` in the settings",
        ) from error
    ended, lost = threading.Event(), threading.Event()

    def beat() -> None:
        nonlocal number
        while not ended.wait(BEAT_SECONDS):
            try:
                if not log.add(number + 1, _Entry(owner, since, time.time())):
                    lost.set()
                    return
                number += 1
                log.forget_before(number)
            except (Py4JError, OSError):
                logger.debug("no sign of life could be left this time", exc_info=True)

    thread = threading.Thread(target=beat, name=f"lease-{part}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if not lost.is_set():
            _give_back(log, number + 1, _Entry(owner, since, time.time(), is_free=True))
    if lost.is_set():
        raise InfrastructureError(
            f"this run of {part} gave no sign of life for {STALE_SECONDS:.0f} seconds, and another one took its place",
            "wait for the other run to end, then run this one again; give the driver more memory if it was stalled",
        )


def _take(log: _Log, part: str, owner: str, since: float) -> int:
    """Number of the entry that makes the lease ours."""
    first_seen: int | None = None
    while True:
        number, entry = log.newest()
        if entry is None or entry.is_free or time.time() - entry.at > STALE_SECONDS:
            if log.add(number + 1, _Entry(owner, since, time.time())):
                log.forget_before(number + 1)
                return number + 1
        elif entry.owner == _UNKNOWN:
            # Just being written, or gone for a newer one.
            number = number - 1 if first_seen is None else first_seen
        elif first_seen is not None and number > first_seen:
            held_for = (time.time() - entry.since) / 60
            raise InfrastructureError(
                f"{entry.owner} has been writing the {part} tables of {log.lake.root} for {held_for:.0f} minutes",
                "wait for it to end, then run this again",
            )
        first_seen = number
        time.sleep(_LOOK_SECONDS)


def _give_back(log: _Log, number: int, entry: _Entry) -> None:
    try:
        log.add(number, entry)
        log.forget_before(number)
    except (Py4JError, OSError):
        # What ended the run, a full disk or a dead JVM, is what the user must see; the lease ends by itself.
        logger.debug("the lease could not be given back", exc_info=True)


class _Log:
    """Numbered entries below the lake; only the newest ones are kept."""

    def __init__(self, lake: Lakehouse, part: str) -> None:
        self.lake = lake
        self._folder = f"{lake.root}/{_FOLDER}/{part}"
        self._system, self._place = file_system(lake, self._folder)

    def newest(self) -> tuple[int, _Entry | None]:
        """The newest entry with its number; 0 and none where there is no entry."""
        numbers = self._numbers()
        if not numbers:
            return 0, None
        newest, at = max(numbers.items())
        return newest, self._read(newest) or _Entry(_UNKNOWN, at, at)

    def add(self, number: int, entry: _Entry) -> bool:
        """Write the entry; says whether it is the newest, and none of its number was there before."""
        if not self._create(number, json.dumps(asdict(entry)).encode()):
            return False
        # Who took over from a stalled run has removed the entry of this number, but not its own newest.
        return max(self._numbers(), default=number) <= number

    def _create(self, number: int, content: bytes) -> bool:
        """Write the file of that number; False where there is one."""
        if self._system.getUri().getScheme() == "file":
            # Hadoop looks for a local file and then makes it: two who look at once would both make it.
            folder = Path(self._place.toUri().getPath())
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with (folder / self._name(number)).open("xb") as file:
                    file.write(content)
            except FileExistsError:
                return False
            return True
        try:
            stream = self._system.create(self._path(number), False)
        except Py4JJavaError:
            if max(self._numbers(), default=0) >= number:
                return False
            raise
        try:
            stream.write(content)
        finally:
            stream.close()
        return True

    def forget_before(self, number: int) -> None:
        for old in self._numbers():
            if old < number:
                self._system.delete(self._path(old), False)

    def _numbers(self) -> dict[int, float]:
        """Numbers of all entries, and when they were written."""
        if not self._system.exists(self._place):
            return {}
        files = self._system.listStatus(self._place)
        written = {file.getPath().getName(): file.getModificationTime() / 1000 for file in files}
        return {int(name): at for name, at in written.items() if name.isdigit()}

    def _read(self, number: int) -> _Entry | None:
        """None where it is gone, or not written to its end."""
        jvm: Any = self.lake.spark._jvm
        try:
            stream = self._system.open(self._path(number))
            try:
                return _Entry(**json.loads(jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8")))
            finally:
                stream.close()
        except (Py4JJavaError, ValueError):
            return None

    def _path(self, number: int) -> Any:
        jvm: Any = self.lake.spark._jvm
        return jvm.org.apache.hadoop.fs.Path(f"{self._folder}/{self._name(number)}")

    @staticmethod
    def _name(number: int) -> str:
        return f"{number:012d}"
