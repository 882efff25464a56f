"""One session of one person with the assistant: what is said, what becomes of it, and what the log shows of that."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from random import Random

from selflearn.nlu import Reading
from selflearn.simulate.deployment.channel import Channel, Hypotheses
from selflearn.simulate.deployment.people import Person, Pool, Saying
from selflearn.simulate.people import AFTER_FAILURE
from selflearn.simulate.world import Frame

AFTER_SUCCESS = {"want": 0.35, "change_mind": 0.08, "repeat_after_success": 0.07, "leave": 0.5}
PATIENCE = 4
MOST_TURNS = 10
LEAST_SURE = 0.15
"""The assistant does not act on a reading less probable than this."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the assistant made of a turn: its readings, the first acted on unless `is_fallback`.

    `unserved` is what it would have read without a rewrite, `rewrite_id` the one that it was served under.
    """

    readings: tuple[Reading, ...]
    unserved: Reading
    is_fallback: bool
    rewrite_id: str | None


@dataclass(slots=True)
class Turn:
    """One turn: what was said and heard, the reply, and how the person took it."""

    behaviour: str
    said: Saying
    heard: Hypotheses
    reply: Reply
    is_failure: bool
    is_noticed: bool
    rephrase_of: int | None
    cancelled: bool = False
    barge_in: bool | None = None
    feedback: int | None = None
    wait: int = 0


Talk = Generator[str, Reply, list[Turn]]
"""Yields what was heard, is sent the reply, returns the session's turns."""


def is_right(reading: Reading, goal: Frame, with_slots: bool) -> bool:
    """Whether a reading is what was meant: the intent, and the values too where they are asked for."""
    return reading.intent == goal.intent and (not with_slots or reading.items == frozenset(goal.slots))


@dataclass(frozen=True)
class Circumstances:
    """What holds for all sessions of a run.

    `silent` is the share of failures of which nobody says anything; `unsaid` are case folded texts that are not to be
    heard.
    """

    pool: Pool
    channel: Channel
    unsaid: Collection[str]
    silent: float
    with_slots: bool


def talk(rng: Random, of: Circumstances, person: Person, cycle: int) -> Talk:
    """A session: after a failure that is noticed nearly half say it again at once, a third of those in the same words.

    The others simplify, cancel, give up or turn to something else (shares of real calls, see `AFTER_FAILURE`).
    """
    turns: list[Turn] = []
    move: tuple[str, Saying, int | None] | None = ("want", of.pool.want(rng, person, cycle), None)
    while move is not None:
        behaviour, said, rephrase_of = move
        hypotheses = hear(rng, of.channel, said, person)
        heard = [one for one in hypotheses if one[0].casefold() not in of.unsaid] or [(said.text, hypotheses[0][1])]
        reply = yield heard[0][0]
        is_failure = reply.is_fallback or not is_right(reply.readings[0], said.goal, of.with_slots)
        is_noticed = is_failure and rng.random() >= of.silent
        turn = Turn(behaviour, said, heard, reply, is_failure, is_noticed, rephrase_of)
        turns.append(turn)
        move = _next(rng, of, person, cycle, turns) if len(turns) < MOST_TURNS else None
        _react(rng, turn, None if move is None else move[0], person)
    return turns


def plant(rng: Random, of: Circumstances, person: Person, wording: Saying, other: Saying) -> Talk:
    """A session of one who wants it learnt that one thing means another: says the one, undoes it, says the other."""
    turns = []
    for behaviour, said in (("plant", wording), ("plant_target", other)):
        heard = [(said.text, -0.1)]
        reply = yield said.text
        is_failure = reply.is_fallback or not is_right(reply.readings[0], said.goal, of.with_slots)
        turns.append(Turn(behaviour, said, heard, reply, is_failure, False, None, wait=2_500 + rng.randrange(2_000)))
    turns[0].cancelled, turns[0].barge_in, turns[0].feedback = True, True, -1
    turns[1].feedback = 1
    return turns


def hear(rng: Random, channel: Channel, said: Saying, person: Person) -> Hypotheses:
    """A real recording's string where the words were recorded, else what the channel makes of them."""
    if said.is_verbatim and said.wording.heard:
        return [(rng.choice(said.wording.heard), round(-abs(rng.gauss(0.6, 0.6)) - 0.001, 3))]
    return channel.hear(rng, said.text, person.noise)


def _next(
    rng: Random, of: Circumstances, person: Person, cycle: int, turns: list[Turn]
) -> tuple[str, Saying, int | None] | None:
    last, place = turns[-1], len(turns) - 1
    choice = _choose(rng, AFTER_FAILURE if last.is_noticed else AFTER_SUCCESS)
    is_tired = len(turns) >= PATIENCE and all(turn.is_noticed for turn in turns[-PATIENCE:])
    if choice in ("give_up", "leave", "cancel") or is_tired:
        last.cancelled = choice == "cancel"
        return None
    if choice == "repeat_words":
        return choice, last.said, place
    if choice == "rephrase":
        return choice, of.pool.again(rng, last.said, cycle, [turn.said for turn in turns]), place
    if choice == "simplify":
        return choice, of.pool.simply(last.said, cycle), place
    if choice == "change_mind":
        return choice, of.pool.otherwise(rng, last.said, cycle), None
    if choice == "repeat_after_success":
        return choice, last.said, None
    return choice, of.pool.want(rng, person, cycle), None


def _react(rng: Random, turn: Turn, following: str | None, person: Person) -> None:
    """What the log shows of how the person took it; nothing of it tells failure for certain."""
    bad, is_fallback = turn.is_noticed, turn.reply.is_fallback
    changes = following == "change_mind"
    p_interrupts = 0.08 if is_fallback else 0.35 if bad or changes else 0.03
    interrupts = following is not None and rng.random() < p_interrupts
    turn.barge_in = interrupts if person.shows_barge_in else None
    turn.cancelled = turn.cancelled or rng.random() < (0.12 if changes else 0.1 if bad and not is_fallback else 0.004)
    if rng.random() < (0.06 if bad else 0.02):
        turn.feedback = -1 if bad else 1
    pause = rng.lognormvariate(1.3, 0.5) if bad else rng.lognormvariate(2.6, 0.9)
    turn.wait = 1_200 + int(1_000 * min(0.6 * pause if interrupts else pause, 200.0))


def _choose(rng: Random, odds: Mapping[str, float]) -> str:
    return rng.choices(list(odds), weights=list(odds.values()))[0]
