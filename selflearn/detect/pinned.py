"""Reading a saved model of pairs, of whichever kind."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

from selflearn.detect.detector import PairModel
from selflearn.detect.latent_class import LevelModel
from selflearn.detect.signals import PAIR_SIGNAL_NAMES, PAIR_SIGNALS
from selflearn.detect.supervised.model import SupervisedModel
from selflearn.errors import SettingsError


def read_pinned(file: Path) -> PairModel:
    """The model that `detect.model` names: one fitted to gold pairs, or a day's model fitted without labels.

    Raises:
        SettingsError: the file cannot be read, is no such model, or was made by another version.
    """
    try:
        model = pair_model_from_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"detect.model {file} cannot be read ({error.strerror})",
            "name a saved detector, or leave the key out",
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(
            f"detect.model {file} is no saved detector ({error})", "save one with this version"
        ) from None
    difference = _difference(model)
    if difference:
        raise SettingsError(
            f"detect.model {file} was fitted with other signals: {difference}",
            "fit the detector again with this version (`selflearn fit pairs`)",
        )
    return model


def _difference(model: PairModel) -> str | None:
    """The first way in which the signals that the model was fitted with are not those of `PAIR_SIGNALS`."""
    if model.signals != PAIR_SIGNAL_NAMES:
        only = [sorted(set(left) - set(right)) for left, right in permutations((model.signals, PAIR_SIGNAL_NAMES))]
        return f"it alone has {only[0]}, this version alone {only[1]}" if any(only) else "they are in another order"
    for k, signal in enumerate(PAIR_SIGNALS):
        if isinstance(model, SupervisedModel) and model.edges[k] != signal.edges:
            return f"{signal.name} had the edges {model.edges[k]}, in this version {signal.edges}"
        if isinstance(model, LevelModel) and len(model.match[k]) != signal.n_levels:
            return f"{signal.name} had {len(model.match[k])} levels, in this version {signal.n_levels}"
    return None


def pair_model_from_json(content: str) -> PairModel:
    """A model fitted to gold says so in its field `format`; one fitted without labels has none."""
    fields = json.loads(content)
    if isinstance(fields, dict) and "format" in fields:
        return SupervisedModel.from_json(content)
    return LevelModel.from_json(content)
