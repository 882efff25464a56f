"""`selflearn fit pairs` from end to end: gold and a launch set in, a pinned model that the stage detect uses out."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import yaml
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from selflearn.cli import app
from selflearn.detect import read_pinned
from selflearn.detect.supervised import SupervisedModel
from selflearn.errors import DataError, SettingsError
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import STAGES, day_range, run_stage
from selflearn.pipeline.fitting import fit_pairs
from selflearn.report import explain_pair
from selflearn.report.model import read_pair_model
from selflearn.settings import USER_KEY_VARIABLE, load_settings
from selflearn.simulate import simulate
from selflearn.simulate.truth import read_truth

DAYS = day_range(date(2026, 1, 5), date(2026, 1, 6))
KEY = ["source_turn_id", "target_turn_id"]


def pairs_of(lake: str) -> pd.DataFrame:
    return DeltaTable(f"{lake}/rephrase_pairs").to_pandas().sort_values(KEY, ignore_index=True)


def test_a_model_fitted_to_gold_scores_the_log_and_explains_its_pairs(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(USER_KEY_VARIABLE, "a key for tests only")
    simulate(tmp_path, n_turns=1_200, days=len(DAYS), start=DAYS[0], seed=5, workers=1)
    file, saved = tmp_path / "settings.yaml", tmp_path / "models" / "pairs.json"
    content = {"lake": "lake", "source": {"path": "logs/{date}.jsonl"}, "launch": {"path": "launch.jsonl"}}
    file.write_text(yaml.safe_dump(content))
    settings = load_settings(file)
    lake = Lakehouse(spark, settings.lake)
    for stage in ("ingest", "detect"):
        run_stage(STAGES[stage], lake, settings, DAYS)
    label_free = pairs_of(lake.root)
    said_again = {row.turn_id: row.rephrase_of for row in read_truth(tmp_path / "truth")}
    gold = label_free[KEY].assign(is_rephrase=label_free[KEY[1]].map(said_again) == label_free[KEY[0]])
    few = gold.sample(500, random_state=0)
    few.to_csv(tmp_path / "gold.csv", index=False)

    run = CliRunner()
    command = ["fit", "pairs", "--settings", str(file), "--out", str(saved)]
    fitted = run.invoke(app, [*command, "--gold", str(tmp_path / "gold.csv"), "--corpus"])
    assert fitted.exit_code == 0, fitted.output
    model = read_pinned(saved)
    assert isinstance(model, SupervisedModel)
    assert model.provenance["n_gold"] == len(few)
    assert model.provenance["n_sentence_pairs"] > 1_000
    assert model.provenance["tables"] == {"turns": lake.version(STAGES["ingest"].writes[0])}
    assert model.provenance["settings_fingerprint"] == settings.fingerprint()

    file.write_text(yaml.safe_dump(content | {"detect": {"model": "models/pairs.json"}}))
    pinned = load_settings(file)
    run_stage(STAGES["detect"], lake, pinned, DAYS)
    learnt = pairs_of(lake.root)
    is_rephrase = gold["is_rephrase"].to_numpy()
    before, after = (average_precision_score(is_rephrase, pairs["p_rephrase"]) for pairs in (label_free, learnt))
    assert after > before
    ids = learnt.loc[learnt["p_rephrase"].idxmax(), KEY]
    explanation = explain_pair(lake.root, *ids, pinned.detect)
    assert explanation.steps[-1].name == "learnt from gold"
    assert explanation.p_rephrase == pytest.approx(learnt["p_rephrase"].max(), abs=1e-9)
    with pytest.raises(DataError, match="scored by the pinned model with sha256"):
        explain_pair(lake.root, *ids, settings.detect)

    assert read_pair_model(lake.root, DAYS[0]) == (DAYS[0], model.label_free)

    elsewhere = few.assign(**{name: "x" + few[name] for name in KEY})
    with pytest.raises(DataError, match="turns that gold names is in table turns"):
        fit_pairs(lake, settings, elsewhere, False)
    with pytest.raises(SettingsError, match="name no launch set"):
        fit_pairs(lake, settings.model_copy(update={"launch": None}), None, True)
    with pytest.raises(DataError, match="table turns does not exist"):
        fit_pairs(Lakehouse(spark, str(tmp_path / "empty")), settings, few, False)


def test_without_anything_to_learn_from_nothing_is_started(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["fit", "pairs", "--settings", "absent.yaml", "--out", str(tmp_path / "m.json")])
    assert isinstance(found.exception, SettingsError)
    assert "nothing to learn from" in str(found.exception)
    (tmp_path / "gold.csv").write_text("source_turn_id,target_turn_id,is_rephrase\n")
    (tmp_path / "settings.yaml").write_text("lake: lake\nsource: {path: logs}\n")
    command = ["fit", "pairs", "--settings", str(tmp_path / "settings.yaml"), "--out", str(tmp_path / "m.json")]
    found = CliRunner().invoke(app, [*command, "--gold", str(tmp_path / "gold.csv")])
    assert isinstance(found.exception, DataError)
    assert "has no pairs" in str(found.exception)
