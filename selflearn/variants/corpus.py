"""What an encoder is trained on: sentences with the goals they reached, and pairs that say the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selflearn.ragged import Ints, offsets_of

SEVERAL = -1
"""Stands for the speaker of a sentence that more than one person said, or that nobody said yet."""
NO_GOAL = -1
_TRIES = 4


@dataclass(frozen=True)
class Corpus:
    """A log, or a sample of it.

    Attributes:
        texts: all that is said, once each; tokens are learnt from them, whether a goal is known or not.
        sentences: texts that reached a goal, once for each goal.
        goals: of the sentences, as `frame_goal` writes them.
        speakers: of the sentences; hashes from 0, or `SEVERAL`.
        rephrased: pairs of texts of which the later says the earlier again.
    """

    texts: Sequence[str]
    sentences: Sequence[str]
    goals: Sequence[str]
    speakers: Ints
    rephrased: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Positives:
    """Rows to train on, by number of their text: first the sentences, then the rephrase pairs.

    Attributes:
        texts: distinct, of sentences and pairs.
        text: number of each row's text.
        mate: number of the text that says the same; the row's own where none is fixed.
        goal: number of the row's goal, or `NO_GOAL`.
        speaker: of the row, as in `Corpus`.
    """

    texts: list[str]
    text: Ints
    mate: Ints
    goal: Ints
    speaker: Ints

    @classmethod
    def of(cls, corpus: Corpus, goals: Sequence[str]) -> Positives:
        """Number the texts and goals of a corpus; `goals` are its distinct ones."""
        earlier, later = ([pair[k] for pair in corpus.rephrased] for k in (0, 1))
        number = {text: k for k, text in enumerate(sorted({*corpus.sentences, *earlier, *later}))}
        place = {goal: k for k, goal in enumerate(goals)}
        n = len(earlier)
        return cls(
            texts=list(number),
            text=np.array([number[text] for text in (*corpus.sentences, *earlier)], dtype=np.int64),
            mate=np.array([number[text] for text in (*corpus.sentences, *later)], dtype=np.int64),
            goal=np.array([*(place[goal] for goal in corpus.goals), *[NO_GOAL] * n], dtype=np.int64),
            speaker=np.concatenate([corpus.speakers, np.full(n, SEVERAL)]).astype(np.int64),
        )

    def draw_mates(self, rng: np.random.Generator) -> Ints:
        """For each row a text that says the same: of a sentence, another person's for its goal; its own where none.

        A goal that one person alone reached has none: what one person says tells nothing of how others do.
        """
        order = np.lexsort((rng.random(len(self.goal)), self.goal))
        goal, text, speaker = self.goal[order], self.text[order], self.speaker[order]
        _, start, counts = np.unique(goal, return_index=True, return_counts=True)
        first, size = np.repeat(start, counts), np.repeat(counts, counts)
        mates = self.mate[order]
        for step in range(1, _TRIES + 1):
            other = first + (np.arange(len(order)) - first + step) % size
            is_other_person = (speaker != speaker[other]) | (speaker == SEVERAL)
            fits = (goal != NO_GOAL) & is_other_person & (text != text[other]) & (mates == text)
            mates[fits] = text[other[fits]]
        drawn = np.empty_like(mates)
        drawn[order] = mates
        return drawn


@dataclass(frozen=True)
class Frames:
    """Goals taken apart.

    Attributes:
        names: numbers of each goal's intent and slot names, lists by goal.
        offsets: of `names`.
        intents: number of each goal's intent.
        values: of each goal, as one text.
        n_intents: intents there are; their numbers come first.
        n_names: intents and slot names there are.
    """

    names: npt.NDArray[np.int32]
    offsets: Ints
    intents: Ints
    values: list[str]
    n_intents: int
    n_names: int


def read_frames(goals: Sequence[str]) -> Frames:
    """Take goals apart; one that is no frame counts as an intent without slots.

    >>> read_frames(['{"intent":"play","slots":[{"name":"song","value":"hello"}]}']).values
    ['hello']
    """
    frames = [_frame(goal) for goal in goals]
    intents = {name: k for k, name in enumerate(sorted({intent for intent, _ in frames}))}
    found = sorted({name for _, slots in frames for name, _ in slots})
    slot_names = {name: len(intents) + k for k, name in enumerate(found)}
    names = [[intents[intent], *(slot_names[name] for name, _ in slots)] for intent, slots in frames]
    return Frames(
        names=np.array([number for own in names for number in own], dtype=np.int32),
        offsets=offsets_of([len(own) for own in names]),
        intents=np.array([own[0] for own in names], dtype=np.int64),
        values=[" ".join(value for _, value in slots) for _, slots in frames],
        n_intents=len(intents),
        n_names=len(intents) + len(slot_names),
    )


def _frame(goal: str) -> tuple[str, list[tuple[str, str]]]:
    try:
        frame = json.loads(goal)
        return str(frame["intent"]), [(str(slot["name"]), str(slot["value"])) for slot in frame["slots"]]
    except (ValueError, TypeError, KeyError):
        return goal, []
