"""Erasure: what a lake holds of people who asked to be forgotten, and the rows that are left without them."""

from selflearn.erasure.evidence import held_by, without_people
from selflearn.erasure.traces import (
    days_knowing,
    holding,
    only_theirs,
    said,
    unsupported,
    words_of_evidence,
    words_of_turns,
)

__all__ = [
    "days_knowing",
    "held_by",
    "holding",
    "only_theirs",
    "said",
    "unsupported",
    "without_people",
    "words_of_evidence",
    "words_of_turns",
]
