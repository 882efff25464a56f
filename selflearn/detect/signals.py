"""The signals that two turns of one session are compared by, and their ordered levels.

A signal is a number (or missing). It is cut into a few ordered levels, so that a model of the pair is a table
of weights that a person can read. Nothing here knows a language: characters, values and goals are compared,
never words of a vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Group = Literal["source", "similarity", "context"]


@dataclass(frozen=True)
class Signal:
    """One comparison: `edges` are the lower bounds of levels 2, 3, ...; level 0 stands for "missing"."""

    name: str
    group: Group | Literal["own", "outcome"]
    edges: tuple[float, ...]
    meaning: str

    @property
    def n_levels(self) -> int:
        return len(self.edges) + 2


YES = (0.5,)

PAIR_SIGNALS: tuple[Signal, ...] = (
    Signal("source_confidence", "source", (0.3, 0.5, 0.7, 0.9, 0.99), "probability of the source's top reading"),
    Signal("source_unread", "source", YES, "the source got no reading, or the fallback"),
    Signal(
        "source_recognition",
        "source",
        (0.05, 0.22, 0.5, 0.74, 0.9),
        "the recogniser's confidence in the source",
    ),
    Signal("source_trouble", "source", YES, "error, cancellation or a thumbs-down on the source"),
    Signal("source_completed", "source", YES, "the assistant reports that it did what it read"),
    Signal("source_interrupted", "source", YES, "the user cut into the answer to the source"),
    Signal(
        "text_similarity",
        "similarity",
        (0.3, 0.5, 0.65, 0.8, 0.999),
        "best character ratio of the two n-bests' first texts",
    ),
    Signal(
        "sound_similarity",
        "similarity",
        (0.4, 0.55, 0.67, 0.8, 0.999),
        "the same of their consonants' classes, in any script",
    ),
    Signal("words_shared", "similarity", (0.001, 0.15, 0.3, 0.5, 0.8), "words common to both n-bests, in any order"),
    Signal("wording_shared", "similarity", (0.15, 0.3, 0.45, 0.6, 0.75, 0.9), "characters common to both n-bests"),
    Signal(
        "meaning_similarity",
        "similarity",
        (0.2, 0.4, 0.6, 0.75, 0.85, 0.95, 0.999),
        "cosine of the two first texts' vectors, where an encoder is set",
    ),
    Signal(
        "item_again",
        "similarity",
        (0.01, 0.05, 0.15, 0.3, 0.5, 0.75),
        "probability of an item that both said and the source's reading lacks",
    ),
    Signal(
        "value_again",
        "similarity",
        (0.001, 0.01, 0.05, 0.2),
        "a value the source's reading lacks, in both n-bests",
    ),
    Signal(
        "reading_offered",
        "similarity",
        (0.01, 0.05, 0.2),
        "probability that the source's alternatives gave the target's reading",
    ),
    Signal("values_shared", "similarity", (0.01, 0.5, 0.99), "overlap of the two top readings' values"),
    Signal("value_contradicts", "similarity", YES, "the same slot with another value"),
    Signal(
        "value_heard",
        "similarity",
        (0.01, 0.6, 0.75, 0.9),
        "new values of the target found in the source's words",
    ),
    Signal("gap", "context", (5, 8, 12, 20, 40), "seconds between the two turns"),
    Signal("distance", "context", (1.5, 2.5, 3.5), "turns between the two"),
    Signal("prompt_repeated", "context", (0.5, 1.5), "same context, same prompt asked again"),
    Signal("target_unread", "context", YES, "the target got no reading, or the fallback"),
    Signal("target_last", "context", YES, "the session ends with the target"),
    Signal("length_ratio", "context", (-1, -0.4, -0.1, 0.1, 0.4, 1), "log of the target's length over the source's"),
)
WITHHELD_SIGNALS = ("text_similarity", "value_again")
"""What the number of steps of a fit is chosen by: no ingredient of the seed."""
PAIR_SIGNAL_NAMES = tuple(signal.name for signal in PAIR_SIGNALS)


class OtherSignalsError(ValueError):
    """A saved model weighs other signals, or cuts them into other levels, than this version does."""


def check_signals(names: Sequence[str], edges: Sequence[Sequence[float]], declared: Sequence[Signal]) -> None:
    """Refuse a saved model whose signals, by name and edges, are not the declared ones.

    Raises:
        OtherSignalsError: with what differs.
    """
    saved = {name: tuple(cut) for name, cut in zip(names, edges, strict=True)}
    now = {signal.name: signal.edges for signal in declared}
    differing = [
        *(f"{name} is no signal of this version" for name in saved if name not in now),
        *(f"{name} is missing" for name in now if name not in saved),
        *(
            f"{name} is cut at {saved[name]}, here at {now[name]}"
            for name in now
            if saved.get(name, now[name]) != now[name]
        ),
    ]
    if not differing and list(names) != list(now):
        differing = [f"the order is {tuple(names)}, here {tuple(now)}"]
    if differing:
        raise OtherSignalsError("; ".join(differing))


def levels(signals: npt.NDArray[np.float64], declared: Sequence[Signal]) -> npt.NDArray[np.int8]:
    """Cut signals of shape (rows, signals) into levels: 0 for missing, else 1 + edges reached.

    >>> levels(np.array([[0.95], [np.nan]]), [Signal("s", "source", (0.5, 0.9), "")]).tolist()
    [[3], [0]]
    """
    cut = np.empty(signals.shape, dtype=np.int8)
    for column, signal in enumerate(declared):
        values = signals[:, column]
        cut[:, column] = np.where(np.isnan(values), 0, 1 + np.digitize(values, signal.edges))
    return cut


def level_patterns(cut: npt.NDArray[np.int8]) -> pa.StringArray:
    """Rows of levels, shape (rows, signals), as strings of digits.

    >>> level_patterns(np.array([[3, 0], [1, 2]], dtype=np.int8)).to_pylist()
    ['30', '12']
    """
    digits = np.ascontiguousarray(cut + ord("0"), dtype=np.uint8)
    offsets = np.arange(0, digits.size + 1, max(1, cut.shape[1]), dtype=np.int32)
    return pa.StringArray.from_buffers(len(cut), pa.py_buffer(offsets), pa.py_buffer(digits))


def pattern_levels(patterns: Sequence[str], n_signals: int) -> npt.NDArray[np.int8]:
    """What `level_patterns` made strings of."""
    digits = np.frombuffer("".join(patterns).encode("ascii"), dtype=np.int8) - ord("0")
    return digits.reshape(-1, n_signals).astype(np.int8)
