"""Release: an immutable, versioned training set, and ways to read it."""

from selflearn.release.export import export_jsonl
from selflearn.release.reader import load_training_set
from selflearn.release.selection import content_hash, select_examples

__all__ = ["content_hash", "export_jsonl", "load_training_set", "select_examples"]
