"""Where words stand in the files of a folder, whatever their form."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow.parquet as pq


def files_holding(folder: Path, *words: str) -> list[str]:
    """Each file that holds one of the words, with the word; compressed columns and archives are opened."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return [f"{word} in {file}" for file in files for word in words if word.encode() in _content(file)]


def _content(file: Path) -> bytes:
    content = file.read_bytes()
    if content.startswith(b"PAR1"):
        return content + str(pq.ParquetFile(file).read().to_pydict()).encode()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
