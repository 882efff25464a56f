"""A model of pairs learnt from gold, as one self-contained JSON file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from selflearn.detect.comparison import Comparison
from selflearn.detect.latent_class import LevelModel
from selflearn.detect.supervised.batch import batch_of
from selflearn.detect.supervised.features import LogStatistics, pair_features
from selflearn.detect.supervised.lexical import LexicalModel, Said, said_in
from selflearn.detect.supervised.linear import LinearModel
from selflearn.detect.supervised.trees import Trees
from selflearn.ragged import Floats

FORMAT = "selflearn.pairs"
VERSION = 3
"""To be raised with every change of what a feature means."""


@dataclass(frozen=True)
class MixedModel:
    """Log-odds are a weighted sum of those of boosted trees and of the lexical model, and an offset.

    Attributes:
        names: of the features that the trees number from 0.
        weights: of the trees' sum, and of the lexical log-odds.
    """

    names: tuple[str, ...]
    trees: Trees
    lexical: LexicalModel
    weights: tuple[float, float]
    offset: float

    def log_odds(self, names: tuple[str, ...], features: Floats, said: Said) -> Floats:
        """Log-odds of each pair, shape (pairs,); `names` are those of the features."""
        place = {name: k for k, name in enumerate(names)}
        of_trees = self.trees.sum(features[:, [place[name] for name in self.names]])
        of_things = self.lexical.log_odds(names, features, said)
        return self.weights[0] * of_trees + self.weights[1] * of_things + self.offset

    def to_fields(self) -> dict[str, Any]:
        own = {"names": list(self.names), "weights": list(self.weights), "offset": self.offset}
        return own | {"trees": self.trees.to_fields(), "lexical": self.lexical.to_fields()}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> MixedModel:
        trees, lexical = Trees.from_fields(fields["trees"]), LexicalModel.from_fields(fields["lexical"])
        trees_weight, lexical_weight = fields["weights"]
        return cls(tuple(fields["names"]), trees, lexical, (trees_weight, lexical_weight), fields["offset"])


_KINDS: Mapping[str, type[LinearModel] | type[MixedModel]] = {"linear": LinearModel, "mixed": MixedModel}


@dataclass(frozen=True)
class SupervisedModel:
    """Fitted numbers, what they need to know of the log, and where they come from.

    Attributes:
        fitted: what turns features into log-odds.
        log: the label-free model it builds on, and statistics of the log.
        provenance: numbers of gold pairs, settings' fingerprint, versions of the tables read.
        encoder_id: of the encoder whose vectors were compared, if there was one.
    """

    name: ClassVar[str] = "pair"

    fitted: LinearModel | MixedModel
    log: LogStatistics
    provenance: Mapping[str, Any] = field(default_factory=dict)
    encoder_id: str | None = None

    @property
    def label_free(self) -> LevelModel:
        return self.log.label_free

    def pair_log_odds(self, compared: Comparison) -> Floats:
        """Log-odds that each pair is a rephrase after a failure, shape (pairs,)."""
        if not len(compared.source):
            return np.zeros(0)
        batch = batch_of(compared)
        names, features = pair_features(batch, self.log)
        if isinstance(self.fitted, LinearModel):
            return self.fitted.log_odds(names, features)
        return self.fitted.log_odds(names, features, said_in(batch))

    def to_json(self) -> str:
        kind = next(name for name, of_kind in _KINDS.items() if isinstance(self.fitted, of_kind))
        fields = {
            "format": FORMAT,
            "version": VERSION,
            "kind": kind,
            "provenance": dict(self.provenance),
            "encoder_id": self.encoder_id,
            "fitted": self.fitted.to_fields(),
            "log": self.log.to_fields(),
        }
        return json.dumps(fields)

    def record(self) -> str:
        """What a table keeps of the model: which file it was, and the label-free model in it."""
        fields = {
            "format": FORMAT,
            "version": VERSION,
            "sha256": self.sha256,
            "provenance": dict(self.provenance),
            "label_free": self.label_free.to_json(),
        }
        return json.dumps(fields)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, content: str) -> SupervisedModel:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else, or of another version.
        """
        fields = json.loads(content)
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        if fields.get("version") != VERSION:
            raise ValueError(f"its version is {fields.get('version')}, this one reads {VERSION}")
        if fields.get("kind") not in _KINDS:
            raise ValueError(f"its kind is {fields.get('kind')!r}, known are {', '.join(_KINDS)}")
        fitted = _KINDS[fields["kind"]].from_fields(fields["fitted"])
        log = LogStatistics.from_fields(fields["log"])
        return cls(fitted, log, fields["provenance"], fields["encoder_id"])
