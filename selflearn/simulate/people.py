"""Simulated people: what they want, how they say it, and what they do when it works or fails.

One conversation is one session. After a failure that is noticed nearly half say it again at once, a third of
those with the same words; the others simplify, cancel, give up or turn to something else, and some come back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

from selflearn.simulate.assistant import Assistant, Reply
from selflearn.simulate.chance import draws, pick
from selflearn.simulate.world import CANCEL, PLAIN, Carrier, Frame, Phrasebook, Utterance, World

Behaviour = Literal[
    "request",
    "rephrase",
    "simplify",
    "repeat_words",
    "change_mind",
    "repeat_after_success",
    "switch_topic",
    "answer",
    "cancel",
]

AFTER_FAILURE = {
    "rephrase": 0.31,
    "repeat_words": 0.15,
    "simplify": 0.14,
    "cancel": 0.11,
    "switch_topic": 0.11,
    "give_up": 0.18,
}
_AFTER_SUCCESS = {
    "request": 0.33,
    "change_mind": 0.09,
    "repeat_after_success": 0.06,
    "come_back": 0.08,
    "leave": 0.44,
}
_AFTER_QUESTION = {"answer": 0.87, "cancel": 0.06, "switch_topic": 0.03, "leave": 0.04}
_P_OVERLOOK = 0.17
"""Chance that a wrong act is overlooked; open failures never are, which makes one in ten of them all."""
_P_ANSWER_ANYWAY = 0.7
_PATIENCE = 4
_P_FAVOURITE = 0.35
_N_FAVOURITES = 3
_P_FILLER = 0.15


@dataclass(frozen=True, slots=True)
class Person:
    """One user; ``noise`` is the chance of being misheard, ``hears_barge_in`` depends on the device."""

    number: int
    book: Phrasebook
    noise: float
    hears_barge_in: bool
    seed: int

    @classmethod
    def of(cls, number: int, world: World, seed: int) -> Person:
        """Person ``number`` of a seeded world: always the same, without a table of people."""
        u = draws(seed, "person", number)
        book = world.phrasebooks[world.locale_of(number)]
        return cls(number, book, 0.05 + 0.15 * u[0] ** 2, u[1] < 0.8, seed)


class Move(NamedTuple):
    """What a person says next and why. ``goal`` holds all that is wanted, of which ``said`` may name a part.

    ``rephrase_of`` is the place in the session of the failed turn that is said again.
    """

    behaviour: Behaviour
    goal: Frame
    said: Utterance
    rephrase_of: int | None = None


@dataclass(slots=True)
class Turn:
    """One move, what its words mean, the assistant's reply, and how the person took it.

    ``barge_in`` and ``cancelled`` say that this turn's reply was interrupted or undone; ``wait`` is the time
    until the next turn, in ms.
    """

    move: Move
    meant: Frame
    reply: Reply
    prompt: str | None
    context: str
    is_failure: bool
    noticed: bool
    barge_in: bool | None = None
    cancelled: bool | None = False
    feedback: int | None = None
    wait: int = 0


class Conversation:
    """One session of one person, at most ``limit`` turns long."""

    def __init__(self, rng: Random, world: World, assistant: Assistant, person: Person, limit: int) -> None:
        self._rng = rng
        self._world = world
        self._assistant = assistant
        self._person = person
        self._limit = limit
        self._turns: list[Turn] = []
        self._abandoned: int | None = None

    def hold(self) -> list[Turn]:
        """Let person and assistant talk until all is done, patience ends or the limit is reached."""
        move: Move | None = self._request("request")
        prompt: str | None = None
        context = ""
        while move is not None:
            reply = self._assistant.reply(self._rng, move.said, context, self._person.noise)
            meant = move.said.frame
            is_failure = reply.is_error or (reply.reading.intent, reply.reading.slots) != meant
            turn = Turn(move, meant, reply, prompt, context, is_failure, is_failure and self._notices(reply))
            self._turns.append(turn)
            move = self._next(turn) if len(self._turns) < self._limit else None
            _react(self._rng, turn, move, self._person.hears_barge_in)
            prompt, context = reply.response, reply.context
        return self._turns

    def _notices(self, reply: Reply) -> bool:
        """A confession of failure, or being asked for what was just said, cannot be overlooked."""
        is_plain = reply.reading.intent is None or reply.is_error or bool(reply.context)
        return is_plain or self._rng.random() >= _P_OVERLOOK

    def _next(self, turn: Turn) -> Move | None:
        asked_rightly = bool(turn.reply.context) and turn.reply.reading.intent == turn.move.goal.intent
        if turn.is_failure and turn.noticed:
            if asked_rightly and self._rng.random() < _P_ANSWER_ANYWAY:
                return self._answer(turn, len(self._turns) - 1)
            return self._after_failure(turn)
        if asked_rightly:
            return self._after_question(turn)
        return self._after_success(turn)

    def _after_failure(self, turn: Turn) -> Move | None:
        place = len(self._turns) - 1
        recent = self._turns[-_PATIENCE:]
        if len(recent) == _PATIENCE and all(past.is_failure for past in recent):
            return None
        choice = _choose(self._rng, AFTER_FAILURE)
        if choice == "give_up":
            return None
        if choice in ("cancel", "switch_topic") and turn.move.goal.intent != CANCEL:
            self._abandoned = place
            return self._cancel(turn) if choice == "cancel" else self._request("switch_topic")
        if choice == "repeat_words" and turn.move.said.carrier.context in ("", turn.reply.context):
            return Move("repeat_words", turn.move.goal, turn.move.said, place)
        return self._simplify(place) if choice == "simplify" else self._rephrase(place)

    def _after_question(self, turn: Turn) -> Move | None:
        choice = _choose(self._rng, _AFTER_QUESTION)
        if choice == "answer":
            return self._answer(turn, None)
        if choice == "leave":
            return None
        return self._cancel(turn) if choice == "cancel" else self._request("switch_topic")

    def _after_success(self, turn: Turn) -> Move | None:
        choice = _choose(self._rng, _AFTER_SUCCESS)
        if choice == "leave":
            return None
        if choice == "change_mind" and turn.move.said.carrier.slots:
            return self._change_mind(turn)
        if choice == "repeat_after_success":
            worked = [past.move for past in self._turns if past.reply.completed and not past.is_failure]
            worked = [move for move in worked if not move.said.carrier.context and move.goal.intent != CANCEL]
            if worked:
                move = self._rng.choice(worked)
                return Move("repeat_after_success", move.goal, move.said)
        if choice == "come_back" and self._abandoned is not None:
            place, self._abandoned = self._abandoned, None
            return self._rephrase(place)
        return self._request("request")

    def _request(self, behaviour: Behaviour) -> Move:
        """Something new: a goal of an intent that has not failed in this session."""
        failed = {turn.move.goal.intent for turn in self._turns if turn.is_failure}
        while True:
            goal, said = self._wish()
            if goal.intent not in failed:
                return Move(behaviour, goal, said)

    def _wish(self) -> tuple[Frame, Utterance]:
        """One of the person's own few habits, wording included, or a goal by its general popularity."""
        rng = self._rng
        if rng.random() < _P_FAVOURITE:
            rng = Random(f"{self._person.seed}/{self._person.number}/{rng.randrange(_N_FAVOURITES)}")
        names, weights = self._world.popular
        intent = self._world.intents[rng.choices(names, cum_weights=weights)[0]]
        book = self._person.book
        goal = Frame(intent.name, tuple((slot, pick(rng, book.values[slot])) for slot in intent.slots))
        return goal, _word(rng, book, goal, book.requests[intent.name])

    def _say(self, behaviour: Behaviour, goal: Frame, carriers: Sequence[Carrier], place: int | None = None) -> Move:
        return Move(behaviour, goal, _word(self._rng, self._person.book, goal, carriers), place)

    def _other_carriers(self, place: int) -> Sequence[Carrier]:
        """Wordings for what failed at ``place``: untried ones that name the same slots, where there are any.

        An answer is given again only while its question stands.
        """
        failed = self._turns[place].move
        carrier = failed.said.carrier
        if carrier.context in ("", self._turns[-1].reply.context):
            group = self._person.book.siblings(carrier)
        else:
            group = self._person.book.requests[failed.goal.intent]
        tried = {turn.move.said.carrier for turn in self._turns}
        names = set(carrier.slot_names)
        full = [other for other in group if names <= set(other.slot_names)] or group
        same = [other for other in full if len(other.slots) == len(names)]
        fresh = [other for other in same if other not in tried]
        return fresh or [other for other in full if other not in tried] or same or full

    def _rephrase(self, place: int) -> Move:
        return self._say("rephrase", self._turns[place].move.goal, self._other_carriers(place), place)

    def _simplify(self, place: int) -> Move:
        """The shortest other wording, without ornament."""
        carrier = min(self._other_carriers(place), key=lambda other: len(other.text))
        goal = self._turns[place].move.goal
        return Move("simplify", goal, Utterance.of(carrier, dict(goal.slots)), place)

    def _answer(self, turn: Turn, place: int | None) -> Move:
        return self._say("answer", turn.move.goal, self._person.book.answers[turn.reply.context], place)

    def _cancel(self, turn: Turn) -> Move:
        book = self._person.book
        carriers = book.refusals.get(turn.reply.context, book.requests[CANCEL])
        return self._say("cancel", Frame(CANCEL, ()), carriers)

    def _change_mind(self, turn: Turn) -> Move:
        """The same wish with one other value, in a full sentence."""
        said = turn.move.said
        slot = self._rng.choice(said.carrier.slot_names)
        wanted = dict(turn.move.goal.slots)
        others = [value for value in self._person.book.values[slot] if value != wanted[slot]]
        wanted[slot] = pick(self._rng, others)
        group = self._person.book.requests[turn.move.goal.intent]
        carriers = [carrier for carrier in group if slot in carrier.slot_names]
        return self._say("change_mind", Frame(turn.move.goal.intent, tuple(wanted.items())), carriers)


def _word(rng: Random, book: Phrasebook, goal: Frame, carriers: Sequence[Carrier]) -> Utterance:
    """One of the wordings, by popularity, with or without an ornament around it."""
    filler = pick(rng, book.fillers) if rng.random() < _P_FILLER else PLAIN
    return Utterance.of(pick(rng, carriers), dict(goal.slots), filler)


def _choose(rng: Random, odds: Mapping[str, float]) -> str:
    left = rng.random()
    for name, share in odds.items():
        left -= share
        if left < 0:
            return name
    return name


def _react(rng: Random, turn: Turn, following: Move | None, hears_barge_in: bool) -> None:
    """Fill in what the log shows of the person's reaction, none of which tells failure for certain."""
    bad = turn.noticed
    is_fallback = turn.reply.reading.intent is None
    changes = following is not None and following.behaviour == "change_mind"
    p_interrupts = 0.08 if is_fallback else 0.35 if bad or changes else 0.03
    interrupts = following is not None and rng.random() < p_interrupts
    turn.barge_in = interrupts if hears_barge_in else None
    if following is not None and following.behaviour == "cancel":
        turn.cancelled = rng.random() < 0.9
    else:
        turn.cancelled = rng.random() < (0.25 if bad and following is None else 0.12 if changes else 0.004)
    if rng.random() < (0.06 if bad else 0.02):
        turn.feedback = -1 if bad else rng.choice((1, 1, 1, 0))
    pause = rng.lognormvariate(1.3, 0.5) if bad or turn.reply.context else rng.lognormvariate(2.6, 0.9)
    turn.wait = 1200 + int(1000 * min(0.6 * pause if interrupts else pause, 200.0))
