"""Reading a saved model of pairs, of whichever kind."""

from __future__ import annotations

import json
from pathlib import Path

from selflearn.detect.detector import PairModel
from selflearn.detect.latent_class import LevelModel
from selflearn.detect.signals import OtherSignalsError
from selflearn.detect.supervised.model import SupervisedModel
from selflearn.encoding import load_encoder
from selflearn.errors import SettingsError


def read_pinned(file: Path, encoder: str | None = None) -> PairModel:
    """The model that `detect.model` names: one fitted to gold pairs, or a day's model fitted without labels.

    `encoder` is what `detect.encoder` names.

    Raises:
        SettingsError: the file cannot be read, is no such model, or was fitted with other signals or another encoder.
    """
    try:
        model = pair_model_from_json(file.read_text(encoding="utf-8"))
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
    encoder_id = load_encoder(encoder).encoder_id if encoder else None
    if isinstance(model, SupervisedModel) and model.encoder_id != encoder_id:
        raise SettingsError(
            f"detect.model {file} was fitted with {_named(model.encoder_id)}, detect.encoder is {_named(encoder_id)}",
            "name that encoder, or fit the model again",
        )
    return model


def _named(encoder_id: str | None) -> str:
    return f"encoder {encoder_id}" if encoder_id else "no encoder"


def pair_model_from_json(content: str) -> PairModel:
    """A model fitted to gold says so in its field `format`; one fitted without labels has none."""
    fields = json.loads(content)
    if isinstance(fields, dict) and "format" in fields:
        return SupervisedModel.from_json(content)
    return LevelModel.from_json(content)
