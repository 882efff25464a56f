"""People of a deployment: what they want, and in whose words they say it.

Wants come from the wordings of a pool: its intents by popularity, which drifts from cycle to cycle, and by each
person's own taste. A want is said in the words in which somebody wrote it; said again, in those of somebody else who
wanted the same with other values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp
from random import Random

from rapidfuzz import fuzz

from selflearn.simulate.chance import draws, pick
from selflearn.simulate.deployment.wordings import Wording
from selflearn.simulate.world import Frame

_P_FAVOURITE = 0.3
_N_FAVOURITES = 3
_INTENT_SLOPE = 0.5
"""Popularity of the intent of rank r is (r + 1) ** -slope."""
_N_CONSIDERED = 3
"""Of so many other wordings the one most like what was said before is said next."""
_LEAST_NOISE, _MORE_NOISE = 0.08, 0.32


@dataclass(frozen=True, slots=True)
class Person:
    """One user; `noise` is the chance of being misheard."""

    number: int
    noise: float
    shows_barge_in: bool

    @classmethod
    def of(cls, number: int, seed: int, is_tester: bool = False) -> Person:
        """Person `number`: always the same, without a table of people. Testers are other people than users."""
        u = draws(seed, "tester" if is_tester else "user", number)
        return cls(number, _LEAST_NOISE + _MORE_NOISE * u[0] ** 2, u[1] < 0.8)


@dataclass(frozen=True, slots=True)
class Saying:
    """Words, and what they mean; `wording` is whose they are."""

    text: str
    goal: Frame
    wording: Wording

    @property
    def is_verbatim(self) -> bool:
        """Whether they are as they were written, so that recordings of the wording are recordings of them."""
        return self.text == self.wording.text


class Pool:
    """Wordings that can be said, by intent in order of popularity, and by what slots their goals have."""

    def __init__(
        self,
        wordings: Sequence[Wording],
        unsaid: Collection[str],
        seed: int,
        drift: float,
        late_share: float,
        n_cycles: int,
        out_of_scope: Sequence[Wording] = (),
        p_out_of_scope: float = 0.0,
    ) -> None:
        """Wordings of a pool.

        Args:
            wordings: all of one locale.
            unsaid: case folded texts that nobody says, be it with values of his own in somebody's words.
            seed: says what is popular.
            drift: standard deviation of the change of an intent's log popularity in a cycle.
            late_share: share of wordings, new values among them, that nobody says at first; they come up one by one
                in the first half of the cycles.
            n_cycles: length of the run.
            out_of_scope: what is wanted of an assistant that cannot do it; nobody knows other words for it.
            p_out_of_scope: share of such wants, where there are any.
        """
        self._out_of_scope, self._p_out_of_scope = out_of_scope, p_out_of_scope
        self._unsaid, self._seed, self._drift = unsaid, seed, drift
        order = Random(f"{seed}/popularity").sample(wordings, len(wordings))
        self._since = {
            one.text: 0 if draws(seed, "late", one.text)[0] >= late_share else _late(seed, one.text, n_cycles)
            for one in order
        }
        self._by_intent: dict[str, list[Wording]] = defaultdict(list)
        self._alike: dict[tuple[str, tuple[str, ...]], list[Wording]] = defaultdict(list)
        for one in order:
            self._by_intent[one.goal.intent].append(one)
            if one.is_carrier:
                self._alike[one.goal.intent, one.slot_names].append(one)
        self.intents = tuple(self._by_intent)
        self._walk: list[tuple[float, ...]] = [tuple((rank + 1) ** -_INTENT_SLOPE for rank in range(len(self.intents)))]

    def popularity(self, cycle: int) -> tuple[float, ...]:
        """Of each of `intents` in a cycle, in any unit."""
        while len(self._walk) <= cycle:
            rng = Random(f"{self._seed}/drift/{len(self._walk)}")
            self._walk.append(tuple(share * exp(rng.gauss(0, self._drift)) for share in self._walk[-1]))
        return self._walk[cycle]

    def want(self, rng: Random, person: Person, cycle: int) -> Saying:
        """Something new: one of the person's few habits, wording included, or by general popularity."""
        if self._out_of_scope and rng.random() < self._p_out_of_scope:
            beyond = pick(rng, self._out_of_scope)
            return Saying(beyond.text, beyond.goal, beyond)
        if rng.random() < _P_FAVOURITE:
            rng = Random(f"{self._seed}/{person.number}/{rng.randrange(_N_FAVOURITES)}")
            cycle = 0
        while True:
            intent = rng.choices(self.intents, cum_weights=tuple(accumulate(self.popularity(cycle))))[0]
            chosen = pick(rng, self._by_intent[intent])
            if self._since[chosen.text] <= cycle:
                return Saying(chosen.text, chosen.goal, chosen)

    def again(self, rng: Random, said: Saying, cycle: int, tried: Sequence[Saying]) -> Saying:
        """The same goal in other words: somebody's who wanted the like, most like those said before of a few.

        Where nobody wanted the like, or all has been tried, the same words.
        """
        texts = {one.text for one in tried}
        fresh = [one for one in self._fitting(said.goal, cycle) if one.saying(said.goal) not in texts]
        if not fresh:
            return said
        considered = [pick(rng, fresh) for _ in range(_N_CONSIDERED)]
        best = max(considered, key=lambda one: fuzz.token_set_ratio(one.saying(said.goal), said.text))
        return Saying(best.saying(said.goal), said.goal, best)

    def simply(self, said: Saying, cycle: int) -> Saying:
        """The same goal in the shortest words there are for it."""
        options = [Saying(one.saying(said.goal), said.goal, one) for one in self._fitting(said.goal, cycle)]
        return min([*options, said], key=lambda one: (len(one.text), one.text))

    def otherwise(self, rng: Random, said: Saying, cycle: int) -> Saying:
        """Another goal of the same intent, in the same words as far as they allow."""
        others = [one for one in self._fitting(said.goal, cycle) if one.goal.slots != said.goal.slots]
        if not others:
            return said
        other = pick(rng, others)
        wording = said.wording if said.wording.is_carrier else other
        text = wording.saying(other.goal)
        return (
            Saying(other.text, other.goal, other)
            if text.casefold() in self._unsaid
            else Saying(text, other.goal, wording)
        )

    def _fitting(self, goal: Frame, cycle: int) -> list[Wording]:
        names = tuple(sorted(name for name, _ in goal.slots))
        known = (one for one in self._alike[goal.intent, names] if self._since[one.text] <= cycle)
        return [one for one in known if one.saying(goal).casefold() not in self._unsaid]


def _late(seed: int, text: str, n_cycles: int) -> int:
    return 1 + int(draws(seed, "since", text)[0] * max(1, n_cycles // 2))
