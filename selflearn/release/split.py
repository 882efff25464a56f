"""Splits by people and by time.

A fifth of all people, chosen by their hash, is held out: a sentence that nobody else ever said goes to validation or
test, the newer half of these to test. What the others said too is trained on. So nobody who said a sentence of the
test set said it to the training set, and a test is of sentences that came last. Labels know their people by sketches,
so the rule needs no more: the sketch of a sentence holds a person who is not held out, or it does not; where it holds
no more than the smallest hashes of very many people, some of these are not held out.

Launch sentences have no people: theirs is the split that the hash of their words gives them, in every release.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.release.rows import Row, Sentence, digest, sentence_of

_GROUPS = 5
_HELD_OUT_GROUP = 0
_LAUNCH_PERCENT = {"validation": range(10), "test": range(10, 20)}


def with_first_said(labels: DataFrame, evidence: DataFrame) -> DataFrame:
    """Labels with `first_day`, and `is_held_out`: whether only people who are held out said the utterance.

    Args:
        labels: `utterance_id`, and anything else.
        evidence: rows of `tables.EVIDENCE`, of the days that count.
    """
    # Sketches keep the smallest hashes, so that a group must not depend on how large a hash is.
    is_held_out = F.forall(F.col("users"), lambda person: F.pmod(person, F.lit(_GROUPS)) == _HELD_OUT_GROUP)
    said = (
        evidence.where("kind = 'utterance'")
        .groupBy(F.col("source_utterance").alias("utterance_id"))
        .agg(F.min("turn_date").alias("first_day"), F.bool_and(is_held_out).alias("is_held_out"))
    )
    found = labels.join(said, "utterance_id", "left")
    return found.withColumn("is_held_out", F.coalesce("is_held_out", F.lit(False)))


def launch_split(sentence: Sentence) -> str:
    """Of a launch sentence: by its words."""
    percent = int(digest(*sentence), 16) % 100
    return next((name for name, percents in _LAUNCH_PERCENT.items() if percent in percents), "train")


def split_of_sentences(launch: Sequence[Row], mined: Sequence[Row]) -> dict[Sentence, str]:
    """The split of every sentence.

    Args:
        launch: launch sentences.
        mined: rows with `first_day` and `is_held_out`; several may be of one sentence.
    """
    splits = {sentence: launch_split(sentence) for sentence in map(sentence_of, launch)}
    of_sentence: Mapping[Sentence, list[Row]] = defaultdict(list)
    for row in mined:
        of_sentence[sentence_of(row)].append(row)
    held_out: list[tuple[date, str, Sentence]] = []
    for sentence, rows in of_sentence.items():
        if sentence in splits:
            continue
        splits[sentence] = "train"
        if all(row["is_held_out"] for row in rows):
            held_out.append((min(row["first_day"] for row in rows), digest(*sentence), sentence))
    for place, (*_, sentence) in enumerate(sorted(held_out)):
        splits[sentence] = "validation" if place < len(held_out) // 2 else "test"
    return splits
