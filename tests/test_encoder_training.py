"""Training an encoder: tokens, what says the same, and vectors that know goals nobody has asked for yet."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from selflearn.encoding.encoder import Encoder, LexicalEncoder, load_encoder
from selflearn.encoding.static_encoder import StaticEncoder
from selflearn.encoding.vocabulary import learn_tokenizer
from selflearn.errors import DataError, SettingsError
from selflearn.turns.text import frame_goal
from selflearn.variants.corpus import SEVERAL, Corpus, Positives, read_frames
from selflearn.variants.training import PROVENANCE, TrainedEncoder, check_folder, train_encoder
from wordings import ODD_TEXTS, ROOMS, said


def corpus(rooms: list[str]) -> Corpus:
    sentences, goals = said(rooms)
    return Corpus(sorted(set(sentences)), sentences, goals, np.full(len(sentences), SEVERAL))


def precision(encoder: Encoder, texts: list[str], goals: list[str]) -> float:
    vectors = encoder.encode(texts)
    left, right = np.triu_indices(len(texts), 1)
    is_same = np.array(goals)[left] == np.array(goals)[right]
    return float(average_precision_score(is_same, (vectors @ vectors.T)[left, right]))


@pytest.fixture(scope="module")
def trained() -> TrainedEncoder:
    pytest.importorskip("torch", reason="training needs the extra `encoder`")
    return train_encoder(corpus(ROOMS[:7]))


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


def test_what_differs_in_a_value_is_nearer_than_what_is_wanted_for_something_else(trained: TrainedEncoder) -> None:
    texts, goals = said(ROOMS[7:])
    intents = [json.loads(goal)["intent"] for goal in goals]
    assert precision(trained.encoder(), texts, intents) > precision(LexicalEncoder(), texts, intents) + 0.1


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


def test_equal_sentences_teach_nothing_and_do_no_harm() -> None:
    pytest.importorskip("torch", reason="training needs the extra `encoder`")
    goals = [frame_goal("lights_on", []), frame_goal("heat", [])]
    learnt = train_encoder(Corpus(["lights on"], ["lights on"] * 2, goals, np.array([1, 2])))
    vectors = learnt.encoder().encode(["lights on", "lights", "打开灯"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 0])


def test_nothing_to_learn_from_is_said() -> None:
    pytest.importorskip("torch", reason="training needs the extra `encoder`")
    with pytest.raises(DataError, match="there are 0 sentences"):
        train_encoder(Corpus(["lights on"], [], [], np.empty(0, np.int64)))
