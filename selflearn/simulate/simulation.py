"""Days, chunks and files: many conversations written as a production system would log them.

A chunk is a share of one day's people, with a generator of its own. Chunks are made by any worker and
written in order, so that the files do not depend on the number of workers; memory holds the chunks in work.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from math import exp
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import NamedTuple

from selflearn.errors import SettingsError
from selflearn.simulate.assistant import Assistant
from selflearn.simulate.lines import Json, as_json, encode, merged
from selflearn.simulate.people import Conversation, Person, Turn
from selflearn.simulate.world import load_world

_TURNS_PER_USER = 25
_MIN_USERS = 24
_CHUNK_TURNS = 5000
_MAX_SESSION = 10
_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_HOURS = (2, 1, 1, 1, 1, 3, 7, 10, 9, 7, 6, 6, 7, 7, 6, 6, 8, 10, 11, 11, 10, 8, 6, 4)
"""Sessions begun per hour of the day, in any unit."""
_HOUR_ENDS = tuple(accumulate(_HOURS))
_WEEKDAYS = (1.0, 0.98, 0.97, 1.0, 1.05, 1.15, 1.12)
_P_LATE = 0.006
_LATE_MS = 60_000
_REST_MS = 90_000


@dataclass(frozen=True)
class SimulationSummary:
    """What was written. ``n_failures`` counts turns, ``n_rephrases`` turns that say a failed one again."""

    n_turns: int
    n_sessions: int
    n_users: int
    n_failures: int
    n_rephrases: int
    n_days: int
    n_launch_sentences: int
    logs: Path
    launch: Path
    truth: Path


class _Task(NamedTuple):
    seed: int
    locales: tuple[str, ...] | None
    day: date
    chunk: int
    n_chunks: int
    n_turns: int
    n_users: int
    is_last_day: bool


class _Chunk(NamedTuple):
    """The lines of one task by day, log and truth, who spoke, and how often what happened."""

    lines: dict[date, tuple[bytes, bytes]]
    users: set[int]
    counts: Counter[str]


def simulate(
    out: Path,
    *,
    n_turns: int,
    days: int,
    start: date,
    seed: int,
    locales: Sequence[str] | None = None,
    workers: int | None = None,
) -> SimulationSummary:
    """Write the logs, the launch set and the ground truth of ``days`` days from ``start`` on.

    ``out/logs`` and ``out/truth`` get one ``YYYY-MM-DD.jsonl`` per day, ``out/launch.jsonl`` the sentences
    that the assistant was trained on. Exactly ``n_turns`` turns are written, each in the file of its own day.
    People speak ``locales`` (default: six of ``known_locales()``). The same arguments give the same bytes,
    whatever ``workers`` (processes; default: one per core).

    Raises:
        SettingsError: an argument is out of range, or ``out`` is not an empty or new folder.
    """
    _check(out, n_turns, days, start, workers)
    spoken = None if locales is None else tuple(locales)
    load_world(spoken)
    logs, truth, launch = out / "logs", out / "truth", out / "launch.jsonl"
    for folder in (logs, truth):
        folder.mkdir(parents=True)
        for offset in range(days):
            _file_of(folder, start + timedelta(offset)).touch()
    sentences = [encode(row) for assistant in _assistants(seed, spoken).values() for row in assistant.launch_set()]
    launch.write_bytes(_joined(sentences))

    n_users = max(_MIN_USERS, n_turns // _TURNS_PER_USER)
    tasks = list(_tasks(n_turns, days, start, seed, spoken, n_users))
    is_active = bytearray(n_users)
    counts: Counter[str] = Counter()
    for chunk in _made(tasks, workers or os.cpu_count() or 1):
        for day, texts in chunk.lines.items():
            for folder, text in zip((logs, truth), texts, strict=True):
                with _file_of(folder, day).open("ab") as file:
                    file.write(text)
        for user in chunk.users:
            is_active[user] = 1
        counts += chunk.counts
    return SimulationSummary(
        n_turns=counts["turns"],
        n_sessions=counts["sessions"],
        n_users=sum(is_active),
        n_failures=counts["failures"],
        n_rephrases=counts["rephrases"],
        n_days=days,
        n_launch_sentences=len(sentences),
        logs=logs,
        launch=launch,
        truth=truth,
    )


def _check(out: Path, n_turns: int, days: int, start: date, workers: int | None) -> None:
    for name, value in (("n_turns", n_turns), ("days", days), ("workers", workers)):
        if value is not None and value < 1:
            raise SettingsError(f"{name} is {value}, below 1.", f"Give {name} a value of at least 1.")
    if start.toordinal() + days > date.max.toordinal():
        raise SettingsError(f"{days} days from {start} on leave the calendar.", "Start earlier.")
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out} is a file, not a folder.", "Name a new folder.")
    if out.exists() and any(out.iterdir()):
        raise SettingsError(f"{out} is not empty.", "Name a new folder, or empty this one.")


def _file_of(folder: Path, day: date) -> Path:
    return folder / f"{day.isoformat()}.jsonl"


def _tasks(
    n_turns: int, days: int, start: date, seed: int, locales: tuple[str, ...] | None, n_users: int
) -> Iterator[_Task]:
    """Divide turns over days by weekday and over equal chunks, exactly."""
    dates = [start + timedelta(offset) for offset in range(days)]
    ends = list(accumulate(_WEEKDAYS[day.weekday()] for day in dates))
    done = 0
    for day, end in zip(dates, ends, strict=True):
        of_day = round(n_turns * end / ends[-1]) - done
        done += of_day
        n_chunks = -(-of_day // _CHUNK_TURNS)
        for chunk in range(n_chunks):
            size = of_day * (chunk + 1) // n_chunks - of_day * chunk // n_chunks
            yield _Task(seed, locales, day, chunk, n_chunks, size, n_users, day == dates[-1])


def _made(tasks: Sequence[_Task], workers: int) -> Iterator[_Chunk]:
    """The chunks in order; with several workers, two per worker are under way at most."""
    workers = min(workers, len(tasks))
    if workers == 1:
        yield from map(_make_chunk, tasks)
        return
    # A fork would copy the locks of a caller's threads, such as those of a Spark session.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        under_way: deque[Future[_Chunk]] = deque()
        for task in tasks:
            under_way.append(pool.submit(_make_chunk, task))
            if len(under_way) >= 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


@lru_cache(maxsize=1)
def _assistants(seed: int, locales: tuple[str, ...] | None) -> dict[str, Assistant]:
    world = load_world(locales)
    return {locale: Assistant(world, book, seed) for locale, book in world.phrasebooks.items()}


def _make_chunk(task: _Task) -> _Chunk:
    """Hold conversations until the chunk's turns are said. Nobody talks twice at a time."""
    rng = Random(f"{task.seed}/{task.day.isoformat()}/{task.chunk}")
    world = load_world(task.locales)
    assistants = _assistants(task.seed, task.locales)
    rows: list[tuple[int, str, str]] = []
    free_at: dict[int, int] = {}
    counts: Counter[str] = Counter(turns=task.n_turns)
    while len(rows) < task.n_turns:
        begin = _begin(rng, (len(rows) + rng.random()) / task.n_turns, task.is_last_day)
        number = _caller(rng, task, free_at, begin)
        person = Person.of(number, world, task.seed)
        limit = min(_MAX_SESSION, task.n_turns - len(rows))
        turns = Conversation(rng, world, assistants[person.book.locale], person, limit).hold()
        session = f"s{task.day:%Y%m%d}-{task.chunk:04d}-{counts['sessions']:05d}"
        rows += _session_rows(turns, person, session, task.day, begin)
        free_at[number] = rows[-1][0] + _REST_MS
        counts["sessions"] += 1
        counts["failures"] += sum(turn.is_failure for turn in turns)
        counts["rephrases"] += sum(turn.move.rephrase_of is not None for turn in turns)
    rows.sort(key=lambda row: row[0])
    lines = {}
    for day, is_next in ((task.day, False), (task.day + timedelta(1), True)):
        part = [row for row in rows if (row[0] >= _DAY_MS) == is_next]
        if part:
            lines[day] = (_joined(row[1] for row in part), _joined(row[2] for row in part))
    return _Chunk(lines, set(free_at), counts)


def _joined(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _begin(rng: Random, progress: float, is_last_day: bool) -> int:
    """When a session begins, in ms of the day: as busy as the hours are, with some right before midnight.

    On the last day all begin earlier, by up to an hour, so that no session runs into a day that has no file.
    """
    if is_last_day:
        return int(_clock(progress) * 23 / 24)
    return _DAY_MS - 1 - rng.randrange(_LATE_MS) if rng.random() < _P_LATE else int(_clock(progress))


def _clock(progress: float) -> float:
    """The time of day, in ms, by which this share of the day's sessions has begun."""
    target = min(progress, 0.999999) * _HOUR_ENDS[-1]
    hour = bisect_right(_HOUR_ENDS, target)
    return _HOUR_MS * (hour + 1 - (_HOUR_ENDS[hour] - target) / _HOURS[hour])


def _caller(rng: Random, task: _Task, free_at: dict[int, int], begin: int) -> int:
    """Somebody of this chunk's people who is free; rank k of n talks as often as 1 / (k + 1 + n / 100)."""
    n_own = len(range(task.chunk, task.n_users, task.n_chunks))
    flat = 1 + n_own / 100
    rank = min(int(flat * ((n_own + flat) / flat) ** rng.random() - flat), n_own - 1)
    for step in range(n_own):
        number = (rank + step) % n_own * task.n_chunks + task.chunk
        if free_at.get(number, 0) <= begin:
            break
    return number


def _session_rows(
    turns: Sequence[Turn], person: Person, session: str, day: date, begin: int
) -> list[tuple[int, str, str]]:
    """Time in ms, log line and truth line of each turn."""
    ids = [f"t{session[1:]}-{place:02d}" for place in range(len(turns))]
    rows = []
    time = begin
    for turn_id, turn in zip(ids, turns, strict=True):
        log = _log_row(turn, turn_id, session, person, _stamp(day, time))
        rephrase_of = None if turn.move.rephrase_of is None else ids[turn.move.rephrase_of]
        truth = _truth_row(turn, turn_id, session, person.book.locale, rephrase_of)
        rows.append((time, merged(encode(log), turn.reply.reading.logged), encode(truth)))
        time += turn.wait
    return rows


def _log_row(turn: Turn, turn_id: str, session: str, person: Person, stamp: str) -> Json:
    """What a production system knows, but for the reading."""
    reply = turn.reply
    text, score = reply.hypotheses[0]
    return {
        "turn_id": turn_id,
        "session_id": session,
        "user_id": f"user-{person.number:06d}",
        "ts": stamp,
        "locale": person.book.locale,
        "text": text,
        "text_alternatives": [{"text": text, "score": score} for text, score in reply.hypotheses],
        "asr_score": round(exp(score), 4),
        "prompt": turn.prompt,
        "response": reply.response,
        "context": turn.context,
        "fallback": reply.reading.intent is None,
        "barge_in": turn.barge_in,
        "error": reply.is_error,
        "cancelled": turn.cancelled,
        "completed": reply.completed,
        "feedback": turn.feedback,
        "rewrite_id": None,
        "model_version": "launch",
    }


def _truth_row(turn: Turn, turn_id: str, session: str, locale: str, rephrase_of: str | None) -> Json:
    return {
        "turn_id": turn_id,
        "session_id": session,
        "locale": locale,
        "intent": turn.meant.intent,
        "slots": as_json(turn.meant.slots),
        "text": turn.move.said.text,
        "is_failure": turn.is_failure,
        "noticed": turn.noticed,
        "rephrase_of": rephrase_of,
        "behaviour": turn.move.behaviour,
    }


def _stamp(day: date, time: int) -> str:
    """ISO-8601 in UTC of a time in ms after the day's midnight; it may lie in the next day."""
    moment = datetime(day.year, day.month, day.day) + timedelta(milliseconds=time)
    return moment.isoformat(timespec="milliseconds") + "Z"
