"""Meaning as a signal: the cosine of two texts' vectors where an encoder is set, missing where none is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plain_pairs import Row, as_table
from plain_pairs import compare as plain_compare
from selflearn.detect import LevelModel, read_pinned
from selflearn.detect.comparison import compare_sessions
from selflearn.detect.latent_class import shipped_model
from selflearn.detect.signals import PAIR_SIGNAL_NAMES
from selflearn.encoding import load_encoder
from selflearn.errors import SettingsError
from selflearn.settings import Detect
from test_encoder import write_static
from test_signals import turn
from wordings import ROOMS, said

PLACE = PAIR_SIGNAL_NAMES.index("meaning_similarity")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_static(tmp_path_factory.mktemp("encoders") / "house", said(ROOMS)[0]))


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    texts = [*said(ROOMS[:3])[0], "打开灯", "light up the attic", "light up the attic"]
    return [turn([text, "noise"], session_id="s", turn_index=k, at=k * 1_000_000) for k, text in enumerate(texts)]


def test_it_is_the_cosine_of_the_first_texts_and_changes_nothing_else(folder: str, rows: list[Row]) -> None:
    encoder = load_encoder(folder)
    compared, without = (compare_sessions(as_table(rows), Detect(encoder=name)) for name in (folder, None))
    for k, (i, j) in enumerate(zip(compared.source, compared.target, strict=True)):
        expected, _ = plain_compare(rows[i], rows[j], int(j - i), j == len(rows) - 1, encoder)
        np.testing.assert_allclose(compared.signals[k, PLACE], expected["meaning_similarity"], atol=1e-6)
    found = compared.signals[:, PLACE]
    assert np.isnan(found).any()
    assert found[-1] == pytest.approx(1, abs=1e-6)
    assert np.isnan(without.signals[:, PLACE]).all()
    assert not without.levels[:, PLACE].any()
    np.testing.assert_array_equal(np.delete(compared.signals, PLACE, 1), np.delete(without.signals, PLACE, 1))
    np.testing.assert_array_equal(compared.seeds, without.seeds)


def test_two_runs_are_equal(folder: str, rows: list[Row]) -> None:
    once, again = (compare_sessions(as_table(rows), Detect(encoder=folder)).signals for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_a_wrong_name_is_refused(tmp_path: Path, rows: list[Row]) -> None:
    with pytest.raises(SettingsError, match=r"encoder .*nowhere is no folder"):
        compare_sessions(as_table(rows), Detect(encoder=str(tmp_path / "nowhere")))


def test_shipped_weights_know_no_encoder(tmp_path: Path) -> None:
    shipped = shipped_model("pair")
    assert not any(shipped.weights()[PLACE])
    (tmp_path / "model.json").write_text(replace(shipped, n=1.0).to_json())
    assert isinstance(read_pinned(tmp_path / "model.json"), LevelModel)
    assert math.isclose(shipped.reliance[PLACE], 1.0)
