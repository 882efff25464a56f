"""A deployment's days: many sessions at a time with the NLU in the loop, as rows of a log beside their truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import exp
from random import Random
from typing import Any, Protocol

from selflearn.nlu import Reading
from selflearn.simulate.chance import draws, pick
from selflearn.simulate.deployment.channel import Channel
from selflearn.simulate.deployment.conversation import (
    LEAST_SURE,
    Circumstances,
    Reply,
    Talk,
    Turn,
    hear,
    is_right,
    plant,
    talk,
)
from selflearn.simulate.deployment.people import Person, Pool, Saying
from selflearn.simulate.deployment.wordings import Division, Wording
from selflearn.simulate.lines import Json, as_json
from selflearn.simulate.world import Frame
from selflearn.turns import normalise_text

_N_READINGS = 5
_P_SERVED = 0.85
_N_PLANTED = 3
_DAY_SECONDS = range(6 * 3600, 22 * 3600)
_SEEN_LEAST = 0.01


class NLU(Protocol):
    """What reads sentences, such as `selflearn.nlu.ReferenceNLU`."""

    def read(self, texts: Sequence[str], contexts: Sequence[str], most: int = 1) -> list[list[Reading]]:
        """Of each sentence its most probable readings."""


@dataclass(frozen=True)
class Rewrite:
    """What a wording is served as."""

    rewrite_id: str
    text: str


@dataclass(frozen=True)
class World:
    """How a deployment is: see `Pool` and `Circumstances`.

    `poisoned` is the share of sessions that plant, `out_of_scope` that of wants out of scope, where the wordings have
    any.
    """

    n_sessions: int = 4_000
    n_users: int = 1_500
    n_cycles: int = 10
    silent: float = 0.1
    poisoned: float = 0.01
    out_of_scope: float = 0.05
    drift: float = 0.15
    late_share: float = 0.2
    with_slots: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What a turn meant, which no stage may read: `would_fail` is of the same turn without a rewrite."""

    turn_id: str
    session_id: str
    text: str
    heard: str
    goal: Frame
    behaviour: str
    is_failure: bool
    is_noticed: bool
    would_fail: bool
    rephrase_of: str | None
    is_planted: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A sentence of the test as heard, and what it means."""

    heard: str
    goal: Frame


class Assistant:
    """A deployed NLU with the rewrites that are served before it; what it read once it need not read again."""

    def __init__(self, nlu: NLU, version: str, rewrites: Mapping[str, Rewrite] | None = None) -> None:
        """Deploy.

        Args:
            nlu: reads.
            version: what the log calls it.
            rewrites: by normalised text.
        """
        self.version = version
        self._nlu, self._rewrites = nlu, rewrites or {}
        self._read: dict[str, tuple[Reading, ...]] = {}

    def replies(self, heard: Sequence[str], is_served: Sequence[bool]) -> list[Reply]:
        """What becomes of what was heard; of turns that are not served no wording is rewritten."""
        found = [
            self._rewrites.get(normalise_text(text)) if yes else None
            for text, yes in zip(heard, is_served, strict=True)
        ]
        self._learn([*heard, *(one.text for one in found if one)])
        return [self._reply(text, rewrite) for text, rewrite in zip(heard, found, strict=True)]

    def _reply(self, text: str, rewrite: Rewrite | None) -> Reply:
        readings = self._read[rewrite.text if rewrite else text]
        is_fallback = readings[0].probability < LEAST_SURE
        return Reply(readings, self._read[text][0], is_fallback, rewrite.rewrite_id if rewrite else None)

    def _learn(self, texts: Iterable[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._read]
        for text, readings in zip(new, self._nlu.read(new, [""] * len(new), _N_READINGS), strict=True):
            self._read[text] = tuple(readings)


class Deployment:
    """The world around an assistant: people who talk to it, day by day, and others who test it."""

    def __init__(self, division: Division, world: World, seed: int) -> None:
        """Fill the world with people who know the wordings that are not the test's."""
        known = (*division.launch, *division.spoken)
        self.locale = known[0].locale
        self.world, self._seed = world, seed
        beyond = division.out_of_scope
        unsaid = frozenset(one.text.casefold() for one in (*division.test, *division.out_of_scope_test))
        pool = Pool(known, unsaid, seed, world.drift, world.late_share, world.n_cycles, beyond, world.out_of_scope)
        channel = Channel((one.text for one in (*known, *beyond)), seed)
        self.pool = pool
        self._of = Circumstances(pool, channel, unsaid, world.silent, world.with_slots)
        self._division = division
        rng = Random(f"{seed}/plants")
        said = [Saying(one.text, one.goal, one) for one in rng.sample(known, min(len(known), 40 * _N_PLANTED))]
        self._plants = [
            (one, other)
            for one, other in zip(said[:_N_PLANTED], reversed(said), strict=False)
            if one.goal.intent != other.goal.intent
        ]

    def test(self) -> list[Asked]:
        """Every sentence of the test once, each as heard of some tester."""
        return self._asked(self._division.test, "test")

    def out_of_scope_test(self) -> list[Asked]:
        """The same of those out of scope."""
        return self._asked(self._division.out_of_scope_test, "out of scope")

    def _asked(self, wordings: Sequence[Wording], name: str) -> list[Asked]:
        asked = []
        for number, wording in enumerate(wordings):
            tester = Person.of(number, self._seed, is_tester=True)
            rng = Random(f"{self._seed}/{name}/{number}")
            said = Saying(wording.text, wording.goal, wording)
            asked.append(Asked(hear(rng, self._of.channel, said, tester)[0][0], wording.goal))
        return asked

    def day(self, cycle: int, day: date, assistant: Assistant) -> tuple[list[Json], list[Told]]:
        """A cycle's traffic: rows of the log in order of time, as `selflearn run` reads them, and the truth of each.

        The same people want the same whatever the assistant; what differs is what becomes of it.
        """
        people, talks = [], []
        for number in range(self.world.n_sessions):
            rng = Random(f"{self._seed}/{cycle}/{number}")
            if self._plants and rng.random() < self.world.poisoned:
                people.append(Person(self.world.n_users + rng.randrange(_N_PLANTED), 0.0, True))
                talks.append(plant(rng, self._of, people[-1], *rng.choice(self._plants)))
                continue
            rank = pick(rng, range(self.world.n_users)) if rng.random() < 0.3 else rng.randrange(self.world.n_users)
            people.append(Person.of(rank, self._seed))
            talks.append(talk(rng, self._of, people[-1], cycle))
        rows, told = [], []
        for number, (person, turns) in enumerate(zip(people, self._held(talks, assistant, cycle), strict=True)):
            session = f"{day:%Y%m%d}-{number:05d}"
            second = _DAY_SECONDS[int(draws(self._seed, cycle, number)[0] * len(_DAY_SECONDS))]
            rows += self._rows(
                turns, session, person, datetime(day.year, day.month, day.day) + timedelta(seconds=second), assistant
            )
            told += [_told(turns, place, session, self.world.with_slots) for place in range(len(turns))]
        order = sorted(range(len(rows)), key=lambda at: (str(rows[at]["ts"]), str(rows[at]["turn_id"])))
        return [rows[at] for at in order], [told[at] for at in order]

    def _held(self, talks: Sequence[Talk], assistant: Assistant, cycle: int) -> list[list[Turn]]:
        """Hold all sessions, a turn of each at a time, so that the NLU reads many sentences at once."""
        turns: list[list[Turn]] = [[] for _ in talks]
        heard = {number: next(one) for number, one in enumerate(talks)}
        depth = 0
        while heard:
            served = [draws(self._seed, cycle, number, depth)[1] < _P_SERVED for number in heard]
            replies = assistant.replies(list(heard.values()), served)
            asked, heard = heard, {}
            for number, reply in zip(asked, replies, strict=True):
                try:
                    heard[number] = talks[number].send(reply)
                except StopIteration as end:
                    turns[number] = end.value
            depth += 1
        return turns

    def _rows(
        self, turns: Sequence[Turn], session: str, person: Person, begin: datetime, assistant: Assistant
    ) -> list[Json]:
        rows: list[Json] = []
        at, prompt = begin, None
        for place, turn in enumerate(turns):
            row = _log_row(turn, person, prompt)
            rows.append(
                {
                    "turn_id": f"{session}-{place:02d}",
                    "session_id": session,
                    "ts": at.isoformat(timespec="milliseconds") + "Z",
                    "locale": self.locale,
                    "model_version": assistant.version,
                    **row,
                }
            )
            prompt = row["response"]
            at += timedelta(milliseconds=turn.wait)
        return rows


def _log_row(turn: Turn, person: Person, prompt: Any) -> Json:
    """What a production system knows of a turn, but for its names and time."""
    reply = turn.reply
    top = reply.readings[0]
    text, score = turn.heard[0]
    return {
        "user_id": f"user-{person.number:05d}",
        "text": text,
        "text_alternatives": [{"text": heard, "score": log_p} for heard, log_p in turn.heard],
        "asr_score": round(exp(score), 4),
        "intent": None if reply.is_fallback else top.intent,
        "slots": [] if reply.is_fallback else as_json(tuple(sorted(top.items))),
        "nlu_score": round(top.probability, 4),
        "nlu_alternatives": [
            {"intent": one.intent, "slots": as_json(tuple(sorted(one.items))), "score": round(one.probability, 4)}
            for one in reply.readings
            if one.probability >= _SEEN_LEAST
        ],
        "prompt": prompt,
        "response": "not understood" if reply.is_fallback else f"done: {top.intent}",
        "context": "",
        "fallback": reply.is_fallback,
        "barge_in": turn.barge_in,
        "error": False,
        "cancelled": turn.cancelled,
        "completed": not reply.is_fallback,
        "feedback": turn.feedback,
        "rewrite_id": reply.rewrite_id,
    }


def _told(turns: Sequence[Turn], place: int, session: str, with_slots: bool) -> Told:
    turn = turns[place]
    is_planted = turn.behaviour.startswith("plant")
    served = turn.reply.rewrite_id is not None
    plain = turn.reply.unserved
    plainly_fails = plain.probability < LEAST_SURE or not is_right(plain, turn.said.goal, with_slots)
    return Told(
        turn_id=f"{session}-{place:02d}",
        session_id=session,
        text=turn.said.text,
        heard=turn.heard[0][0],
        goal=turn.said.goal if with_slots else Frame(turn.said.goal.intent, ()),
        behaviour=turn.behaviour,
        is_failure=turn.is_failure,
        is_noticed=turn.is_noticed,
        would_fail=plainly_fails if served else turn.is_failure,
        rephrase_of=None if turn.rephrase_of is None else f"{session}-{turn.rephrase_of:02d}",
        is_planted=is_planted,
    )
