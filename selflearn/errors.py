"""Errors a person can act on: what is wrong, the value, the limit and the next step.

Exit codes tell an operator, or a scheduler, which kind of hand is needed:
2 settings, 3 data, 4 volume, 5 infrastructure.
"""

from __future__ import annotations

from typing import ClassVar


class SelflearnError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        what: one sentence that says what is wrong, with the offending value and the limit in it.
        next_step: what the reader should do now.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(f"{what}\n  Next: {next_step}")
        self.what = what
        self.next_step = next_step


class SettingsError(SelflearnError):
    """The settings file or a command-line value cannot be used."""

    exit_code = 2


class DataError(SelflearnError):
    """The input, or a table, does not hold what the stage needs."""

    exit_code = 3


class VolumeError(SelflearnError):
    """There is more (or less) data than a stated limit allows."""

    exit_code = 4


class InfrastructureError(SelflearnError):
    """Java, Spark, storage or the network is missing or refuses."""

    exit_code = 5
