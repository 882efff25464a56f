"""The simulated assistant: it reads what was heard, then acts, asks or gives in.

No classifier runs. Every wording has a fate, drawn once from the seed: known (and in the launch set), read
right but unsure, read without one slot, taken for a similar intent, or not understood. A reading depends on
the words and their context alone, so the same words are read the same way whoever says them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random
from typing import Literal, NamedTuple

from rapidfuzz import fuzz, process

from selflearn.simulate.chance import draws, pick
from selflearn.simulate.lines import Json, as_json, encode
from selflearn.simulate.recogniser import Hypotheses, Recogniser
from selflearn.simulate.world import PLAIN, Frame, Phrasebook, Slots, Utterance, World

Kind = Literal["known", "unsure", "slot_lost", "confused", "fallback"]
_P_KNOWN = (0.98, 0.96, 0.89, 0.73, 0.52, 0.32)
"""Chance that the NLU knows a wording, by its rank of popularity; the last holds for all further ranks."""
_UNKNOWN: tuple[tuple[Kind, float], ...] = (
    ("unsure", 0.5),
    ("slot_lost", 0.64),
    ("confused", 0.88),
    ("fallback", 1.0),
)
"""Fates of the wordings it does not know, with their cumulative chances."""
_SCORES: dict[Kind, tuple[float, float]] = {
    "known": (0.84, 0.15),
    "unsure": (0.6, 0.24),
    "slot_lost": (0.62, 0.25),
    "confused": (0.57, 0.26),
    "fallback": (0.2, 0.1),
}
"""Middle and half-width of the top reading's probability."""
_P_KNOWN_MISREAD = 0.02
_P_NOISE_MISREAD = 0.3
_P_VALUE_UNKNOWN = 0.05
_N_VALUES_KNOWN = 3
_MENDABLE = 60
_P_ERROR = 0.006
_THRESHOLD = 0.33
_LAUNCH_SIZE = 12
_CACHE_SIZE = 50_000


class Fate(NamedTuple):
    """How a wording is taken: the intent it belongs to, the one it is mistaken for, the slot that is lost."""

    kind: Kind
    intent: str
    wrong: str
    lost: str | None


class Reading(NamedTuple):
    """An NLU result: the top reading, whose ``intent`` is None at fallback, and all of it as it is logged."""

    intent: str | None
    slots: Slots
    logged: str


class Reply(NamedTuple):
    """What became of one turn; ``context`` is what is asked now, ``completed`` is None where it asked."""

    hypotheses: Hypotheses
    reading: Reading
    response: str
    context: str
    is_error: bool
    completed: bool | None


class Assistant:
    """The assistant of one language."""

    def __init__(self, world: World, book: Phrasebook, seed: int) -> None:
        self._intents = world.intents
        self._book = book
        self._key = f"{seed}/{book.locale}"
        self._recogniser = Recogniser(book, seed)
        self._fates = self._draw_fates()
        self._clean = self._draw_clean()
        self._values = {(slot, value) for slot, values in book.values.items() for value in values}
        self._strange = {
            (slot, value)
            for slot, values in book.values.items()
            for value in values[_N_VALUES_KNOWN:]
            if draws(self._key, slot, value)[0] < _P_VALUE_UNKNOWN
        }
        self._read = lru_cache(maxsize=_CACHE_SIZE)(self.read)

    def reply(self, rng: Random, said: Utterance, context: str, noise: float) -> Reply:
        """Hear ``said`` with a chance ``noise`` of mishearing, read it, and act or ask."""
        heard, hypotheses = self._recogniser.listen(rng, said, noise)
        reading = self._read(heard)
        if reading.intent is None:
            return Reply(hypotheses, reading, self._book.not_understood, context, False, False)
        asked = self._intents[reading.intent].asks_after(reading.slots, context)
        if asked:
            return Reply(hypotheses, reading, self._book.asks[asked], asked, False, None)
        if rng.random() < _P_ERROR:
            return Reply(hypotheses, reading, self._book.out_of_order, "", True, False)
        echo = ", ".join(value for _, value in reading.slots)
        response = self._book.done[reading.intent] + (f": {echo}" if echo else "")
        return Reply(hypotheses, reading, response, "", False, True)

    def read(self, heard: Utterance) -> Reading:
        """The NLU's result: a function of the seed, the words and the context they belong to."""
        heard = self._settled(heard)
        fate = self._fates[heard.carrier.context, heard.carrier.text]
        u = draws(self._key, heard.carrier.context, heard.text)
        n_garbled = _n_garbled(heard)
        kind = _disturb(fate.kind, n_garbled, u)
        right = Frame(fate.intent, self._extract(heard, u[5]))
        others = [self._as(name, right.slots) for name in self._intents[fate.intent].like]
        wrong = self._as(fate.wrong, right.slots) if u[2] < 0.8 else others[1]
        middle, width = _SCORES[kind]
        score = middle + width * (u[3] + u[4] - 1) * 1.4 - 0.1 * n_garbled
        score = round(min(max(score, 0.06), 0.98), 4)
        if kind == "fallback" or score < _THRESHOLD:
            order = [right, wrong] if u[6] < 0.6 else [wrong, right]
            return _reading(order, min(score, _THRESHOLD - 0.01), u[7], is_fallback=True)
        if kind == "confused":
            order = [wrong, right, *others] if u[6] < 0.7 else [wrong, *others]
        elif kind == "slot_lost":
            partial = Frame(fate.intent, tuple(slot for slot in right.slots if slot[0] != fate.lost))
            order = [partial, right, *others] if u[6] < 0.6 else [partial, *others]
        else:
            order = [right, *others]
        return _reading(order, score, u[7])

    def launch_set(self) -> Iterator[Json]:
        """The sentences the NLU was trained on: known wordings with known values, none twice."""
        rng = Random(f"{self._key}/launch")
        values = {
            slot: [value for value in values if (slot, value) not in self._strange]
            for slot, values in self._book.values.items()
        }
        for carrier in self._book.carriers():
            fate = self._fates[carrier.context, carrier.text]
            if fate.kind != "known" or fate.intent != carrier.intent:
                continue
            seen = set()
            for _ in range(_LAUNCH_SIZE if carrier.slots else 2):
                filler = pick(rng, self._book.fillers) if rng.random() < 0.15 else PLAIN
                chosen = {slot: pick(rng, values[slot]) for slot in carrier.slot_names}
                said = Utterance.of(carrier, chosen, filler)
                if said.text not in seen:
                    seen.add(said.text)
                    yield {
                        "locale": self._book.locale,
                        "text": said.text,
                        "intent": carrier.intent,
                        "slots": as_json(said.frame.slots),
                        "context": carrier.context,
                    }

    def _draw_clean(self) -> dict[tuple[str, str], Utterance]:
        """Undisturbed utterances with one value at most, by context and words; the first owner wins."""
        clean: dict[tuple[str, str], Utterance] = {}
        for carrier in self._book.carriers():
            names = carrier.slot_names
            if len(names) < 2:
                for value in self._book.values[names[0]] if names else ("",):
                    said = Utterance.of(carrier, dict.fromkeys(names, value))
                    clean.setdefault((carrier.context, said.text), said)
        return clean

    def _settled(self, heard: Utterance) -> Utterance:
        """The same words with the carrier they belong to: a mishearing may turn one wording into another."""
        body = " ".join("".join(heard.texts[1:-1]).split())
        found = self._clean.get((heard.carrier.context, body))
        if found is None or found.carrier is heard.carrier:
            return heard
        return Utterance(found.carrier, (heard.texts[0], *found.texts[1:-1], heard.texts[-1]))

    def _draw_fates(self) -> dict[tuple[str, str], Fate]:
        """A fate per (context, wording). Of two intents with one wording the first owns it."""
        fates: dict[tuple[str, str], Fate] = {}
        for carrier in self._book.carriers():
            group = self._book.siblings(carrier)
            rank = group.index(carrier)
            u = draws(self._key, "fate", carrier.context, carrier.text)
            is_known = u[0] < _P_KNOWN[min(rank, len(_P_KNOWN) - 1)]
            kind = "known" if is_known else next(kind for kind, end in _UNKNOWN if u[1] < end)
            if kind == "slot_lost" and not carrier.slots:
                kind = "confused"
            wrong = self._intents[carrier.intent].like[u[2] > 0.6]
            lost = carrier.slots[int(u[3] * len(carrier.slots))][0] if carrier.slots else None
            fates.setdefault((carrier.context, carrier.text), Fate(kind, carrier.intent, wrong, lost))
        return fates

    def _extract(self, heard: Utterance, u: float) -> Slots:
        """The values found: a strange one is missed or cut short, a garbled one kept, mended or missed."""
        slots = []
        for name, value in heard.frame.slots:
            if (name, value) in self._strange:
                if u < 0.4:
                    slots.append((name, value.split()[0] if " " in value else value[: len(value) // 2 + 1]))
            elif (name, value) in self._values or u < 0.3:
                slots.append((name, value))
            elif u < 0.75:
                slots.append((name, self._nearest(name, value)))
        return tuple(slots)

    def _nearest(self, slot: str, value: str) -> str:
        """The known value of the slot that a garbled one resembles, else the garbled one."""
        match = process.extractOne(value, self._book.values[slot], scorer=fuzz.ratio, score_cutoff=_MENDABLE)
        return str(match[0]) if match else value

    def _as(self, intent: str, slots: Slots) -> Frame:
        """The same values under another intent: those of its own slots, else one under its first slot."""
        names = self._intents[intent].slots
        kept = tuple(slot for slot in slots if slot[0] in names)
        if not kept and names and slots:
            kept = ((names[0], slots[0][1]),)
        return Frame(intent, kept)


def _n_garbled(heard: Utterance) -> int:
    """How many of the carrier's own pieces were misheard; values and fillers do not count."""
    spoken = zip(heard.texts[1:-1], heard.carrier.pieces[1:-1], strict=True)
    return sum(text != piece for text, piece in spoken if piece)


def _disturb(kind: Kind, n_garbled: int, u: Sequence[float]) -> Kind:
    """What becomes of a fate where the words are garbled, or once in a while by itself."""
    if n_garbled and u[1] < 1 - (1 - _P_NOISE_MISREAD) ** n_garbled:
        return "fallback" if u[0] < 0.4 else "confused"
    if kind == "known" and u[0] < _P_KNOWN_MISREAD:
        return "confused"
    return kind


def _reading(order: Sequence[Frame], score: float, u: float, is_fallback: bool = False) -> Reading:
    """The first one to four frames, each of the further ones with a part of the probability still left."""
    frames = list(dict.fromkeys(order))[: 1 + int(u * 4)]
    listed: list[Json] = []
    share = score
    left = 1 - score
    for frame in frames:
        listed.append({"intent": frame.intent, "slots": as_json(frame.slots), "score": round(share, 4)})
        share = min(left * (0.35 + 0.4 * u), share * 0.95)
        left -= share
    intent, slots = (None, ()) if is_fallback else frames[0]
    top = {"intent": intent, "slots": as_json(slots), "nlu_score": score, "nlu_alternatives": listed}
    return Reading(intent, slots, encode(top))
