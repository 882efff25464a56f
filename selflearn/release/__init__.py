"""Release: an immutable, versioned, gated training set, and ways to read it."""

from selflearn.release.card import Made, card
from selflearn.release.export import FORMATS, export_release
from selflearn.release.gate import Comparison, Suite, Verdict, judge
from selflearn.release.issues import Issues, find_issues
from selflearn.release.likeness import leaks
from selflearn.release.reader import (
    Difference,
    compare_releases,
    find_release,
    load_training_set,
    read_examples,
    read_releases,
    read_vetoes,
)
from selflearn.release.rows import Row, sentence_of
from selflearn.release.selection import select_labels
from selflearn.release.split import with_first_said
from selflearn.release.suites import held_out, suites_of
from selflearn.release.trainer import read_by_each
from selflearn.release.training_set import check_intents, content_hash, training_set
from selflearn.release.vetoes import Veto, veto, without_vetoed

__all__ = [
    "FORMATS",
    "Comparison",
    "Difference",
    "Issues",
    "Made",
    "Row",
    "Suite",
    "Verdict",
    "Veto",
    "card",
    "check_intents",
    "compare_releases",
    "content_hash",
    "export_release",
    "find_issues",
    "find_release",
    "held_out",
    "judge",
    "leaks",
    "load_training_set",
    "read_by_each",
    "read_examples",
    "read_releases",
    "read_vetoes",
    "select_labels",
    "sentence_of",
    "suites_of",
    "training_set",
    "veto",
    "with_first_said",
    "without_vetoed",
]
