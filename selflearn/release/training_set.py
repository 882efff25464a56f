"""The rows of a training set, on the driver: launch sentences and chosen labels, each in its split."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence

from selflearn.errors import DataError
from selflearn.release.rows import Row, digest, sentence_of
from selflearn.release.split import split_of_sentences

EXAMPLE = (
    "example_id",
    "split",
    "origin",
    "locale",
    "context",
    "text",
    "intent",
    "slots",
    "is_intent_only",
    "annotated_utterance",
    "weight",
    "other_intents",
    "utterance_id",
    "reason",
)
"""Columns of `tables.TRAINING_SETS` but `release_id`."""


def training_set(launch: Sequence[Row], chosen: Sequence[Row]) -> list[Row]:
    """Rows of `EXAMPLE` by `example_id`; equal ones once, of which launch sentences win.

    Args:
        launch: annotated launch sentences: `locale, context, text, intent, slots, is_intent_only,
            annotated_utterance, utterance_id`.
        chosen: rows of `selection.CHOSEN`.
    """
    splits = split_of_sentences(launch, chosen)
    given = {"origin": "launch", "weight": 1.0, "other_intents": [], "reason": "stands in the launch set"}
    rows = [*(row | given for row in launch), *chosen]
    # The last of equal ones stays.
    examples = {
        example_id: {name: row[name] for name in EXAMPLE if name in row}
        | {"example_id": example_id, "split": splits[sentence_of(row)]}
        for row in reversed(rows)
        for example_id in [digest(row["utterance_id"], row["intent"], row["annotated_utterance"])]
    }
    return [{name: row[name] for name in EXAMPLE} for _, row in sorted(examples.items())]


def check_intents(examples: Collection[Row]) -> None:
    """See that there is something to tell apart.

    Raises:
        DataError: what is trained on has one intent alone, or none.
    """
    intents = Counter(row["intent"] for row in examples if row["split"] == "train")
    if len(intents) < 2:
        held = f"have the one intent {next(iter(intents))!r}" if intents else "are held out"
        raise DataError(
            f"all {intents.total() or len(examples)} examples {held}, and a classifier needs two intents to train on",
            "name the launch set under `launch` in the settings, or mine more days",
        )


def content_hash(examples: Collection[Row]) -> str:
    """Ten hex digits of the examples, whatever their order: same content, same release."""
    lines = sorted(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:10]
