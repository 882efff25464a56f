"""Secrets: never in a settings file, but in the environment or a file that it names."""

from __future__ import annotations

import os
from pathlib import Path

from selflearn.errors import SettingsError

USER_KEY_VARIABLE = "SELFLEARN_USER_KEY"
USER_KEY_FILE_VARIABLE = "SELFLEARN_USER_KEY_FILE"
_MIN_USER_KEY_LENGTH = 16


def read_user_key() -> bytes:
    """The secret that user ids are hashed with, from the environment or a file it names.

    Raises:
        SettingsError: no key is given, or it has fewer than 16 characters.
    """
    key = os.environ.get(USER_KEY_VARIABLE, "")
    file = os.environ.get(USER_KEY_FILE_VARIABLE)
    if not key and file:
        try:
            key = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{USER_KEY_FILE_VARIABLE} names {file}, which cannot be read ({error})",
                "name a readable file that holds the key",
            ) from None
    if len(key) < _MIN_USER_KEY_LENGTH:
        raise SettingsError(
            f"the key that user ids are hashed with has {len(key)} characters, at least {_MIN_USER_KEY_LENGTH} needed",
            f"set {USER_KEY_VARIABLE} (for example to the output of `openssl rand -hex 32`) and keep it: "
            "another key makes other users",
        )
    return key.encode()
