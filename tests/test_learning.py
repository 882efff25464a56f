"""Learning a detector a day: what a day's detector depends on, and what it does not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from random import Random

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plain_pairs import COLUMNS, Row, as_table
from selflearn.detect import FrictionModel, LevelModel, learn_daily
from selflearn.detect.counts import count_keys, count_patterns
from selflearn.detect.friction import shipped_friction
from selflearn.detect.latent_class import shipped_model
from selflearn.detect.shares import Keys
from selflearn.lakehouse import tables
from selflearn.settings import Detect

DAYS = [date(2025, 1, 1) + timedelta(days=k) for k in range(5)]
NOTHING = pd.DataFrame(columns=tables.LEVEL_PATTERNS.schema.fieldNames())
SETTINGS = Detect(window_days=3, max_turns=2)
TEXTS = ["weather in paris", "whether in perish", "traffic in berlin", "play jazz", "東京の天気"]


def turns_of(day: date, n_sessions: int = 80) -> pa.Table:
    rng = Random(str(day))
    rows: list[Row] = []
    for session in range(n_sessions):
        for index in range(4):
            read = json.dumps({"intent": rng.choice(["weather", "play"]), "slots": []})
            row = dict.fromkeys(COLUMNS) | {
                "session_id": f"{session:03}",
                "turn_index": index,
                "at": index * 10_000_000,
                "context": rng.choice(["", "city?"]),
                "utterance_id": rng.choice(TEXTS),
                "normalised_text": rng.choice(TEXTS),
                "goal": rng.choice([None, read]),
                "nlu_score": rng.random(),
                "asr_score": rng.random(),
                "fallback": None,
                "failed": rng.random() < 0.1,
            }
            rows.append(row)
    return as_table(rows)


@pytest.fixture(scope="module")
def samples() -> list[tuple[date, pa.Table]]:
    return [(day, turns_of(day)) for day in DAYS]


def test_a_week_in_one_run_is_its_days_in_runs_of_their_own(samples: list[tuple[date, pa.Table]]) -> None:
    week = learn_daily(samples, NOTHING, SETTINGS)
    earlier = NOTHING
    for day, turns in samples:
        alone = learn_daily([(day, turns)], earlier.sample(frac=1, random_state=1), SETTINGS)
        assert alone.detectors[day] == week.detectors[day]
        earlier = pd.concat([earlier, alone.patterns]) if len(earlier) else alone.patterns
    pd.testing.assert_frame_equal(earlier.reset_index(drop=True), week.patterns)


def test_a_detector_sees_its_window_and_no_later_day(samples: list[tuple[date, pa.Table]]) -> None:
    learnt = learn_daily(samples, NOTHING, SETTINGS)
    n_turns = [learnt.detectors[day].friction.n for day in DAYS]
    assert n_turns == [320, 640, 960, 960, 960]
    assert [learnt.detectors[day].pair.n for day in DAYS] == [n * 5 / 4 for n in n_turns]


def test_tables_hold_what_was_learnt_and_from_what(samples: list[tuple[date, pa.Table]]) -> None:
    learnt = learn_daily(samples[:2], NOTHING, SETTINGS)
    assert list(learnt.patterns) == tables.LEVEL_PATTERNS.schema.fieldNames()
    assert list(learnt.models) == tables.DETECTORS.schema.fieldNames()
    assert not learnt.patterns.duplicated(["turn_date", "model", "pattern"]).any()
    counted = learnt.patterns.groupby(["turn_date", "model"])["n"].sum().unstack()
    assert (counted[["pair", "friction", "seed"]] == (400, 320, 320)).all(axis=None)
    models = {"pair": LevelModel, "friction": FrictionModel}
    for row in learnt.models.itertuples():
        assert models[row.model].from_json(row.content) == getattr(learnt.detectors[row.turn_date], row.model)


def test_a_pinned_model_of_pairs_is_used_as_it_is(samples: list[tuple[date, pa.Table]]) -> None:
    pinned = replace(shipped_model("pair"), offset=-1.0)
    learnt = learn_daily(samples[:2], NOTHING, SETTINGS, pinned)
    assert all(learnt.detectors[day].pair is pinned for day in DAYS[:2])
    assert learnt.detectors[DAYS[1]].friction.n == 640


def test_without_turns_there_is_nothing_to_learn_and_with_few_the_shipped_models_serve(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nothing = learn_daily([], NOTHING, SETTINGS)
    assert not nothing.detectors
    assert len(nothing.patterns) == len(nothing.models) == 0
    single = turns_of(DAYS[1]).filter(pc.field("turn_index") == 0)
    few = learn_daily([(DAYS[0], turns_of(DAYS[0], n_sessions=2)), (DAYS[1], single)], NOTHING, SETTINGS)
    none = learn_daily([(DAYS[1], single)], NOTHING, SETTINGS)
    for learnt in (few, none):
        assert all(detector.pair == shipped_model("pair") for detector in learnt.detectors.values())
    assert few.detectors[DAYS[0]].friction == shipped_friction()
    assert "too few" in caplog.text


@given(st.lists(st.tuples(st.tuples(st.integers(0, 3), st.integers(0, 2)), st.floats(0, 1))))
def test_patterns_are_counted_whatever_the_order(rows: list[tuple[tuple[int, int], float]]) -> None:
    def counted(rows: list[tuple[tuple[int, int], float]]) -> pd.DataFrame:
        cut = np.array([pattern for pattern, _ in rows], dtype=np.int8).reshape(-1, 2)
        return count_patterns(DAYS[0], "pair", cut, np.array([seed for _, seed in rows]))

    found = counted(rows)
    pd.testing.assert_frame_equal(found, counted(rows[::-1]))
    times = Counter("".join(map(str, pattern)) for pattern, _ in rows)
    assert dict(zip(found["pattern"], found["n"], strict=True)) == times
    assert found["seed_sum"].sum() == pytest.approx(sum(seed for _, seed in rows), abs=1e-6)


def test_shares_are_kept_of_frequent_keys_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selflearn.detect.counts.MAX_KEYS_PER_DAY", 2)
    keys = Keys(["once", "often", "twice", "also twice"], np.array([0, 1, 1, 1, 2, 2, 3, 3]))
    found = count_keys(DAYS[0], "path", keys, np.linspace(0, 0.7, 8))
    assert found[["pattern", "n"]].to_numpy().tolist() == [["often", 3], ["also twice", 2]]
    assert found["seed_sum"].tolist() == pytest.approx([0.6, 1.3])


def test_a_days_detector_knows_what_became_of_frequent_paths_and_words(
    samples: list[tuple[date, pa.Table]],
) -> None:
    first, second = (learn_daily(samples, NOTHING, SETTINGS).detectors[day].friction for day in DAYS[:2])
    assert first.path_trouble.keys() == second.path_trouble.keys()
    assert first.path_trouble != second.path_trouble
    assert set(first.left_unread) == set(TEXTS)
    n, n_unread = (samples[0][1].filter(chosen).num_rows for chosen in (words(TEXTS[0]), unread(TEXTS[0])))
    assert first.left_unread[TEXTS[0]] == pytest.approx(n_unread / (n + 20))


def words(utterance: str) -> pc.Expression:
    return pc.field("utterance_id") == utterance


def unread(utterance: str) -> pc.Expression:
    return words(utterance) & pc.field("goal").is_null()
