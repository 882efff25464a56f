"""What must hold of whole runs: repeatable, resumable, day by day or all at once, exact at midnight."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import networkx as nx
import pandas as pd
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from selflearn.errors import DataError, VolumeError
from selflearn.lakehouse.schema import Table
from selflearn.lakehouse.store import Lakehouse
from selflearn.lakehouse.tables import ALL_TABLES, ERASURES, RELEASES, RUNS, VETOES
from selflearn.pipeline import LEARNING, MINING, STAGES, day_range, run_pipeline, run_stage
from selflearn.report import explain_utterance, utterance_table, write_graphml
from selflearn.settings import USER_KEY_VARIABLE, Detect, Graph, Release, Settings, Source, Turns
from selflearn.simulate import simulate

FIRST = date(2026, 1, 5)
# Every run of a stage costs Spark seconds, so a few days; their sessions cross midnights all the same.
DAYS = day_range(FIRST, FIRST + timedelta(days=2))
# A row of these tells when a run took place, so that two runs never have the same.
CLOCKED = (RUNS.name, RELEASES.name)


@pytest.fixture(scope="module", autouse=True)
def user_key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(USER_KEY_VARIABLE, "a key for tests only")
        yield


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "days"
    simulate(folder, n_turns=1_000, days=len(DAYS), start=FIRST, seed=3, locales=["en-GB", "ja-JP"], workers=1)
    return folder


@pytest.fixture(scope="module")
def mined(spark: SparkSession, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """All days in one run."""
    lake = Lakehouse(spark, str(tmp_path_factory.mktemp("mined")))
    for _ in run_pipeline(lake, settings_of(lake, sample), DAYS):
        pass
    return lake


def settings_of(lake: Lakehouse, sample: Path, **sections: Any) -> Settings:
    return Settings(
        lake=lake.root,
        source=Source(path=str(sample / "logs" / "{date}.jsonl")),
        launch=Source(path=str(sample / "launch.jsonl")),
        **sections,
    )


def content(lake: Lakehouse, table: Table | str) -> list[str]:
    """Rows of a table as sorted lines, times of runs left out."""
    name = table if isinstance(table, str) else table.name
    rows: pd.DataFrame = DeltaTable(f"{lake.root}/{name}").to_pandas()
    rows = rows.drop(columns="created_at", errors="ignore")
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in rows.map(_plain).to_dict("records"))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, float):
        # Sums of floats differ in their last digits with the order of the rows.
        return float(f"{value:.9g}")
    return value.hex() if isinstance(value, bytes) else value


def data_tables() -> list[str]:
    return [table.name for table in ALL_TABLES if table not in (RUNS, ERASURES, VETOES)]


def test_days_of_logs_become_a_training_set(mined: Lakehouse) -> None:
    assert len(content(mined, "turns")) == 1_000
    assert content(mined, "quarantine") == []
    assert len(content(mined, "weak_labels")) > 10
    origins = DeltaTable(f"{mined.root}/training_sets").to_pandas()["origin"].value_counts()
    assert origins["launch"] > 100


def test_the_chain_covers_every_linked_utterance_and_explains_one(mined: Lakehouse, tmp_path: Path) -> None:
    edges = DeltaTable(f"{mined.root}/graph_edges").to_pandas()
    graph = nx.Graph(zip(edges["source_utterance"], edges["target_utterance"], strict=True))
    runs = DeltaTable(f"{mined.root}/runs").to_pandas()
    metrics = dict(runs[runs["stage"] == "rewrite"]["metrics"].iloc[0])
    assert metrics["chain_utterances"] == len(graph)
    assert metrics["chain_components"] == nx.number_connected_components(graph)
    assert metrics["chain_residual"] < 1e-10

    largest = max(nx.connected_components(graph), key=len)
    assert metrics["chain_largest_component"] == len(largest) > 2
    nodes = DeltaTable(f"{mined.root}/graph_nodes").to_pandas()
    chosen = nodes[nodes["utterance_id"] == min(largest)].iloc[0]
    explained = {one.utterance_id: one for one in explain_utterance(mined.root, chosen["text"], Graph())}
    found = explained[min(largest)]
    assert set(found.component) == largest
    assert found.chain["n_states"] == len(largest)
    assert 0 < found.chain["p_success"] + found.chain["p_abandoned"] <= 1 + 1e-9
    assert repr(chosen["text"]) in str(utterance_table(found).title)
    communities = {found.component.nodes[of]["community"] for of in found.component}
    assert communities == set(range(1, len(communities) + 1))
    write_graphml(found, tmp_path / "component.graphml")
    again = nx.read_graphml(tmp_path / "component.graphml")
    assert set(again) == largest
    assert again.nodes[min(largest)]["text"] == chosen["text"]
    with pytest.raises(DataError, match="holds no utterance 'nobody says this'"):
        explain_utterance(mined.root, "nobody says this", Graph())


@pytest.mark.timeout(1800)
def test_daily_runs_give_the_tables_of_one_run_over_all_days(
    spark: SparkSession, sample: Path, mined: Lakehouse, tmp_path: Path
) -> None:
    daily = Lakehouse(spark, str(tmp_path / "daily"))
    settings = settings_of(daily, sample)
    for day in DAYS:
        for _ in run_pipeline(daily, settings, [day], MINING):
            pass
    for _ in run_pipeline(daily, settings, DAYS[-1:], LEARNING):
        pass
    for name in data_tables():
        assert content(daily, name) == content(mined, name), name


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_run_twice_leaves_the_same_content(mined: Lakehouse, sample: Path, name: str) -> None:
    stage = STAGES[name]
    before = {table.name: content(mined, table) for table in stage.writes}
    run_stage(stage, mined, settings_of(mined, sample), DAYS)
    assert {table.name: content(mined, table) for table in stage.writes} == before


def test_a_run_killed_between_stages_goes_on_where_it_stopped(
    spark: SparkSession, sample: Path, mined: Lakehouse, tmp_path: Path
) -> None:
    lake = Lakehouse(spark, str(tmp_path / "killed"))
    settings = settings_of(lake, sample)
    run = run_pipeline(lake, settings, DAYS, MINING)
    for _ in ("ingest", "detect"):
        next(run)
    run.close()
    resumed = [(m.stage, was_done) for m, was_done in run_pipeline(lake, settings, DAYS, MINING, resume=True)]
    assert resumed == [(stage.name, stage.name in ("ingest", "detect")) for stage in MINING]
    assert content(lake, "evidence") == content(mined, "evidence")


def test_resume_runs_a_stage_again_once_its_input_has_changed(mined: Lakehouse, sample: Path) -> None:
    settings = settings_of(mined, sample)
    run_stage(STAGES["evidence"], mined, settings, DAYS)
    stages = [stage for name, stage in STAGES.items() if name not in ("label", "release")]
    resumed = {m.stage: was_done for m, was_done in run_pipeline(mined, settings, DAYS, stages, resume=True)}
    assert resumed == {
        "ingest": True,
        "detect": True,
        "embed": True,
        "evidence": True,
        "variants": False,
        "graph": False,
        "rewrite": False,
    }


def test_an_empty_day_clears_its_partition(spark: SparkSession, sample: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for day in DAYS[:2]:
        (logs / f"{day}.jsonl").write_bytes((sample / "logs" / f"{day}.jsonl").read_bytes())
    lake = Lakehouse(spark, str(tmp_path / "lake"))
    settings = settings_of(lake, sample).model_copy(update={"source": Source(path=str(logs / "{date}.jsonl"))})
    for _ in run_pipeline(lake, settings, DAYS[:2], MINING):
        pass
    (logs / f"{DAYS[1]}.jsonl").write_text("", encoding="utf-8")
    for _ in run_pipeline(lake, settings, DAYS[1:2], MINING):
        pass
    for name in ("turns", "rephrase_pairs", "turn_outcomes", "evidence"):
        days = set(DeltaTable(f"{lake.root}/{name}").to_pandas()["turn_date"])
        assert days == {DAYS[0]}, name


def test_a_day_ingested_before_its_sessions_ended_is_made_again(spark: SparkSession, tmp_path: Path) -> None:
    """The logs of two days arrive one after the other; a session crosses the midnight between them."""
    logs = tmp_path / "logs"
    logs.mkdir()
    midnight = datetime(2026, 1, 6)
    turns = [_turn(f"t{k}", midnight + timedelta(minutes=k - 2)) for k in range(4)]
    lake = Lakehouse(spark, str(tmp_path / "lake"))
    settings = Settings(lake=lake.root, source=Source(path=str(logs / "{date}.jsonl")))
    _write(logs / "2026-01-05.jsonl", turns[:2])
    for _ in run_pipeline(lake, settings, [date(2026, 1, 5)], MINING):
        pass
    _write(logs / "2026-01-06.jsonl", turns[2:])
    runs = [manifest for manifest, _ in run_pipeline(lake, settings, [date(2026, 1, 6)], MINING)]
    assert all(date(2026, 1, 5) in manifest.days for manifest in runs)
    found = DeltaTable(f"{lake.root}/turns").to_pandas().sort_values("turn_index")
    assert list(found["turn_id"]) == ["t0", "t1", "t2", "t3"]
    assert set(found["turn_date"]) == {date(2026, 1, 5)}
    pairs = DeltaTable(f"{lake.root}/rephrase_pairs").to_pandas()
    assert len(pairs) == 6


def test_a_session_of_50_000_turns_costs_its_cap(spark: SparkSession, tmp_path: Path) -> None:
    start = datetime(2026, 1, 5, 1)
    rows = [_turn(f"t{k}", start + timedelta(milliseconds=500 * k)) for k in range(50_000)]
    _write(tmp_path / "2026-01-05.jsonl", rows)
    lake = Lakehouse(spark, str(tmp_path / "lake"))
    settings = Settings(
        lake=lake.root,
        source=Source(path=str(tmp_path / "{date}.jsonl")),
        detect=Detect(max_turns_per_session=1_000),
        graph=Graph(max_turns_per_user=500),
    )
    stages = [stage for name, stage in STAGES.items() if name != "release"]
    runs = {manifest.stage: manifest for manifest, _ in run_pipeline(lake, settings, [date(2026, 1, 5)], stages)}
    assert runs["ingest"].row_counts["turns"] == 50_000
    assert runs["detect"].row_counts["rephrase_pairs"] == sum(min(5, later) for later in range(1_000))
    assert runs["detect"].metrics["turns_over_session_cap"] == 49_000
    assert runs["detect"].metrics["pairs_forecast"] == pytest.approx(5_000, rel=0.02)
    assert runs["evidence"].metrics["turns_over_user_cap"] == 49_500
    assert runs["label"].row_counts["weak_labels"] == 0
    before = content(lake, "rephrase_pairs")
    fewer = settings.model_copy(update={"detect": Detect(max_turns_per_session=1_000, max_pairs=1_000)})
    with pytest.raises(VolumeError, match=r"about 4,9\d\d pairs of turns would be compared, at most 1,000 may be"):
        run_stage(STAGES["detect"], lake, fewer, [date(2026, 1, 5)])
    assert content(lake, "rephrase_pairs") == before


def test_too_many_bad_rows_stop_the_run_before_turns_are_written(spark: SparkSession, tmp_path: Path) -> None:
    rows = [_turn(f"t{k}", datetime(2026, 1, 5, 1)) for k in range(9)]
    _write(tmp_path / "2026-01-05.jsonl", [*rows, {"turn_id": "bad"}])
    lake = Lakehouse(spark, str(tmp_path / "lake"))
    settings = Settings(
        lake=lake.root,
        source=Source(path=str(tmp_path / "{date}.jsonl")),
        turns=Turns(max_quarantined_share=0.05),
        release=Release(),
    )
    with pytest.raises(DataError, match=r"1 of 10 rows \(10.0%\) are bad"):
        run_stage(STAGES["ingest"], lake, settings, [date(2026, 1, 5)])
    assert len(content(lake, "quarantine")) == 1
    assert not Path(lake.root, "turns").exists()
    assert list(Path(lake.root, "_landing").iterdir()) == []
    failed = DeltaTable(f"{lake.root}/runs").to_pandas()
    assert list(failed["state"]) == ["failed"]
    assert "1 of 10 rows" in failed["message"].iloc[0]


def _turn(turn_id: str, at: datetime) -> dict[str, Any]:
    return {
        "turn_id": turn_id,
        "session_id": "s",
        "user_id": "u",
        "ts": at.isoformat() + "Z",
        "locale": "en-GB",
        "text": f"turn it {'up' if int(turn_id[1:]) % 2 else 'down'}",
        "intent": "volume",
        "nlu_score": 0.5,
    }


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
