"""Encoders: texts in, vectors of unit length out.

Three kinds stand behind one protocol: any sentence-transformers model, which needs the extra `encoder`; a folder with
a static one, such as `selflearn encoder train` writes, which is encoded without torch; and hashed character n-grams,
which need nothing at all.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import HashingVectorizer

from selflearn.encoding.static_encoder import StaticEncoder, is_static
from selflearn.errors import DataError, InfrastructureError, SettingsError

Vectors = npt.NDArray[np.float32]
"""Shape (texts, dimension); rows have length one, or zero where nothing is known of a text."""

INSTALL_EXTRA = "pip install 'selflearn[encoder]'"
_N_KEPT = 2
_FINGERPRINT_LENGTH = 12
_BATCH_SIZE = 64
_PATH = re.compile(r"[./~]|[^/]*/[^/]*/|.*\\|[A-Za-z]:")
"""What no name of a model on a hub looks like: `organisation/name` at most."""


class Encoder(Protocol):
    """What turns texts into vectors.

    Attributes:
        encoder_id: name and fingerprint of the content; the same on every machine, another one for other vectors.
        dimension: numbers of a vector.
    """

    @property
    def encoder_id(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of the texts, whatever their order and number."""
        ...


class LexicalEncoder:
    """Counts of character 2- to 4-grams within words, hashed with a sign (Weinberger 2009); nothing is learnt.

    >>> a, b = LexicalEncoder().encode(["wake me up", "wake me at seven"])
    >>> 0.2 < float(a @ b) < 0.8
    True
    """

    encoder_id = "lexical-1"
    dimension = 512

    def __init__(self) -> None:
        self._hashing = HashingVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), n_features=self.dimension, dtype=np.float32
        )

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of the texts; zero of a text without a character."""
        if not len(texts):
            return np.empty((0, self.dimension), dtype=np.float32)
        return np.asarray(self._hashing.transform(texts).toarray(), dtype=np.float32)


class CheckpointEncoder:
    """Any model that sentence-transformers loads, on the processor."""

    def __init__(self, name: str) -> None:
        self._model = _load_checkpoint(name)
        self.dimension = int(self._model.encode([""], show_progress_bar=False).shape[1])
        self.encoder_id = f"{Path(name).name if Path(name).is_dir() else name}-{_fingerprint(self._model)}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of the texts; the library sorts them by length, so that little is padded."""
        if not len(texts):
            return np.empty((0, self.dimension), dtype=np.float32)
        vectors = self._model.encode(
            list(texts), batch_size=_BATCH_SIZE, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float32)


def load_encoder(name: str | None) -> Encoder:
    """The encoder of a name: a folder, a name of a sentence-transformers model, or None for the untrained one.

    The newest few are kept for as long as the process lives; a folder that has changed is loaded again.

    Raises:
        SettingsError: the folder is missing, or holds no model that can be loaded.
        InfrastructureError: the extra `encoder` is needed and not installed, or a model cannot be fetched.
    """
    if name is None:
        return _load(None, ())
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _load(str(folder), _stamp(folder))
    if _PATH.match(name) or folder.exists():
        raise SettingsError(
            f"encoder {name} is no folder",
            "name a folder that `selflearn encoder train` wrote, or a sentence-transformers model",
        )
    return _load(name, ())


def check_dimensions(encoder: Encoder, cached: Iterable[int]) -> None:
    """Compare an encoder with the dimensions found among the vectors cached under its id.

    Raises:
        DataError: some have another dimension.
    """
    other = sorted(set(cached) - {encoder.dimension})
    if other:
        raise DataError(
            f"encoder {encoder.encoder_id} makes vectors of {encoder.dimension} numbers, table utterances holds some "
            f"of {', '.join(map(str, other))} under its name",
            "delete these rows of table utterances, and the next run encodes their texts anew",
        )


@lru_cache(maxsize=_N_KEPT)
def _load(name: str | None, stamp: tuple[tuple[str, int, int], ...]) -> Encoder:
    if name is None:
        return LexicalEncoder()
    if stamp and is_static(Path(name)):
        return StaticEncoder.load(Path(name))
    return CheckpointEncoder(name)


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells a changed folder without reading it: names, times and sizes of its files."""
    found = [(str(file.relative_to(folder)), file.stat()) for file in sorted(folder.rglob("*")) if file.is_file()]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found) or (("", 0, 0),)


def _load_checkpoint(name: str) -> Any:
    if find_spec("sentence_transformers") is None:
        raise InfrastructureError(
            f"encoder {name} needs sentence-transformers, which is not installed",
            f"`{INSTALL_EXTRA}`, or leave the setting out to use the untrained encoder",
        )
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(name, device="cpu")
    # Whatever the many kinds of models raise while they load, the reader's next step is the same.
    except Exception as error:
        reason = " ".join(str(error).split())
        if Path(name).is_dir():
            raise SettingsError(
                f"encoder folder {name} holds no sentence-transformers model that can be loaded: {reason:.300}",
                "name a folder that sentence-transformers or `selflearn encoder train` wrote",
            ) from error
        raise InfrastructureError(
            f"encoder {name} is no folder, and no model of that name can be fetched: {reason:.300}",
            "check the name and the network, or fetch it elsewhere and name its folder",
        ) from error


def _fingerprint(model: Any) -> str:
    """Of the weights and of how the parts are put together."""
    digest = hashlib.sha256(json.dumps([str(part) for part in model]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:_FINGERPRINT_LENGTH]
