"""The dataset card: what a training set holds, how it came about, and what it was measured to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from selflearn.release.gate import Verdict
from selflearn.release.issues import Issues
from selflearn.release.rows import Row

_SPLITS = ("train", "validation", "test")
_ORIGINS = {
    "launch": "sentence of the launch set",
    "corrected": "mined: the deployed NLU read it otherwise, or was unsure",
    "hard_negative": "mined: near in words to a corrected one, but of another meaning",
    "confirmed": "mined: the deployed NLU reads it so, and people's behaviour agrees",
    "unsure": "mined: the likeliest intent, and not sure; only in the split to train on, and to leave out where every "
    "example has to be right",
}


@dataclass(frozen=True)
class Made:
    """How a release came about.

    Attributes:
        release_id: its name.
        as_of: the last day that was mined.
        settings_fingerprint: of the run.
        champion_id: the release it was compared with, None for the launch set or nothing.
        left_out: reason to the number of chosen labels that were dropped for it.
    """

    release_id: str
    as_of: date
    settings_fingerprint: str
    champion_id: str | None
    left_out: dict[str, int]


def card(made: Made, examples: Sequence[Row], issues: Issues, verdict: Verdict) -> str:
    """The card in Markdown."""
    mined = [row["weight"] for row in examples if row["origin"] != "launch"]
    parts = [
        f"# Training set {made.release_id}",
        "Sentences said to an assistant with intent and slots, to train its NLU on. The launch set is what the "
        "deployed NLU was trained on; the rest was mined from the assistant's own log, by what people did when it "
        "failed them, and was read by no person.",
        _table(("split", *_ORIGINS), [(name, *_counts(examples, name)) for name in _SPLITS]),
        "\n".join(f"- `{name}`: {meaning}" for name, meaning in _ORIGINS.items()),
        f"{len({row['locale'] for row in examples})} locales, {len({row['intent'] for row in examples})} intents; "
        f"{sum(row['is_intent_only'] for row in examples):,} examples have an intent alone.",
        "## Columns",
        "`text, locale, context` (what the system had just asked), `intent`, `slots` (name, value, start, end), "
        "`annotated_utterance`, `is_intent_only`, `weight` (the probability that the label is right; 1 for launch "
        "sentences), `other_intents` (what else an unsure one may be, each with its weight), `origin`, `split`, "
        "`reason`, `utterance_id`, `example_id`.",
        "## Splits",
        "By people and time: a fifth of the people are held out; a mined sentence that nobody else said is in "
        "validation or, if among the newer half, in test, unless it is unsure. Launch sentences are split by their "
        "words. No sentence is in two splits.",
        "## What it was measured to do",
        _compared(made, verdict),
        "## What to look at",
        ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in issues.counts.items() if count)
        or "Nothing.",
        "## Limits",
        f"Mined labels are weak: of these {len(mined):,} about {sum(1 - weight for weight in mined):,.0f} are expected "
        "to be wrong. They speak of people who used the assistant, and of what it could do already. Personal data "
        "was masked by pattern; names that people say are still there.",
        _provenance(made),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _counts(examples: Sequence[Row], split: str) -> list[str]:
    found = Counter(row["origin"] for row in examples if row["split"] == split)
    return [f"{found[name]:,}" for name in _ORIGINS]


def _compared(made: Made, verdict: Verdict) -> str:
    if not verdict.comparisons:
        return f"{verdict.reason[:1].upper()}{verdict.reason[1:]}."
    rows = [
        (one.suite, f"{one.n:,}", f"{one.champion:.3f}", f"{one.challenger:.3f}", f"{one.low:+.3f} to {one.high:+.3f}")
        for one in verdict.comparisons
    ]
    against = made.champion_id or "the launch set alone"
    return f"Share of right frames, before ({against}) and after, change at 95 %:\n\n" + _table(
        ("sentences of", "number", "before", "after", "change"), rows
    )


def _provenance(made: Made) -> str:
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in made.left_out.items() if count)
    left_out = f" Left out: {dropped}." if dropped else ""
    return f"Mined as of {made.as_of.isoformat()}, settings `{made.settings_fingerprint}`.{left_out}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join(map(line, [head, ["---"] * len(head), *rows]))
