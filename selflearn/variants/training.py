"""Training a static encoder on a log, and writing it as a sentence-transformers folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from selflearn.encoding.encoder import INSTALL_EXTRA
from selflearn.encoding.static_encoder import StaticEncoder
from selflearn.encoding.vocabulary import learn_tokenizer
from selflearn.errors import DataError, InfrastructureError, SettingsError
from selflearn.variants.corpus import Corpus, Positives, read_frames

DIMENSION = 128
PROVENANCE = "selflearn.json"
"""File beside the model that says what it was trained on."""
_LEAST_POSITIVES = 2
_LAST_STEPS = 10


@dataclass(frozen=True)
class TrainedEncoder:
    """Tokens, their vectors (shape (tokens, dimension)), and what was seen in training."""

    tokenizer: Tokenizer
    weights: npt.NDArray[np.float32]
    figures: Mapping[str, int | float]

    def encoder(self, name: str = "static") -> StaticEncoder:
        """The encoder itself, as if it had been saved in a folder of that name and loaded."""
        return StaticEncoder(name, self.tokenizer, self.weights)

    def save(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write an ordinary sentence-transformers folder, and `selflearn.json` with what it was trained on."""
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding

        module = StaticEmbedding(self.tokenizer, embedding_weights=self.weights)
        content = json.dumps({**provenance, "figures": dict(self.figures)}, indent=2, sort_keys=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: a run may be killed at any time.
        with TemporaryDirectory(dir=folder.parent) as work:
            made = Path(work) / folder.name
            SentenceTransformer(modules=[module], device="cpu").save(str(made), create_model_card=False)
            (made / PROVENANCE).write_text(content + "\n", encoding="utf-8")
            if folder.exists():
                folder.rename(Path(work) / "before")
            made.rename(folder)


def require_torch() -> None:
    """See that the extra `encoder` is there, before anything costly is done.

    Raises:
        InfrastructureError: it is not.
    """
    if find_spec("sentence_transformers") is None or find_spec("torch") is None:
        raise InfrastructureError(
            "training an encoder needs torch and sentence-transformers, which are not installed",
            f"`{INSTALL_EXTRA}`; to encode with what was trained, neither is needed",
        )


def check_folder(folder: Path) -> None:
    """See that an encoder can be written to a folder: a new one, an empty one, or one that holds an encoder.

    Raises:
        SettingsError: it is a file, or holds something else.
    """
    is_free = folder.is_dir() and (not any(folder.iterdir()) or (folder / PROVENANCE).is_file())
    if folder.exists() and not is_free:
        raise SettingsError(
            f"{folder} is there already and holds no encoder that was trained here", "name a new folder with --out"
        )


def train_encoder(corpus: Corpus, seed: int = 0, dimension: int = DIMENSION) -> TrainedEncoder:
    """Learn tokens and their vectors; the same corpus and seed give the same encoder.

    Raises:
        DataError: there are fewer than two sentences that reached a goal and rephrase pairs together.
        InfrastructureError: the extra `encoder` is not installed.
    """
    require_torch()
    from selflearn.variants.contrastive import fit_vectors

    n_positives = len(corpus.sentences) + len(corpus.rephrased)
    if n_positives < _LEAST_POSITIVES:
        raise DataError(
            f"there are {n_positives} sentences that reached a goal and rephrase pairs, at least {_LEAST_POSITIVES} "
            "are needed to train on",
            "mine more days, or name a launch set in the settings",
        )
    tokenizer = learn_tokenizer(corpus.texts)
    goals = sorted(set(corpus.goals))
    positives = Positives.of(corpus, goals)
    table, losses = fit_vectors(positives, read_frames(goals), tokenizer, seed, dimension)
    figures = {
        "n_texts": len(corpus.texts),
        "n_sentences": len(corpus.sentences),
        "n_goals": len(goals),
        "n_rephrase_pairs": len(corpus.rephrased),
        "n_tokens": len(table),
        "dimension": dimension,
        "n_steps": len(losses),
        "first_loss": round(losses[0], 4),
        "last_loss": round(float(np.mean(losses[-_LAST_STEPS:])), 4),
        "seed": seed,
    }
    return TrainedEncoder(tokenizer, table, figures)
