"""Settings as they are read: from a YAML file, with every mistake named at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from selflearn.errors import SettingsError
from selflearn.settings.sections import Settings, Source

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def load_settings(path: Path) -> Settings:
    """Read a settings file; relative paths in it are relative to the file.

    Raises:
        SettingsError: the file is missing, not YAML, or has mistakes (all of them are named).
    """
    try:
        with path.open("rb") as file:
            content = yaml.load(file, _UniqueKeys)
    except FileNotFoundError:
        raise SettingsError(
            f"settings file {path} does not exist",
            "write one (see README, 'Mining your own logs') or give --settings",
        ) from None
    except (yaml.YAMLError, OSError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"settings file {path} cannot be read: {reason}", "mend it at that place") from None
    return _anchored(parse_settings(content, str(path)), path.parent.absolute())


def parse_settings(content: Any, origin: str = "settings") -> Settings:
    """Validate already loaded settings; every mistake is named in one `SettingsError`."""
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        mistakes = [_describe(detail) for detail in error.errors()]
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        listed = "".join(f"\n  - {mistake}" for mistake in mistakes)
        raise SettingsError(f"{origin} has {count}:{listed}", "mend each line named above") from None


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _describe(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"]) or "(top)"
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if detail["type"] == "missing":
        return f"{where}: required, but missing"
    return f"{where}: {message} (got {detail['input']!r:.80})"


def _anchored(settings: Settings, folder: Path) -> Settings:
    def anchor(path: str) -> str:
        return path if _ADDRESS.match(path) else str(folder / Path(path).expanduser())

    def source(given: Source) -> Source:
        return given.model_copy(update={"path": anchor(given.path)})

    def encoder(name: str | None) -> str | None:
        return anchor(name) if name and (folder / Path(name).expanduser()).is_dir() else name

    changes: dict[str, Any] = {"lake": anchor(settings.lake), "source": source(settings.source)}
    if settings.launch:
        changes["launch"] = source(settings.launch)
    golden = {name: source(given) for name, given in settings.release.golden.items()}
    changes["release"] = settings.release.model_copy(update={"golden": golden})
    variants, detect = settings.variants, settings.detect
    changes["variants"] = variants.model_copy(update={"encoder": encoder(variants.encoder)})
    changes["detect"] = detect.model_copy(
        update={
            "encoder": encoder(detect.encoder),
            "model": Path(anchor(str(detect.model))) if detect.model else None,
        }
    )
    requests = settings.maintenance.erasure_requests
    changes["maintenance"] = settings.maintenance.model_copy(
        update={"erasure_requests": anchor(requests) if requests else None}
    )
    return settings.model_copy(update=changes)
