"""The reference NLU: small, fast, of any language. It exists to close the loop and to gate releases.

The intent comes from n-grams of characters and words. A slot value that stands in the words is tagged there, given the
intent; one that does not (because it was misheard, or is said in other words) is known by the sentence as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress

import numpy as np
import numpy.typing as npt

from selflearn.errors import DataError
from selflearn.nlu.classifiers import IntentClassifier, ItemClassifiers, place_of
from selflearn.nlu.examples import Example, Item, Reading, Tagged
from selflearn.nlu.features import SentenceFeatures
from selflearn.nlu.tagger import Tagger
from selflearn.ragged import Floats

_EVEN = 0.5
_LEAST = 1e-4
"""Probability of what was never seen."""


class ReferenceNLU:
    """Reads sentences as intents and slot values."""

    def __init__(self, examples: Sequence[Example]) -> None:
        """Learn from examples.

        Raises:
            DataError: there are none.
        """
        if not examples:
            raise DataError("the reference NLU got no examples", "give a training set that has some")
        texts, contexts = [one.text for one in examples], [one.context for one in examples]
        self._features = SentenceFeatures()
        features = self._features.fit_transform(texts, contexts)
        self._intents = IntentClassifier(features, examples)
        self._items = ItemClassifiers(features, examples)
        self._tagger = Tagger(examples)

    def read(self, texts: Sequence[str], contexts: Sequence[str], most: int = 1) -> list[list[Reading]]:
        """Of each sentence the readings of its `most` most probable intents, most probable first."""
        if not texts:
            return []
        features = self._features.transform(texts, contexts)
        p_intent, p_items = self._intents.probabilities(features), self._items.probabilities(features)
        return [
            self._readings(text, context, of_intent, of_items, most)
            for text, context, of_intent, of_items in zip(texts, contexts, p_intent, p_items, strict=True)
        ]

    def probabilities(self, text: str, context: str, frames: Sequence[tuple[str, frozenset[Item]]]) -> Floats:
        """Probability of each intent with its items, whether or not it is what the NLU would read itself."""
        features = self._features.transform([text], [context])
        p_intent = dict(zip(self._intents.intents, self._intents.probabilities(features)[0], strict=True))
        unsaid = self._is_unsaid(text)
        p_items = self._items.probabilities(features)[0]
        p_unsaid = dict(zip(compress(self._items.items, unsaid), p_items[unsaid], strict=True))
        return np.array(
            [
                p_intent.get(intent, _LEAST) * self._p_items(text, context, intent, items, p_unsaid)
                for intent, items in frames
            ]
        )

    def _p_items(
        self, text: str, context: str, intent: str, items: frozenset[Item], p_unsaid: Mapping[Item, float]
    ) -> float:
        said = {item: place for item in items if (place := place_of(item, text)) is not None}
        tagged = tuple(Tagged(slot, *place) for (slot, _), place in said.items())
        found = max(self._tagger.probability(text, context, intent, tagged), _LEAST)
        p_meant = [p if item in items else 1 - p for item, p in p_unsaid.items()]
        return float(found * np.prod(p_meant) * _LEAST ** len(items - said.keys() - p_unsaid.keys()))

    def _readings(self, text: str, context: str, p_intent: Floats, p_items: Floats, most: int) -> list[Reading]:
        meant, p_meant = self._unsaid(text, p_items)
        found = []
        for at in np.argsort(-p_intent, kind="stable")[:most]:
            intent = self._intents.intents[at]
            tagged, p_tagged = self._tagger.tag(text, context, intent)
            said = {(one.slot, text[one.start : one.end].casefold()) for one in tagged}
            found.append(Reading(intent, frozenset(said | meant), float(p_intent[at]), p_tagged * p_meant))
        return sorted(found, key=lambda reading: -reading.probability)

    def _unsaid(self, text: str, p_items: Floats) -> tuple[set[Item], float]:
        """Items that the sentence means though their values do not stand in it, and the probability of just these."""
        unsaid = self._is_unsaid(text)
        chosen = np.flatnonzero(unsaid & (p_items > _EVEN))
        p_right = np.maximum(p_items, 1 - p_items)[unsaid]
        return {self._items.items[at] for at in chosen}, float(np.exp(np.log(p_right).sum()))

    def _is_unsaid(self, text: str) -> npt.NDArray[np.bool_]:
        """Of each item, whether its value does not stand in the text."""
        return np.array([place_of(item, text) is None for item in self._items.items], dtype=bool)
