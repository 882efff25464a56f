"""A reference NLU, to close the loop and to gate releases; not one to deploy."""

from selflearn.nlu.examples import Example, Item, Reading, Tagged, Tags, examples_of
from selflearn.nlu.intents import IntentReader, LatentSentences
from selflearn.nlu.reference import ReferenceNLU

__all__ = [
    "Example",
    "IntentReader",
    "Item",
    "LatentSentences",
    "Reading",
    "ReferenceNLU",
    "Tagged",
    "Tags",
    "examples_of",
]
