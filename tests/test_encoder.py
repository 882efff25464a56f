"""Encoders: one protocol, unit vectors, whatever the texts and their order; trained ones know more than untrained."""

from __future__ import annotations

import json
import random
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
from safetensors.numpy import load_file, save_file
from sklearn.metrics import average_precision_score
from tokenizers import Tokenizer, models, pre_tokenizers

from selflearn.errors import DataError, InfrastructureError, SettingsError
from selflearn.turns.text import frame_goal
from selflearn.variants import encoder as encoder_module
from selflearn.variants.corpus import SEVERAL, Corpus, Positives, read_frames
from selflearn.variants.embedding import embed_utterances, embedder
from selflearn.variants.encoder import Encoder, LexicalEncoder, check_dimensions, load_encoder
from selflearn.variants.static_encoder import MODULES, TOKENIZER, WEIGHT_NAME, WEIGHTS, StaticEncoder
from selflearn.variants.training import PROVENANCE, TrainedEncoder, check_folder, require_torch, train_encoder
from selflearn.variants.vocabulary import learn_tokenizer, silent_tokens

ODD_TEXTS = [
    "",
    " ",
    "a",
    "?",
    "😀",
    "👩‍👩‍👧 ok",
    "ไม่เปิดไฟ",
    "打开灯",
    "lights\x00 on",
    "x" * 5_000,
    "turn the lights on",
]
STATIC_TYPE = "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding"

ASKS = {
    "lights_on": ["turn on the {} lights", "{} lights on please", "make it bright in the {}", "light up the {}"],
    "lights_off": ["turn off the {} lights", "kill the {} lights", "make it dark in the {}", "{} lights off"],
    "heat": ["warm up the {}", "it is freezing in the {}", "turn on the heating in the {}", "heat the {} now"],
}
ROOMS = ["kitchen", "bedroom", "hall", "cellar", "attic", "office", "bathroom", "garage", "porch", "pantry"]


def said(rooms: list[str]) -> tuple[list[str], list[str]]:
    """Every way to ask for everything in some rooms, and the goals."""
    rows = [(ask.format(room), intent, room) for intent, asks in ASKS.items() for ask in asks for room in rooms]
    return [text for text, _, _ in rows], [frame_goal(intent, [("room", room)]) for _, intent, room in rows]


def corpus(rooms: list[str]) -> Corpus:
    sentences, goals = said(rooms)
    return Corpus(sorted(set(sentences)), sentences, goals, np.full(len(sentences), SEVERAL))


def precision(encoder: Encoder, texts: list[str], goals: list[str]) -> float:
    vectors = encoder.encode(texts)
    left, right = np.triu_indices(len(texts), 1)
    is_same = np.array(goals)[left] == np.array(goals)[right]
    return float(average_precision_score(is_same, (vectors @ vectors.T)[left, right]))


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


@pytest.fixture(scope="module")
def static_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_static(tmp_path_factory.mktemp("encoders") / "house", said(ROOMS)[0])


@pytest.fixture(scope="module")
def trained() -> TrainedEncoder:
    pytest.importorskip("torch", reason="training needs the extra `encoder`")
    return train_encoder(corpus(ROOMS[:7]))


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


def _house() -> StaticEncoder:
    tokenizer = learn_tokenizer(said(ROOMS)[0])
    weights = np.random.default_rng(3).normal(size=(tokenizer.get_vocab_size(), 8)).astype(np.float32)
    return StaticEncoder("house", tokenizer, weights)


_HOUSE = _house()


def test_a_static_encoder_equals_the_plain_mean_of_its_tokens(static_folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(static_folder / TOKENIZER))
    weights = load_file(static_folder / WEIGHTS)[WEIGHT_NAME].astype(np.float64)
    texts = said(ROOMS)[0]
    for text, vector in zip(texts, load_encoder(str(static_folder)).encode(texts), strict=True):
        mean = weights[tokenizer.encode(text, add_special_tokens=False).ids].mean(axis=0)
        assert np.allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_the_path_without_torch_equals_sentence_transformers(static_folder: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="needs the extra `encoder`")
    texts = [*said(ROOMS)[0], *ODD_TEXTS]
    expected = library.SentenceTransformer(str(static_folder), device="cpu").encode(texts, normalize_embeddings=True)
    assert np.allclose(load_encoder(str(static_folder)).encode(texts), expected, atol=1e-5)


def test_encoding_without_torch_imports_none(static_folder: Path) -> None:
    script = (
        "import sys; from selflearn.variants.encoder import load_encoder; "
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
        train_encoder(corpus(ROOMS))
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


def test_a_tokenizer_keeps_whole_words_and_splits_new_ones() -> None:
    tokenizer = learn_tokenizer([*said(ROOMS)[0], "what's on?"])
    assert tokenizer.encode("what's in the kitchen?").tokens[-2:] == ["▁kitchen", "▁?"]
    assert tokenizer.encode("KITCHEN").tokens == ["▁kitchen"]
    pieces = tokenizer.encode("kitchenette").tokens
    assert len(pieces) > 1
    assert "".join(pieces).startswith("▁kitchen")
    assert learn_tokenizer([*said(ROOMS)[0], "what's on?"]).to_str() == tokenizer.to_str()


def test_pieces_are_learnt_of_scripts_without_spaces() -> None:
    tokenizer = learn_tokenizer(["打开厨房的灯", "关掉厨房的灯", "打开客厅的灯", "厨房太冷了"])
    assert "厨房" in "|".join(tokenizer.encode("我的厨房").tokens)
    assert "<unk>" not in tokenizer.encode("打开客厅").tokens


def test_goals_are_taken_apart() -> None:
    goals = [frame_goal("play", [("song", "Hello"), ("artist", "Adele")]), frame_goal("stop", []), "no frame"]
    frames = read_frames(goals)
    assert frames.values == ["adele hello", "", ""]
    assert frames.n_names == 5
    assert np.diff(frames.offsets).tolist() == [3, 1, 1]
    assert len(set(frames.intents.tolist())) == 3


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(-1, 3)), min_size=1, max_size=30),
    seed=st.integers(0, 3),
)
def test_a_mate_is_another_persons_sentence_of_the_same_goal(rows: list[tuple[int, int, int]], seed: int) -> None:
    texts, goals = [f"text {text}" for text, _, _ in rows], [f"goal {goal}" for _, goal, _ in rows]
    own = Corpus(sorted(set(texts)), texts, goals, np.array([who for _, _, who in rows]), [("text 0", "text 9")])
    positives = Positives.of(own, sorted(set(goals)))
    mates = positives.draw_mates(np.random.default_rng(seed))
    said_for = {(positives.text[k], positives.goal[k], positives.speaker[k]) for k in range(len(rows))}
    for k, mate in enumerate(mates[:-1]):
        if mate != positives.text[k]:
            speakers = {who for text, goal, who in said_for if (text, goal) == (mate, positives.goal[k])}
            assert speakers
            assert positives.speaker[k] == SEVERAL or speakers - {positives.speaker[k]}
    assert positives.texts[mates[-1]] == "text 9"


def test_goals_of_one_person_alone_have_no_mates() -> None:
    own = Corpus(["a", "b"], ["a", "b"], ["goal", "goal"], np.array([7, 7]))
    positives = Positives.of(own, ["goal"])
    assert positives.draw_mates(np.random.default_rng(0)).tolist() == positives.text.tolist()


def test_training_ranks_unseen_goals_above_the_untrained_encoder(trained: TrainedEncoder) -> None:
    texts, goals = said(ROOMS[7:])
    assert precision(trained.encoder(), texts, goals) > precision(LexicalEncoder(), texts, goals) + 0.1


def test_rephrase_pairs_alone_are_enough_to_learn_from() -> None:
    pytest.importorskip("torch", reason="training needs the extra `encoder`")
    texts, goals = said(ROOMS)
    rng = random.Random(1)
    same = [
        (a, b)
        for a, of_a in zip(texts, goals, strict=True)
        for b, of_b in zip(texts, goals, strict=True)
        if of_a == of_b and a != b
    ]
    learnt = train_encoder(Corpus(texts, [], [], np.empty(0, np.int64), rng.sample(same, 200)))
    assert precision(learnt.encoder(), texts, goals) > precision(LexicalEncoder(), texts, goals) + 0.1


def test_the_same_corpus_and_seed_give_the_same_encoder(trained: TrainedEncoder) -> None:
    again = train_encoder(corpus(ROOMS[:7]))
    assert again.encoder().encoder_id == trained.encoder().encoder_id
    assert train_encoder(corpus(ROOMS[:7]), seed=1).encoder().encoder_id != trained.encoder().encoder_id


def test_a_trained_encoder_is_an_ordinary_folder(trained: TrainedEncoder, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = tmp_path / "encoder"
    for _ in range(2):
        check_folder(folder)
        trained.save(folder, {"tables": {"turns": 3}})
    noted = json.loads((folder / PROVENANCE).read_text())
    assert noted["tables"] == {"turns": 3}
    assert noted["figures"]["n_sentences"] == 84
    loaded = load_encoder(str(folder))
    assert isinstance(loaded, StaticEncoder)
    texts = [*said(ROOMS)[0], *ODD_TEXTS]
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(texts, normalize_embeddings=True)
    assert np.allclose(loaded.encode(texts), expected, atol=1e-5)
    assert not loaded.encode(["打开灯"]).any()
    assert [file.name for file in tmp_path.iterdir()] == ["encoder"]


def test_a_folder_of_other_things_is_not_overwritten(tmp_path: Path) -> None:
    check_folder(tmp_path)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SettingsError, match="holds no encoder that was trained here"):
        check_folder(tmp_path)


def test_nothing_to_learn_from_is_said() -> None:
    pytest.importorskip("torch", reason="training needs the extra `encoder`")
    require_torch()
    with pytest.raises(DataError, match="there are 0 sentences"):
        train_encoder(Corpus(["lights on"], [], [], np.empty(0, np.int64)))


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
    assert not caplog.records
    assert embed_utterances(utterances, None).columns == ["locale", "utterance_id", "text", "encoder_id", "vector"]
    assert "selflearn encoder train" in caplog.text
