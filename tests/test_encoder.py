"""Encoders: one protocol, unit vectors, whatever the texts and their order; trained ones know more than untrained."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from selflearn.cli import main
from selflearn.encoding import encoder as encoder_module
from selflearn.encoding.encoder import Encoder, LexicalEncoder, check_dimensions, load_encoder
from selflearn.encoding.static_encoder import MODULES, TOKENIZER, WEIGHT_NAME, WEIGHTS, StaticEncoder
from selflearn.encoding.vocabulary import cuts_at_spaces, learn_tokenizer, silent_tokens
from selflearn.errors import DataError, InfrastructureError, SettingsError
from selflearn.variants.embedding import embed_utterances, embedder
from selflearn.variants.training import require_torch
from wordings import ODD_TEXTS, ROOMS, said

STATIC_TYPE = "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding"


def write_static(folder: Path, texts: list[str], dimension: int = 8) -> Path:
    """A static encoder with random vectors, written without torch."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = learn_tokenizer(texts)
    size = (tokenizer.get_vocab_size(), dimension)
    weights = np.random.default_rng(3).normal(size=size).astype(np.float32)
    weights[silent_tokens(tokenizer)] = 0
    tokenizer.save(str(folder / TOKENIZER))
    save_file({WEIGHT_NAME: weights}, folder / WEIGHTS)
    modules = [{"idx": 0, "name": "0", "path": "", "type": STATIC_TYPE}]
    (folder / MODULES).write_text(json.dumps(modules), encoding="utf-8")
    return folder


_TOKENIZER = learn_tokenizer(said(ROOMS)[0])
_WEIGHTS = np.random.default_rng(3).normal(size=(_TOKENIZER.get_vocab_size(), 8)).astype(np.float32)
_WEIGHTS[silent_tokens(_TOKENIZER)] = 0
_HOUSE = StaticEncoder("house", _TOKENIZER, _WEIGHTS)


@pytest.fixture(scope="module")
def static_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_static(tmp_path_factory.mktemp("encoders") / "house", said(ROOMS)[0])


@pytest.fixture(params=["lexical", "static"])
def encoder(request: pytest.FixtureRequest, static_folder: Path) -> Encoder:
    return load_encoder(None if request.param == "lexical" else str(static_folder))


def test_vectors_have_length_one_or_nothing_is_known(encoder: Encoder) -> None:
    vectors = encoder.encode(ODD_TEXTS)
    assert vectors.shape == (len(ODD_TEXTS), encoder.dimension)
    assert vectors.dtype == np.float32
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.all(np.isclose(lengths, 1, atol=1e-5) | (lengths == 0))
    assert lengths[0] == 0
    assert lengths[-1] > 0
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_a_script_that_a_static_encoder_never_saw_gets_no_vector(static_folder: Path) -> None:
    assert not load_encoder(str(static_folder)).encode(["打开灯", "ไม่เปิดไฟ", "😀"]).any()


@given(
    texts=st.lists(st.sampled_from([*said(ROOMS)[0], *ODD_TEXTS]) | st.text(max_size=20), max_size=12), data=st.data()
)
def test_a_vector_depends_on_its_text_alone(texts: list[str], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(texts))))
    for loaded in (LexicalEncoder(), _HOUSE):
        together = loaded.encode(texts)
        assert np.array_equal(loaded.encode([texts[k] for k in order]), together[list(order)])
        alone = [loaded.encode([text]) for text in texts]
        assert np.array_equal(np.concatenate([*alone, loaded.encode([])]), together)


PARTS = ["kitchen", "the", "ki", "K", "S", " ", ".", "'", "?", "´", "▁", "\u00a0", "\u0301", "\u3000", "打", "<unk>"]


@given(st.lists(st.lists(st.sampled_from(PARTS)).map("".join) | st.sampled_from(ODD_TEXTS) | st.text(max_size=20)))
def test_a_static_encoder_equals_the_plain_mean_of_its_tokens(texts: list[str]) -> None:
    plain = np.zeros((len(texts), _HOUSE.dimension))
    for row, text in enumerate(texts):
        ids = _TOKENIZER.encode(text, add_special_tokens=False).ids
        total = _WEIGHTS[ids].astype(np.float64).sum(axis=0)
        plain[row] = total / (np.linalg.norm(total) or 1)
    np.testing.assert_allclose(_HOUSE.encode(texts), plain, atol=1e-6)


def test_tokens_that_hold_spaces_are_kept_whole(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "new york": 1, "new": 2, "york": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Punctuation()
    assert cuts_at_spaces(_TOKENIZER)
    assert not cuts_at_spaces(tokenizer)
    encoder = StaticEncoder("towns", tokenizer, np.eye(4, dtype=np.float32))
    assert encoder.encode(["new york", "york"]).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]


def test_the_path_without_torch_equals_sentence_transformers(static_folder: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="needs the extra `encoder`")
    texts = [*said(ROOMS)[0], *ODD_TEXTS]
    expected = library.SentenceTransformer(str(static_folder), device="cpu").encode(texts, normalize_embeddings=True)
    assert np.allclose(load_encoder(str(static_folder)).encode(texts), expected, atol=1e-5)


def test_encoding_without_torch_imports_none(static_folder: Path) -> None:
    script = (
        "import sys; from selflearn.encoding.encoder import load_encoder; "
        f"load_encoder({str(static_folder)!r}).encode(['lights on']); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_an_encoder_is_known_by_its_content(static_folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere" / static_folder.name
    shutil.copytree(static_folder, copied)
    first = load_encoder(str(copied))
    assert first.encoder_id == load_encoder(str(static_folder)).encoder_id
    assert first.encoder_id.startswith("house-")
    assert load_encoder(str(copied)) is first
    write_static(copied, ["other words"])
    assert load_encoder(str(copied)).encoder_id != first.encoder_id


def test_one_encoder_of_a_name_has_one_dimension(static_folder: Path) -> None:
    loaded = load_encoder(str(static_folder))
    check_dimensions(loaded, [8, 8])
    check_dimensions(loaded, [])
    with pytest.raises(DataError, match=r"vectors of 8 numbers, table utterances holds some of 16, 32 under"):
        check_dimensions(loaded, [32, 8, 16])


def test_a_folder_that_holds_no_encoder_is_refused(static_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"encoder .*nowhere is no folder"):
        load_encoder(str(tmp_path / "nowhere"))
    for damage in (
        lambda folder: (folder / TOKENIZER).unlink(),
        lambda folder: (folder / WEIGHTS).write_bytes(b"no weights"),
        lambda folder: (folder / MODULES).write_text("{"),
        lambda folder: (folder / MODULES).write_text('{"type": 1}'),
        lambda folder: (folder / MODULES).write_text(json.dumps([{"type": STATIC_TYPE, "path": 1}])),
        lambda folder: Tokenizer(models.WordLevel({"lights": 9_999})).save(str(folder / TOKENIZER)),
        lambda folder: save_file({"other": np.zeros((3, 8), np.float32)}, folder / WEIGHTS),
        lambda folder: save_file({WEIGHT_NAME: np.zeros((3, 8), np.float32)}, folder / WEIGHTS),
    ):
        folder = tmp_path / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(static_folder, folder)
        damage(folder)
        with pytest.raises(SettingsError, match=r"encoder folder .*damaged cannot be loaded") as caught:
            load_encoder(str(folder))
        assert "selflearn encoder train" in caught.value.next_step


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="needs the extra `encoder`")
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(SettingsError, match="holds no sentence-transformers model"):
        load_encoder(str(tmp_path))


def test_without_the_extra_checkpoints_and_training_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "find_spec", lambda name: None)
    with pytest.raises(InfrastructureError, match=r"pip install 'selflearn\[encoder\]'"):
        load_encoder("sentence-transformers/none-of-this-name")
    monkeypatch.setattr("selflearn.variants.training.find_spec", lambda name: None)
    with pytest.raises(InfrastructureError, match=r"pip install 'selflearn\[encoder\]'"):
        require_torch()
    assert load_encoder(None).encode(["lights"]).any()


def test_any_checkpoint_of_sentence_transformers_serves(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="needs the extra `encoder`")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "lights": 1, "on": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.eye(3, dtype=np.float32)
    static = modules.StaticEmbedding(tokenizer, embedding_weights=weights)
    model = library.SentenceTransformer(modules=[static, modules.Dense(3, 5)], device="cpu")
    model.save(str(tmp_path / "dense"), create_model_card=False)
    loaded = load_encoder(str(tmp_path / "dense"))
    assert not isinstance(loaded, StaticEncoder)
    assert loaded.dimension == 5
    expected = model.encode(["lights on", "on"], normalize_embeddings=True)
    assert np.allclose(loaded.encode(["lights on", "on"]), expected, atol=1e-6)
    again = encoder_module.CheckpointEncoder(str(tmp_path / "dense"))
    assert again.encoder_id == loaded.encoder_id


def test_the_command_says_what_is_wrong_before_it_reads_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.yaml").write_text("lake: lake\nsource: {path: logs}\n")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    command = ["encoder", "train", "--settings", str(tmp_path / "settings.yaml"), "--out"]
    told = {}
    for out, more in (("new", ["--to", "2026-03-02"]), ("notes", [])):
        with pytest.raises(SystemExit) as stopped:
            main([*command, str(tmp_path / out), *more])
        told[out] = (stopped.value.code, " ".join(capsys.readouterr().err.split()))
    assert told["new"][0] == told["notes"][0] == 2
    assert "--to 2026-03-02 is given without --from" in told["new"][1]
    assert "holds no encoder that was trained here" in told["notes"][1]
    monkeypatch.setattr("selflearn.variants.training.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        main([*command, str(tmp_path / "new")])
    assert stopped.value.code == 5
    assert "selflearn[encoder]" in capsys.readouterr().err


def test_a_worker_adds_vectors_to_its_rows(static_folder: Path) -> None:
    rows = pa.RecordBatch.from_pydict({"locale": ["en"] * 2, "utterance_id": ["1", "2"], "text": ["lights on", "打"]})
    loaded = load_encoder(str(static_folder))
    (found,) = embedder(str(static_folder), loaded.encoder_id)([rows])
    assert found["encoder_id"].to_pylist() == [loaded.encoder_id] * 2
    assert np.allclose(found["vector"].to_pylist(), loaded.encode(["lights on", "打"]))
    with pytest.raises(InfrastructureError, match="on the driver"):
        next(embedder(str(static_folder), "another")([rows]))


def test_utterances_get_vectors_on_spark(
    spark: SparkSession, static_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = said(ROOMS)[0][:20]
    utterances = spark.createDataFrame(
        [("en", str(k), text) for k, text in enumerate(texts)], "locale string, utterance_id string, text string"
    )
    found = {row["text"]: row["vector"] for row in embed_utterances(utterances, str(static_folder)).collect()}
    assert np.allclose([found[text] for text in texts], load_encoder(str(static_folder)).encode(texts))
    assert "selflearn encoder train" not in caplog.text
    assert embed_utterances(utterances, None).columns == ["locale", "utterance_id", "text", "encoder_id", "vector"]
    assert "selflearn encoder train" in caplog.text
