"""Settings of a deployment: what they are, how they are read, and what is kept out of them."""

from selflearn.settings.files import load_settings, parse_settings
from selflearn.settings.secrets import USER_KEY_FILE_VARIABLE, USER_KEY_VARIABLE, read_user_key
from selflearn.settings.sections import (
    Detect,
    Graph,
    Labels,
    Maintenance,
    Release,
    Rewrites,
    Settings,
    Source,
    Trainer,
    Turns,
    Variants,
)

__all__ = [
    "USER_KEY_FILE_VARIABLE",
    "USER_KEY_VARIABLE",
    "Detect",
    "Graph",
    "Labels",
    "Maintenance",
    "Release",
    "Rewrites",
    "Settings",
    "Source",
    "Trainer",
    "Turns",
    "Variants",
    "load_settings",
    "parse_settings",
    "read_user_key",
]
