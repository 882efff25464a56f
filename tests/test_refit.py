"""The refit: what is trained on some of the utterances reads the others, and nothing reads itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from sklearn.linear_model import LogisticRegression

from selflearn.errors import DataError
from selflearn.graph import GoalIntents, PoolWeights, Refit, Said, fit_refit, goal_intents, with_refit
from selflearn.graph.candidates import LEAST, OTHER
from selflearn.graph.refit import folds
from selflearn.graph.weights import MIN_ANCHORS, SOURCES
from selflearn.nlu import Example, IntentReader, LatentSentences
from selflearn.nlu.classifiers import INVERSE_RIDGE
from selflearn.nlu.features import SentenceFeatures
from selflearn.ragged import Ints
from selflearn.turns import frame_goal

ROCK, JAZZ, LAMP, UNHEARD = 11, 12, 21, 99
INTENTS = GoalIntents(np.array([ROCK, JAZZ, LAMP]), np.array([1, 1, 0]), ("light", "music"))
WEIGHTS = PoolWeights()
THINGS = ("rock", "jazz", "blues", "something loud", "my songs", "the news song", "a waltz", "hip hop")
NOW = ("now", "please", "again", "for me")
PLACES = ("kitchen", "hall", "bedroom", "garage", "garden", "attic", "office", "cellar")


def sentences() -> list[tuple[str, int]]:
    """Texts, and the goal that each means."""
    music = [(f"{verb} {thing} {when}", ROCK) for verb in ("play", "put on") for thing in THINGS for when in NOW]
    light = [
        (f"{verb} the {place} lamp {when}", LAMP) for verb in ("switch on", "light") for place in PLACES for when in NOW
    ]
    return [*music, *light]


def candidates(believed: float = 0.9) -> pd.DataFrame:
    """Utterances of two candidates and `OTHER`; by their outcomes each means its goal, by the NLU the other one."""
    rows = []
    for number, (text, goal) in enumerate(sentences()):
        other = LAMP if goal == ROCK else ROCK
        told = math.log(believed / (1 - believed)) / WEIGHTS.outcome
        for of, outcome in ((goal, told), (other, -told), (OTHER, -10.0)):
            rows.append((f"u{number:03}", text, "", of, outcome))
    found = pd.DataFrame(rows, columns=["utterance_id", "text", "context", "goal", "outcome_evidence"])
    others = {name: 0.0 for name in SOURCES if name != "outcome_evidence"}
    return found.assign(fold=of_several(found["text"].tolist()), **others)


def of_several(texts: Sequence[str]) -> Ints:
    """Folds of what several people say."""
    return folds(texts, [None] * len(texts))


def refitted(rows: pd.DataFrame, launch: Sequence[Example] = ()) -> Refit:
    """The refit of rows that suffice for one."""
    found = fit_refit(rows, INTENTS, launch)
    assert found is not None
    return found


def read(refit: Refit, text: str, *goals: int) -> list[float]:
    """Probabilities of a sentence's candidates, where the NLU held each to be certain."""
    row, certain = np.zeros(len(goals), dtype=np.int64), np.zeros(len(goals))
    return np.exp(refit.evidence(Said([text], [""], of_several([text])), row, np.array(goals), certain)).tolist()


def test_what_others_mean_is_read_into_a_sentence_that_nobody_said() -> None:
    refit = refitted(candidates())
    right, wrong, rest = read(refit, "switch on the porch lamp", LAMP, ROCK, OTHER)
    assert right > 0.8 > 0.2 > wrong
    assert rest == pytest.approx(LEAST, rel=1e-3)
    # Goals of one intent are told apart by others; an intent that is no candidate's is left to `OTHER`.
    assert read(refit, "play a tango", ROCK, JAZZ)[0] == read(refit, "play a tango", ROCK, JAZZ)[1]
    named, left = read(refit, "play a tango", LAMP, OTHER)
    assert named + left == pytest.approx(1, rel=1e-3)
    assert read(refit, "play a tango", UNHEARD) == [pytest.approx(LEAST, rel=1e-3)]


def test_it_takes_the_place_of_what_the_nlu_says_of_intents() -> None:
    """What the NLU says of the values of one intent is left, and of the intent what the refit says beyond it."""
    refit, goals = refitted(candidates()), np.array([LAMP, ROCK, JAZZ, OTHER])
    nlu = np.log([0.1, 0.6, 0.2, 0.1])
    row = np.zeros(4, dtype=np.int64)
    said = Said(["switch on the porch lamp"], [""], np.array([0]))
    found = refit.evidence(said, row, goals, nlu)
    p = np.log(np.maximum(read(refit, "switch on the porch lamp", *goals), LEAST))
    assert found.tolist() == pytest.approx((p - np.log([0.1, 0.8, 0.8, 0.1])).tolist(), abs=0.002)
    two = refit.evidence(Said(["play a tango", *said.texts], ["", ""], np.array([1, 0])), row + 1, goals, nlu)
    assert two.tolist() == found.tolist()


def test_vectors_tell_what_letters_do_not() -> None:
    """Sentences of one meaning point one way, whatever their words."""
    ways = {LAMP: np.array([1.0, 0.0]), ROCK: np.array([0.0, 1.0])}
    vectors = {text: ways[goal] for text, goal in sentences()}
    strange = "xyzzy"
    by_vector = fit_refit(candidates(), INTENTS, [], vectors)
    assert by_vector is not None
    assert by_vector.dimension == 2
    row, goals, certain = np.zeros(2, dtype=np.int64), np.array([LAMP, ROCK]), np.zeros(2)
    for goal, way in ways.items():
        lamp, rock = by_vector.evidence(Said([strange], [""], of_several([strange]), way[None, :]), row, goals, certain)
        assert (lamp > rock) == (goal == LAMP)
    table = with_refit(candidates(), by_vector, vectors)
    assert (table.loc[table["outcome_evidence"] > 0, "refit_evidence"] > math.log(0.8)).all()


def test_what_knows_the_launch_set_alone_is_heard_before_what_the_nlu_made_of_the_log() -> None:
    """Where the NLU misreads all that people say its readings would teach just that."""
    right = candidates()["outcome_evidence"] > 0
    nlu = np.where(right, np.log(0.3), np.where(candidates()["goal"] == OTHER, np.log(0.1), np.log(0.6)))
    misread = candidates().assign(outcome_evidence=0.0, nlu_evidence=nlu)
    lights = [Example(f"{words} lamp", "", "light") for words in ("switch on the shed", "light the cabin")]
    songs = [Example(words, "", "music") for words in ("play a march", "put on samba")]
    by_log, by_both = refitted(misread), refitted(misread, [*lights, *songs])
    for refit, is_right in ((by_log, False), (by_both, True)):
        lamp, rock = read(refit, "switch on the porch lamp", LAMP, ROCK)
        assert (lamp > rock) == is_right


@pytest.mark.parametrize(("failed_of_ten", "means"), [(0, ROCK), (7, LAMP)])
def test_what_people_did_decides_for_all_that_is_said_alike(failed_of_ten: int, means: int) -> None:
    """One failure tells little of its sentence, and nothing of those that nobody complained of."""
    rows = candidates()
    is_wanted, is_misread = rows["outcome_evidence"] > 0, rows["text"].str.startswith("light ")
    is_read = (is_wanted ^ is_misread) & (rows["goal"] != OTHER)
    has_failed = is_misread & (pd.factorize(rows["utterance_id"])[0] % 10 < failed_of_ten)
    nlu = np.log(np.where(is_read, 0.88, np.where(rows["goal"] == OTHER, 0.02, 0.1)))
    outcome = np.where(is_read, np.where(has_failed, -2.0, 0.7), 0.0)
    songs = [Example(words, "", "music") for words in ("play a march", "put on samba")]
    lights = [Example(f"{words} lamp", "", "light") for words in ("switch on the shed", "turn on the cabin")]
    refit = refitted(rows.assign(nlu_evidence=nlu, outcome_evidence=outcome), [*songs, *lights])
    never_failed = next(text for text in rows.loc[~has_failed & is_misread, "text"])
    for text in ("light the porch lamp", never_failed):
        lamp, rock = read(refit, text, LAMP, ROCK)
        assert (lamp > 0.7) == (means == LAMP)
        assert (rock > 0.7) == (means == ROCK)


def test_no_sentence_confirms_itself() -> None:
    """A sentence is read alike whatever it is believed to mean, but for what others learnt of it and tell back."""
    said = candidates()
    text = said["text"].iloc[0]
    is_it = said["text"] == text
    twisted = said.assign(outcome_evidence=np.where(is_it, -said["outcome_evidence"], said["outcome_evidence"]))
    plain, other, known = refitted(said), refitted(twisted), refitted(said, [Example(text, "", "light")])
    as_it_was = pytest.approx(read(plain, text, ROCK, LAMP), abs=1e-3)
    assert read(other, text, ROCK, LAMP) == as_it_was
    assert read(known, text, ROCK, LAMP) == as_it_was
    elsewhere = next(one for one, _ in sentences() if of_several([one]) != of_several([text]))
    assert len({read(refit, elsewhere, ROCK)[0] for refit in (plain, other, known)}) == 3


def test_one_person_teaches_nothing_that_their_own_sentences_are_read_by() -> None:
    """Else many wordings of one's own would confirm one another."""
    schemer, other = 17, 18
    tricks = [f"zap {thing}" for thing in THINGS]

    def taught(speaker: int) -> Refit:
        own = candidates().head(3 * len(tricks))
        own = own.assign(text=np.repeat(tricks, 3), fold=np.repeat(folds(tricks, [speaker] * len(tricks)), 3))
        others = candidates()
        return refitted(pd.concat([others, own.assign(utterance_id="z" + own["utterance_id"])]))

    def read_in(refit: Refit, speaker: int) -> float:
        said = Said(["zap zap"], [""], folds(["zap zap"], [speaker]))
        return float(refit.evidence(said, np.array([0]), np.array([ROCK]), np.array([0.0]))[0])

    assert folds(["a"], [schemer]) != folds(["a"], [other])
    assert len(set(folds(tricks, [schemer] * len(tricks)).tolist())) == 1
    nothing = read_in(refitted(candidates()), schemer)
    assert read_in(taught(schemer), schemer) == pytest.approx(nothing, abs=0.2)
    assert read_in(taught(other), schemer) > nothing + 0.3


def test_rounds_end_where_nothing_new_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []

    class Counted(IntentReader):
        def __init__(self, *given: Any) -> None:
            fitted.append(given)
            super().__init__(*given)

    monkeypatch.setattr("selflearn.graph.rounds.IntentReader", Counted)
    refitted(candidates(0.999))
    settled = len(fitted)
    refitted(candidates(0.6))
    assert settled < len(fitted) - settled


def test_readers_learn_from_what_is_likely_by_how_likely_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # In rounds all that is likelier than not becomes sure.
    monkeypatch.setattr("selflearn.graph.rounds._MOST_ROUNDS", 1)
    unsure, sure = (refitted(candidates(p)) for p in (0.55, 0.95))
    assert 0.5 < read(unsure, "play a tango", ROCK)[0] < read(sure, "play a tango", ROCK)[0]


def test_nothing_is_refitted_to_few_utterances_or_one_fold() -> None:
    few = candidates().query(f"utterance_id < 'u{MIN_ANCHORS - 1:03}'")
    assert fit_refit(few, INTENTS, []) is None
    one_fold = candidates().assign(text="the same", fold=0)
    assert fit_refit(one_fold, INTENTS, []) is None
    assert fit_refit(candidates().head(0), INTENTS, []) is None
    nothing_known = GoalIntents(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), ())
    assert fit_refit(candidates(), nothing_known, []) is None


def test_evidence_of_a_table_is_that_of_its_sentences() -> None:
    said = candidates()
    refit = refitted(said)
    found = with_refit(said, refit)
    for _, rows in found.groupby("text"):
        expected = read(refit, rows["text"].iloc[0], *rows["goal"])
        assert np.exp(rows["refit_evidence"]).tolist() == pytest.approx(expected, rel=1e-9)
    assert with_refit(said.head(0), refit).empty
    right = found[found["outcome_evidence"] > 0]
    assert (right["refit_evidence"] > math.log(0.5)).mean() > 0.9


def test_intents_are_read_off_the_goals(spark: SparkSession) -> None:
    goals = [frame_goal("play", [("genre", "rock")]), frame_goal("play", ()), frame_goal("light", ())]
    rows = [("en", number, goal, 1.0) for number, goal in zip((7, -3, 5), goals, strict=True)]
    masses = spark.createDataFrame(
        [*rows, ("de", 7, goals[0], 2.0)], "locale string, goal_id long, goal string, mass double"
    )
    found = goal_intents(masses)
    assert found is not None
    assert [None if at < 0 else found.names[at] for at in found.of(np.array([5, 6, 7, -3, OTHER]))] == [
        "light",
        None,
        "play",
        "play",
        None,
    ]


def test_an_intent_reader_that_goes_on_from_another_reads_as_one_that_starts_anew() -> None:
    texts = [*(text for text, _ in sentences()), "what is the time"]
    names = [*({ROCK: "music", LAMP: "light"}[goal] for _, goal in sentences()), "clock"]
    place = LatentSentences(texts, [""] * len(texts))

    def reader(p: float, start: IntentReader | None = None, n: int = len(sentences())) -> IntentReader:
        return IntentReader(place, np.arange(n), names[:n], [p] * n, start)

    asked = ["play a tango", "switch on the porch lamp", "lamp music"]
    anew, before = reader(0.4), reader(0.9)
    after = reader(0.4, before)
    p, p_before, p_after = (one.probabilities(asked, [""] * len(asked)) for one in (anew, before, after))
    assert p_after == pytest.approx(p, abs=5e-3)
    assert p_after != pytest.approx(p_before, abs=2e-2)
    # Of other intents nothing is known yet.
    assert reader(0.4, before, len(texts)).intents == ("clock", "light", "music")


def test_what_an_intent_reader_learnt_in_a_latent_space_it_reads_without() -> None:
    """In a space of all dimensions it reads as logistic regression on the features does."""
    texts = [text for text, _ in sentences()]
    names = [{ROCK: "music", LAMP: "light"}[goal] for _, goal in sentences()]
    vectors = np.random.default_rng(1).normal(size=(len(texts), 5))
    place = LatentSentences(texts, [""] * len(texts), vectors)
    reader = IntentReader(place, np.arange(len(texts)), names, [1.0] * len(texts))
    found = reader.probabilities(texts, [""] * len(texts), vectors)
    assert found == pytest.approx(reader.probabilities_at(place.points), abs=1e-4)
    features = np.hstack([SentenceFeatures().fit_transform(texts, [""] * len(texts)).toarray(), 2 * vectors])
    plain = LogisticRegression(C=INVERSE_RIDGE, max_iter=1_000).fit(features, names)
    assert found == pytest.approx(plain.predict_proba(features), abs=5e-3)


@pytest.mark.parametrize("names", [("light",), ("light", "music"), ("clock", "light", "music")])
def test_an_intent_reader_tells_any_number_of_intents_apart(names: tuple[str, ...]) -> None:
    texts = ["lamp on", "play songs", "what time is it"][-len(names) :]
    reader = IntentReader(LatentSentences(texts, [""] * len(names)), np.arange(len(names)), names, [1.0] * len(names))
    p = reader.probabilities(texts, [""] * len(names))
    assert reader.intents == names
    assert p.sum(axis=1) == pytest.approx(1)
    assert p.argmax(axis=1).tolist() == list(range(len(names)))
    assert reader.probabilities([], []).shape == (0, len(names))


def test_an_intent_reader_needs_examples() -> None:
    with pytest.raises(DataError, match="no examples"):
        IntentReader(LatentSentences(["play"], [""]), np.array([], dtype=np.int64), [], [])
