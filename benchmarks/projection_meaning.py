"""Values put on words that mean them: the projection with an encoder beside it without one. `--data DIR --out OUT`.

DIR holds `xsid`, `slurp_asr`, `slurp_text` and `hwu64` as `.jsonl.gz`. The encoders are trained on sentences with the
goals that a log would give them, as `selflearn encoder train` does it.

*Other languages*: the goal has the English sentence's values, as that of an assistant whose values are canonical; the
words are those of its translations into nine languages and dialects. *Dialects*: the goal has the values of one of the
eleven Norwegian wordings, the words are the other ten. Meanings are split by the MD5 of what they are: the encoder
learns three fifths, on one fifth the way in which meanings are compared was chosen, one fifth is reported. A place is
right where it is the one that the sentence's own tags have. *Misheard*: `benchmarks/projection.py`'s recognised texts,
of the half of SLURP that chose nothing and that the encoder has not seen.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from common import print_figures, write_scores
from dstc2_log import Row, read_rows
from encoder import Sentence, labelled, train
from projection import Case, Value, guessed, is_reported, mangled, parsed, recognised, scores
from selflearn.labels.meaning import Encode
from selflearn.turns.text import frame_goal, normalise_text

_LEARNT, _CHOSEN_ON = 0.6, 0.8
_CANONICAL = {"en": "en", "no": "B"}
_RECOGNISABLE = 0.5

Spans = dict[str, tuple[int, int]]


def main() -> None:
    """Run the benchmark and write its files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores")
    given = parser.parse_args()
    meanings = translated(given.data)
    figures: dict[str, Any] = {}
    for name, kind in (("other_languages", "en"), ("dialects", "no")):
        encode = train(list(learnt(meanings, kind))).encoder().encode
        figures[name] = with_and_without(renamed(meanings, kind), encode, 0.0)
    encode = train(english(given.data)).encoder().encode
    figures["misheard"] = with_and_without(recognised(given.data, is_reported), encode, _RECOGNISABLE)
    packages = ("sentence-transformers", "tokenizers", "torch")
    write_scores(given.out, figures, {name: version(name) for name in packages})
    print_figures("Slot values put on words that mean them", figures)


def with_and_without(cases: Sequence[Case], encode: Encode, recognisable: float) -> dict[str, Any]:
    """Scores of all values and of those that do not stand letter by letter."""
    return {
        name: {
            "all": scores(cases, recognisable, by),
            "not_letter_by_letter": scores(mangled(cases), recognisable, by),
            "guessed": guessed(cases, by),
        }
        for name, by in (("with", encode), ("without", None))
    }


def translated(folder: Path) -> dict[str, list[Row]]:
    """Rows of one meaning: of an English sentence and its translations, or of the wordings of a Norwegian one."""
    found = defaultdict(list)
    for row in read_rows(folder, "xsid"):
        if row["lang"] == "no":
            number, wording = row["id"].split("/")
            found[f"no|{row['split']}|{number}"].append({**row, "of": wording})
        english = row["text"] if row["lang"] == "en" else row.get("text_en")
        if english:
            found[f"en|{normalise_text(english)}"].append({**row, "of": row["lang"]})
    return dict(sorted(found.items()))


def learnt(meanings: Mapping[str, Sequence[Row]], kind: str) -> Iterator[Sentence]:
    """Sentences that the encoder learns, with the goal of their meaning."""
    for key, rows in meanings.items():
        goal = _goal(rows, kind)
        if key.startswith(kind) and goal and _place(key) < _LEARNT:
            of = frame_goal(goal[0], list(goal[1].items()))
            yield from (Sentence(row["of"], normalise_text(_tagged(row)[0]), goal[0], of, True) for row in rows)


def renamed(meanings: Mapping[str, Sequence[Row]], kind: str) -> list[Case]:
    """The reported sentences but those that their goals are of, with the goals' values."""
    cases = []
    for key, rows in meanings.items():
        goal = _goal(rows, kind)
        if not key.startswith(kind) or not goal or _place(key) < _CHOSEN_ON:
            continue
        intent, values = goal
        for row in rows:
            text, spans = _tagged(row)
            if row["of"] != _CANONICAL[kind] and row["intent"] == intent and spans.keys() == values.keys():
                said = (_value(name, value, text, spans[name]) for name, value in values.items())
                cases.append(Case(text, tuple(said)))
    return cases


def english(folder: Path) -> list[Sentence]:
    """Sentences with goals, but for those whose recordings are reported."""
    annotated = (row["annot"] for row in read_rows(folder, "slurp_text") if row.get("annot"))
    sentences = {parsed(row)[0] for row in annotated}
    held_out = {normalise_text(sentence) for sentence in sentences if is_reported(sentence)}
    both = [*labelled(folder, "slurp_text"), *labelled(folder, "hwu64")]
    return [sentence for sentence in both if sentence.goal and sentence.text not in held_out]


def _goal(rows: Sequence[Row], kind: str) -> tuple[str, dict[str, str]] | None:
    """Intent and values of the canonical wording; None where there is none, or it has no slots, or one twice."""
    for row in rows:
        if row["of"] == _CANONICAL[kind]:
            text, spans = _tagged(row)
            return (row["intent"], {name: text[start:end] for name, (start, end) in spans.items()}) if spans else None
    return None


def _tagged(row: Row) -> tuple[str, Spans]:
    """The words in lower case, and where each slot stands; none where a slot stands twice."""
    text, spans, before = "", [], "O"
    for token, tag in zip(row["tokens"], row["tags"], strict=True):
        start = len(text) + bool(text)
        text = f"{text} {token}".lstrip().casefold()
        # Some rows mark every word of a value as its first.
        if tag != "O" and before[2:] == tag[2:]:
            spans[-1] = (tag[2:], (spans[-1][1][0], len(text)))
        elif tag != "O":
            spans.append((tag[2:], (start, len(text))))
        before = tag
    return text, dict(spans) if len(dict(spans)) == len(spans) else {}


def _value(slot: str, written: str, text: str, place: tuple[int, int]) -> Value:
    there = text[place[0] : place[1]].replace(" ", "")
    return Value(slot, written, place, Levenshtein.normalized_similarity(written.replace(" ", ""), there))


def _place(key: str) -> float:
    return int(hashlib.md5(f"part|{key}".encode(), usedforsecurity=False).hexdigest()[:8], 16) / 2**32


if __name__ == "__main__":
    main()
