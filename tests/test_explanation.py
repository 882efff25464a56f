"""Why a pair has its probability: the steps add up, and stand in the tables as in Spark."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from selflearn.cli import app
from selflearn.detect import PAIR_CLASS_NAMES, PAIR_CLASSES, PAIR_SIGNALS, pair_classes
from selflearn.detect.explanation import explain
from selflearn.detect.latent_class import shipped_model, sigmoid
from selflearn.detect.signals import levels
from selflearn.errors import DataError
from selflearn.evaluate import evaluate_pairs, read_gold
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import STAGES, day_range, run_stage
from selflearn.report import (
    explain_pair,
    explanation_table,
    model_table,
    plot_evaluation,
    plot_waterfall,
    read_pair_model,
    score_table,
)
from selflearn.settings import USER_KEY_VARIABLE, Settings, Source
from selflearn.simulate import simulate

DAYS = day_range(date(2026, 1, 5), date(2026, 1, 6))


@pytest.fixture(scope="module")
def detected(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """Two simulated days after the stage detect."""
    folder = tmp_path_factory.mktemp("detected")
    simulate(folder, n_turns=1_000, days=len(DAYS), start=DAYS[0], seed=5, workers=1)
    settings = Settings(lake=f"{folder}/lake", source=Source(path=f"{folder}/logs/{{date}}.jsonl"))
    lake = Lakehouse(spark, settings.lake)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(USER_KEY_VARIABLE, "a key for tests only")
        for stage in ("ingest", "detect"):
            run_stage(STAGES[stage], lake, settings, DAYS)
    return lake


@pytest.mark.parametrize("missing", [False, True])
def test_steps_add_up_to_the_log_odds(missing: bool) -> None:
    rng = np.random.default_rng(1)
    signals = np.array([np.nan if missing and k % 2 else rng.uniform(-1, 40) for k in range(len(PAIR_SIGNALS))])
    model, seed = shipped_model("pair"), 0.3
    steps = explain(model, PAIR_SIGNALS, signals, seed)
    expected = model.log_odds(levels(signals[None], PAIR_SIGNALS), np.array([seed]))[0]
    assert steps[-1].total == pytest.approx(expected)
    assert sum(step.weight for step in steps) == pytest.approx(expected)
    assert {step.name for step in steps} == {"base rate", "seed", *(signal.name for signal in PAIR_SIGNALS)}
    weights = [abs(step.weight) for step in steps[1:]]
    assert weights == sorted(weights, reverse=True)
    assert all(step.weight == 0 for step in steps[1:] if math.isnan(step.value))
    assert steps[-1].probability == pytest.approx(sigmoid(np.array([expected]))[0])


def test_a_pair_of_the_lake_is_explained_as_it_was_scored(detected: Lakehouse, tmp_path: Path) -> None:
    lake = detected.root
    pairs = DeltaTable(f"{lake}/rephrase_pairs").to_pandas()
    for row in pairs.sample(5, random_state=1).itertuples():
        explanation = explain_pair(lake, row.source_turn_id, row.target_turn_id)
        assert explanation.p_rephrase == pytest.approx(row.p_rephrase, abs=1e-9)
        shown = {step.name: step.level for step in explanation.steps}
        assert "".join(str(shown[signal.name]) for signal in PAIR_SIGNALS) == row.pattern
        assert explanation.pair_class is PAIR_CLASSES[pair_classes([row.pattern], np.array([row.p_rephrase]))[0]]
    assert explanation_table(explanation).row_count == len(PAIR_SIGNALS) + 2
    for name in ("chart.png", "chart.svg"):
        plot_waterfall(explanation, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1_000
    with pytest.raises(DataError, match="no candidate pair 'nobody', 'nothing'"):
        explain_pair(lake, "nobody", "nothing")
    with pytest.raises(DataError, match="has no table rephrase_pairs"):
        explain_pair(str(tmp_path), "a", "b")


def test_a_model_shows_the_weight_and_the_shares_of_every_level(detected: Lakehouse, tmp_path: Path) -> None:
    day, model = read_pair_model(detected.root)
    assert day == DAYS[-1]
    assert read_pair_model(detected.root, DAYS[0])[0] == DAYS[0]
    table = model_table(model, day)
    shown = {column.header: list(column.cells) for column in table.columns}
    assert table.row_count == sum(signal.n_levels - 1 for signal in PAIR_SIGNALS)
    at = shown["signal"].index("text_similarity")
    assert shown["level"][at : at + 3] == ["below 0.3", "0.3 to 0.5", "0.5 to 0.65"]
    place = [signal.name for signal in PAIR_SIGNALS].index("text_similarity")
    weight = model.slope * model.weights()[place][2]
    assert shown["weight"][at + 1] == f"{weight:+.2f}"
    assert shown["of rephrases"][at + 1] == f"{model.match[place][2]:.1%}"
    with pytest.raises(DataError, match="no model of pairs of 2020-01-01"):
        read_pair_model(detected.root, date(2020, 1, 1))
    with pytest.raises(DataError, match="holds no model of pairs"):
        read_pair_model(str(tmp_path))


def test_pairs_of_the_lake_are_compared_with_gold(detected: Lakehouse, tmp_path: Path) -> None:
    pairs = DeltaTable(f"{detected.root}/rephrase_pairs").to_pandas().head(200)
    gold = pairs[["source_turn_id", "target_turn_id"]].assign(is_rephrase=pairs["p_rephrase"] > 0.5, cause="asr")
    unknown = gold.iloc[:1].assign(source_turn_id="nobody", is_rephrase=False)
    gold = pd.concat([gold, unknown])
    found = evaluate_pairs(detected.root, gold)
    assert found.overall.average_precision == found.overall.best_f1 == 1
    assert (found.n_unknown, len(found.pairs)) == (1, 201)
    assert set(found.by_locale) <= set(pairs["locale"])
    assert list(found.by_cause) == ["asr"]
    assert found.pairs["pair_class"].isna().sum() == 1
    assert set(found.pairs["pair_class"].dropna()) <= set(PAIR_CLASS_NAMES)
    half_of_each = found.pairs.groupby("pair_class")["is_rephrase"].nunique()
    assert set(found.by_class) == set(half_of_each[half_of_each == 2].index)
    half = found.thresholds[found.thresholds["threshold"] == 0.5].iloc[0]
    assert (half["precision"], half["recall"], half["f1"]) == (1, 1, 1)
    assert score_table(found).row_count == 2 + len(found.by_locale) + len(found.by_class)
    plot_evaluation(found, tmp_path / "curve.png")
    with pytest.raises(DataError, match="0 rephrases among 201 pairs"):
        evaluate_pairs(detected.root, gold.assign(is_rephrase=False))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_gold_is_read_from_each_format(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"gold{suffix}"
    write_gold(file, [("01", "02", True), ("02", "03", False)])
    gold = read_gold(file)
    assert gold.to_numpy().tolist() == [["01", "02", True], ["02", "03", False]]


def write_gold(file: Path, rows: list[tuple[str, str, object]]) -> None:
    frame = pd.DataFrame(rows, columns=["source_turn_id", "target_turn_id", "is_rephrase"])
    if file.suffix == ".jsonl":
        frame.to_json(file, orient="records", lines=True)
    elif file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gold.txt", "", "has the suffix '.txt'"),
        ("gold.csv", "source_turn_id,is_rephrase\na,true\n", "lacks target_turn_id"),
        ("gold.csv", "source_turn_id,target_turn_id,is_rephrase\na,b,perhaps\n", "has the verdict 'perhaps' in 1 rows"),
        ("gold.csv", "source_turn_id,target_turn_id,is_rephrase\na,b,true\na,b,false\n", "has 1 pairs twice"),
        ("gold.jsonl", "{", "cannot be read"),
        ("gold.parquet", "no parquet", "cannot be read"),
    ],
)
def test_a_gold_file_that_is_none_is_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_gold(tmp_path / name)


def test_both_commands_say_what_they_found(detected: Lakehouse, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"lake: {detected.root}\nsource: {{path: logs}}\n")
    pairs = DeltaTable(f"{detected.root}/rephrase_pairs").to_pandas().head(100)
    ids = [str(value) for value in pairs.iloc[0][["source_turn_id", "target_turn_id"]]]
    run = CliRunner()
    explained = run.invoke(app, ["explain", "pair", *ids, "--settings", str(settings)])
    assert explained.exit_code == 0
    assert "wording_shared" in explained.stdout
    modelled = run.invoke(app, ["explain", "model", "--day", str(DAYS[0]), "--settings", str(settings)])
    assert modelled.exit_code == 0
    assert f"Pairs of {DAYS[0]}" in modelled.stdout
    rows = [(*row, p > 0.3) for *row, p in pairs[["source_turn_id", "target_turn_id", "p_rephrase"]].to_numpy()]
    write_gold(tmp_path / "gold.csv", rows)
    evaluated = run.invoke(
        app, ["evaluate", "pairs", "--gold", str(tmp_path / "gold.csv"), "--settings", str(settings)]
    )
    assert evaluated.exit_code == 0
    assert "100 gold pairs" in evaluated.stdout
