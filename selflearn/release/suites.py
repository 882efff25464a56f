"""What challenger and champion are compared on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from selflearn.release.gate import Suite
from selflearn.release.rows import Row, Sentence, sentence_of

HEAD, LAUNCH, MINED = "head traffic", "launch set", "mined"


def suites_of(
    head: Sequence[Row],
    golden: Mapping[str, Sequence[Row]],
    launch: Sequence[Row],
    mined: Sequence[Row],
    protected_intents: Sequence[str],
) -> list[Suite]:
    """The suites of a gate.

    Protected are: the head of the traffic as the deployed NLU serves it today, each sentence by its turns; every golden
    set; the launch sentences that are held out; and of all these the sentences of each protected intent. Held-out
    mined sentences have labels that may be wrong, so they are not.

    Args:
        head: confirmed labels of what several people say, with `n_turns` and `p_correct`.
        golden: evaluation sets, by name.
        launch: launch sentences of the split `test`.
        mined: labels of people who are held out, with `p_correct`; see `held_out`.
        protected_intents: names.
    """
    named = {**{f"golden {name}": list(rows) for name, rows in golden.items()}, LAUNCH: list(launch)}
    found = [_suite(HEAD, head, [row["n_turns"] for row in head])]
    found += [_suite(name, rows) for name, rows in named.items()]
    known = [row for rows in (head, *named.values()) for row in rows]
    for intent in protected_intents:
        found.append(_suite(f"intent {intent}", [row for row in known if row["intent"] == intent]))
    return [*found, _suite(MINED, mined, is_protected=False)]


def held_out(rows: Sequence[Row], trainings: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of people who are held out, whose sentence stands in none of the training sets."""
    known: set[Sentence] = {sentence_of(row) for rows in trainings for row in rows}
    return [row for row in rows if row["is_held_out"] and sentence_of(row) not in known]


def _suite(name: str, rows: Sequence[Row], weights: Sequence[float] | None = None, is_protected: bool = True) -> Suite:
    """Of a sentence that was not mined the meaning is certain."""
    counts = np.ones(len(rows)) if weights is None else np.array(weights)
    doubts = [1 - row.get("p_correct", 1.0) for row in rows]
    return Suite(name, tuple(rows), counts, is_protected, float(np.average(doubts, weights=counts)) if rows else 0.0)
