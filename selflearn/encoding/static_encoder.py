"""Static encoders: the mean of a text's token vectors, read from a sentence-transformers folder without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy import sparse
from tokenizers import Tokenizer

from selflearn.encoding.vocabulary import cuts_at_spaces, distinct_words, token_ids
from selflearn.errors import SettingsError
from selflearn.ragged import Ints

MODULES, TOKENIZER, WEIGHTS = "modules.json", "tokenizer.json", "model.safetensors"
WEIGHT_NAME = "embedding.weight"
_STATIC, _NORMALIZE = ".StaticEmbedding", ".Normalize"
_FINGERPRINT_LENGTH = 12
_TEXTS_AT_ONCE = 16_384


class StaticEncoder:
    """Vectors of tokens, averaged over a text and brought to length one.

    Equals `SentenceTransformer(folder).encode(texts, normalize_embeddings=True)` up to rounding.

    Args:
        tokenizer: gives ids below `len(weights)`.
        weights: shape (tokens, dimension).
    """

    def __init__(self, name: str, tokenizer: Tokenizer, weights: npt.NDArray[np.float32]) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._weights = np.ascontiguousarray(weights, dtype=np.float32)
        self._reads_words = cuts_at_spaces(tokenizer)
        self.dimension = int(weights.shape[1])
        content = hashlib.sha256(tokenizer.to_str().encode())
        content.update(self._weights.tobytes())
        self.encoder_id = f"{name}-{content.hexdigest()[:_FINGERPRINT_LENGTH]}"

    @classmethod
    def load(cls, folder: Path) -> StaticEncoder:
        """Read a folder that `is_static`.

        Raises:
            SettingsError: a file is missing or damaged, or the two do not fit each other.
        """
        place = folder / str(_modules(folder)[0].get("path", ""))
        try:
            tokenizer = Tokenizer.from_file(str(place / TOKENIZER))
            weights = load_file(place / WEIGHTS)[WEIGHT_NAME]
        # What the tokenizer raises is a bare Exception.
        except (Exception, SafetensorError) as error:
            raise _damaged(folder, f"{type(error).__name__} {error}") from error
        # Ids may have gaps, and a row beyond the table would be read from elsewhere in memory.
        size = 1 + max(tokenizer.get_vocab().values(), default=-1)
        if weights.ndim != 2 or len(weights) < size:
            raise _damaged(folder, f"{WEIGHTS} has the shape {weights.shape} for {size} tokens")
        return cls(folder.name, tokenizer, weights)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of the texts; zero of a text without tokens."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            vectors[start : start + _TEXTS_AT_ONCE] = self._encode(list(texts[start : start + _TEXTS_AT_ONCE]))
        return vectors

    def _encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        if self._reads_words:
            # Logs say the same words over and over: each is cut into tokens once.
            words, places, offsets = distinct_words(texts)
            sums = _sums(places, offsets, _sums(*token_ids(self._tokenizer, words), self._weights))
        else:
            sums = _sums(*token_ids(self._tokenizer, texts), self._weights)
        lengths = np.sqrt(np.einsum("td,td->t", sums, sums))
        return np.asarray(sums / np.where(lengths > 0, lengths, 1)[:, None], dtype=np.float32)


def _sums(places: npt.NDArray[np.integer[Any]], offsets: Ints, table: npt.NDArray[np.float32]) -> Any:
    """Sum of the table's rows at each text's places, added up in their order."""
    ones = np.ones(len(places), dtype=np.float32)
    return sparse.csr_array((ones, places, offsets), shape=(len(offsets) - 1, len(table))) @ table


def is_static(folder: Path) -> bool:
    """Whether the folder holds a sentence-transformers model that is a `StaticEmbedding` and no more."""
    kinds = [str(module.get("type", "")) for module in _modules(folder)]
    return bool(kinds) and kinds[0].endswith(_STATIC) and all(kind.endswith(_NORMALIZE) for kind in kinds[1:])


def _modules(folder: Path) -> list[dict[str, Any]]:
    try:
        modules = json.loads((folder / MODULES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"{MODULES}: {error}") from error
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise _damaged(folder, f"{MODULES} lists no modules")
    return modules


def _damaged(folder: Path, reason: str) -> SettingsError:
    return SettingsError(
        f"encoder folder {folder} cannot be loaded: {reason:.300}",
        "train it anew with `selflearn encoder train`, or name another folder",
    )
