"""Slots on the words: a linear-chain conditional random field over the words of a sentence, given its intent."""

from __future__ import annotations

import math
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import pycrfsuite

from selflearn.nlu.examples import Example, Tagged, Tags
from selflearn.wording import word_spans

OUTSIDE = "O"
_COPIES = 4
"""A sentence of weight 1 is learnt from so often, where any weighs less: the field knows no weights."""
_TRAINING = {"c1": 0.05, "c2": 0.05, "max_iterations": 100, "feature.possible_transitions": True}


class Tagger:
    """BIO tags of words, learnt from sentences whose values are tagged."""

    def __init__(self, examples: Sequence[Example]) -> None:
        chosen = [example for example in examples if example.tagged is not None and word_spans(example.text)]
        self._open(_fit(chosen) if any(example.tagged for example in chosen) else None)

    def _open(self, model: bytes | None) -> None:
        # The tagger reads its model where it lies: the bytes must live as long.
        self._model = model
        self._tagger: pycrfsuite.Tagger | None = None
        if model is not None:
            self._tagger = pycrfsuite.Tagger()
            self._tagger.open_inmemory(model)
            self._labels = frozenset(self._tagger.labels())

    def __getstate__(self) -> bytes:
        return self._model or b""

    def __setstate__(self, model: bytes) -> None:
        self._open(model or None)

    def tag(self, text: str, context: str, intent: str) -> tuple[Tags, float]:
        """The most probable tagging, given the intent, and its probability."""
        *_, found = self.probabilities(text, context, intent, ()).items()
        return found

    def probability(self, text: str, context: str, intent: str, tagged: Tags) -> float:
        """Probability of a tagging, given the intent; 0 of a slot never seen."""
        return self.probabilities(text, context, intent, (tagged,))[tagged]

    def probabilities(self, text: str, context: str, intent: str, others: Iterable[Tags]) -> dict[Tags, float]:
        """The same of several taggings and, where none of them is that, of the most probable one after them."""
        spans = word_spans(text)
        if self._tagger is None or not spans:
            return {tags: float(not tags) for tags in (*others, ())}
        # What a sentence costs is this: its features and the sum over all taggings, which the field then keeps.
        self._tagger.set(word_features(text, context, intent))
        labels = {tags: labels_of(tags, spans) for tags in others}
        best = self._tagger.tag()
        labels.setdefault(tagged_of(best, spans), best)
        return {
            tags: float(self._tagger.probability(of_words)) if self._labels.issuperset(of_words) else 0.0
            for tags, of_words in labels.items()
        }


def labels_of(tagged: Sequence[Tagged], spans: Sequence[tuple[int, int]]) -> list[str]:
    """BIO labels of the words; a word belongs to the span that it begins in."""
    labels = [OUTSIDE] * len(spans)
    for one in tagged:
        inside = [at for at, (start, end) in enumerate(spans) if start < one.end and end > one.start]
        for nth, at in enumerate(inside):
            labels[at] = f"{'I' if nth else 'B'}-{one.slot}"
    return labels


def tagged_of(labels: Sequence[str], spans: Sequence[tuple[int, int]]) -> tuple[Tagged, ...]:
    """The inverse of `labels_of`; an inside that follows nothing of its slot begins a span."""
    found: list[Tagged] = []
    before = OUTSIDE
    for label, (start, end) in zip(labels, spans, strict=True):
        kind, _, slot = label.partition("-")
        if kind == "I" and before in (f"B-{slot}", f"I-{slot}"):
            found[-1] = Tagged(slot, found[-1].start, end)
        elif slot:
            found.append(Tagged(slot, start, end))
        before = label
    return tuple(found)


def word_features(text: str, context: str, intent: str) -> list[list[str]]:
    """Attributes of each word: itself, its ends, its shape, its neighbours, and the intent and context it stands in."""
    written = [text[start:end] for start, end in word_spans(text)]
    found = [word.casefold() for word in written]
    around = ["", "", *found, "", ""]
    rows = []
    for at, word in enumerate(found):
        two_before, before, _, after, two_after = around[at : at + 5]
        rows.append(
            [
                "always",
                f"w={word}",
                f"shape={_shape(written[at])}",
                *(f"start={word[:size]}" for size in (1, 2, 3) if len(word) > size),
                *(f"end={word[-size:]}" for size in (1, 2, 3) if len(word) > size),
                f"-1={before}",
                f"-2={two_before}",
                f"+1={after}",
                f"+2={two_after}",
                f"-1,0={before} {word}",
                f"0,+1={word} {after}",
                f"-1,+1={before} {after}",
                f"intent={intent}",
                f"intent,w={intent} {word}",
                f"intent,-1={intent} {before}",
                f"context={context}",
            ]
        )
    return rows


def _fit(examples: Sequence[Example]) -> bytes:
    trainer = pycrfsuite.Trainer(algorithm="lbfgs", params=_TRAINING, verbose=False)
    is_weighted = any(example.weight < 1 for example in examples)
    for example in examples:
        rows = word_features(example.text, example.context, example.intent)
        labels = labels_of(example.tagged or (), word_spans(example.text))
        for _ in range(math.floor(example.weight * _COPIES + 0.5) if is_weighted else 1):
            trainer.append(rows, labels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tagger"
        trainer.train(str(path))
        return path.read_bytes()


@lru_cache(maxsize=100_000)
def _shape(word: str) -> str:
    """Classes of the characters, runs as one: a letter with case, a digit, a letter without, anything else."""
    classes = [unicodedata.category(character) for character in word]
    runs = [kind for kind, before in zip(classes, ["", *classes], strict=False) if kind != before]
    return "".join(runs)
