"""Reading a saved model of pairs, of whichever kind."""

from __future__ import annotations

import json
from pathlib import Path

from selflearn.detect.detector import PairModel
from selflearn.detect.latent_class import LevelModel
from selflearn.detect.signals import OtherSignalsError
from selflearn.detect.supervised.model import SupervisedModel
from selflearn.errors import SettingsError


def read_pinned(file: Path) -> PairModel:
    """The model that `detect.model` names: one fitted to gold pairs, or a day's model fitted without labels.

    Raises:
        SettingsError: the file cannot be read, is no such model, or was fitted with other signals.
    """
    try:
        return pair_model_from_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"detect.model {file} cannot be read ({error.strerror})",
            "name a saved detector, or leave the key out",
        ) from None
    except OtherSignalsError as error:
        raise SettingsError(
            f"detect.model {file} was fitted by another version: {error}", "fit the detector again with this version"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(
            f"detect.model {file} is no saved detector ({error})", "save one with this version"
        ) from None


def pair_model_from_json(content: str) -> PairModel:
    """A model fitted to gold says so in its field `format`; one fitted without labels has none."""
    fields = json.loads(content)
    if isinstance(fields, dict) and "format" in fields:
        return SupervisedModel.from_json(content)
    return LevelModel.from_json(content)
