"""selflearn: self-learning for conversational assistants, on Spark and Delta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selflearn.release.reader import load_training_set

__all__ = ["__version__", "load_training_set"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazy: Spark's Python workers import this package often and never read a training set.
    if name == "load_training_set":
        from selflearn.release.reader import load_training_set

        return load_training_set
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
