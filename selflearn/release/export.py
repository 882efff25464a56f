"""Training sets as plain files, for trainers that read no Delta."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from selflearn.errors import SettingsError
from selflearn.release.formats.huggingface import SCHEMA, write_huggingface
from selflearn.release.formats.massive import write_massive
from selflearn.release.formats.rasa import write_rasa
from selflearn.release.reader import find_release, read_examples
from selflearn.release.rows import Row

_Writer = Callable[[Sequence[Row], Path, str], list[Row]]


@dataclass(frozen=True)
class Exported:
    """How many examples were written, and those that the format cannot carry."""

    n_written: int
    refused: list[Row]


def export_release(lake: str | Path, out: Path, format_name: str = "jsonl", release: str | None = None) -> Exported:
    """Write a published release; it appears whole or not at all.

    Args:
        lake: the lake folder.
        out: the file (jsonl) or the folder (all others) to write; a file is replaced, a folder must not be there.
        format_name: one of `FORMATS`.
        release: a release id; left out, the one in use.

    Raises:
        SettingsError: the format is unknown, or the folder is there.
        DataError: there is no such release.
    """
    if format_name not in FORMATS:
        raise SettingsError(f"there is no format {format_name!r}", f"choose from {', '.join(FORMATS)}")
    found = find_release(lake, release, published=True)
    examples = read_examples(lake, found["release_id"])
    writer = _FOLDERS.get(format_name)
    if writer is None:
        export_jsonl(examples, out)
        return Exported(len(examples), [])
    with _appearing(out) as folder:
        folder.mkdir()
        refused = writer(examples, folder, found["card"])
    return Exported(len(examples) - len(refused), refused)


def export_jsonl(examples: Sequence[Row], path: Path) -> None:
    """Write one JSON object per example, UTF-8, in the order given."""
    if path.is_dir():
        raise SettingsError(f"{path} is a folder", "name a file with --out")
    with _appearing(path, replaces=True) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in examples)


def _delta(examples: Sequence[Row], folder: Path, card: str) -> list[Row]:
    write_deltalake(str(folder), pa.Table.from_pylist(list(examples), SCHEMA), description=card)
    return []


_FOLDERS: dict[str, _Writer] = {
    "parquet": write_huggingface,
    "massive": lambda examples, folder, card: write_massive(examples, folder),
    "rasa": lambda examples, folder, card: write_rasa(examples, folder),
    "delta": _delta,
}
FORMATS = ("jsonl", *_FOLDERS)


@contextmanager
def _appearing(path: Path, replaces: bool = False) -> Iterator[Path]:
    """A place beside the path that becomes it once all is written."""
    if path.exists() and not replaces:
        raise SettingsError(f"{path} is there already", "name another folder with --out, or remove this one")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        unfinished.unlink(missing_ok=True)
