"""Goal variants as the stages make them: vectors once, exact links few, pairs of two people with `p_same_goal`."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from selflearn.errors import DataError, InfrastructureError, SettingsError
from selflearn.evaluate import evaluate_variants
from selflearn.lakehouse import tables
from selflearn.lakehouse.store import CommitLabel, Lakehouse, versions
from selflearn.pipeline import STAGES, run_stage
from selflearn.pipeline.encoders import new_encoder, newest_encoder
from selflearn.settings import Settings, Source, Variants
from selflearn.turns import utterance_id
from selflearn.variants import Limits
from selflearn.variants.known_goals import LINKS_PER_UTTERANCE, MIN_P_GOAL, _acted_on, count_exact, exact_variants

DAY = date(2026, 1, 5)
CITIES = [f"{first}{last}" for first in ("bo", "ka", "li", "mun", "ter") for last in ("ra", "vik", "dos", "ham", "lu")]
WORDINGS = {
    "weather": ("weather in {}", "what is the weather in {}", "will it rain in {}", "forecast for {} please"),
    "train": ("trains to {}", "when is the next train to {}", "train to {} please", "next train to {}"),
}
LABEL = CommitLabel("run", "settings")


def goal(intent: str, city: str) -> str:
    return json.dumps({"intent": intent, "slots": [{"name": "city", "value": city}]})


def readings(*rows: tuple[str, float, float, float]) -> pa.ListArray:
    names = ("goal", "p_sum", "n_outcomes", "outcome_sum")
    kinds = [(name, pa.string() if name == "goal" else pa.float64()) for name in names]
    return pa.array([[dict(zip(names, row, strict=True)) for row in rows]], pa.list_(pa.struct(kinds)))


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        pytest.param([("g", 1.9, 2.0, -1.0), ("h", 0.1, 0.0, 0.0)], "g", id="read surely, and it worked"),
        pytest.param([("g", 0.95, 1.0, -0.5), ("g", 0.95, 1.0, -0.5)], "g", id="on two days"),
        pytest.param([("g", 1.9, 2.0, 4.0)], None, id="read surely, and it failed"),
        pytest.param([("g", 0.8, 2.0, -0.2), ("h", 1.2, 0.0, 0.0)], None, id="read unsurely"),
        pytest.param([("g", 1.0, 1.0, -2.0), ("h", 1.0, 1.0, -2.0)], None, id="now this, now that"),
        pytest.param([("g", 1.9, 0.0, 0.0)], None, id="never acted on"),
        pytest.param([], None, id="never read"),
    ],
)
def test_a_goal_is_known_where_the_assistant_was_sure_and_it_worked(
    listed: list[tuple[str, float, float, float]], known: str | None
) -> None:
    names, probabilities = _acted_on(readings(*listed), np.array([2.0]))
    assert names.to_pylist() == [known]
    (p,) = probabilities.to_pylist()
    assert p is None if known is None else p >= MIN_P_GOAL


def test_the_settings_bound_the_search_as_its_limits_do() -> None:
    assert set(Variants.model_fields) - {"encoder"} == set(vars(Limits()))


def test_the_newest_whole_encoder_of_a_lake_is_taken(tmp_path: Path) -> None:
    assert newest_encoder(str(tmp_path / "no lake")) is None
    for day in (5, 6):
        folder = new_encoder(str(tmp_path), datetime(2026, 1, day, tzinfo=UTC))
        folder.mkdir(parents=True)
        (folder / "modules.json").write_text("[]", encoding="utf-8")
    (folder.parent / "tmp being written").mkdir()
    assert newest_encoder(str(tmp_path)) == str(folder)
    with pytest.raises(SettingsError, match="no local folder"):
        new_encoder("s3a://bucket/lake", datetime(2026, 1, 5, tzinfo=UTC))


def test_without_a_run_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no table variant_models"):
        evaluate_variants(str(tmp_path))


def test_exact_variants_link_each_utterance_to_the_most_said_of_its_goal(spark: SparkSession) -> None:
    rows = [("en", f"u{k:02}", float(k), [k], "g", 0.9) for k in range(10)]
    rows += [("en", "v0", 1.0, [1], "h", 0.9), ("en", "v1", 1.0, [1], "h", 0.9), ("de", "w", 1.0, [9], "h", 0.9)]
    columns = "locale string, utterance_id string, n double, users array<bigint>, goal string, p_goal double"
    known = spark.createDataFrame(rows, columns)
    found = exact_variants(known, False).collect()
    hubs = {f"u{k:02}" for k in (9, 8, 7)}
    assert len(found) == 7 * LINKS_PER_UTTERANCE + 3
    assert all(row["left_utterance"] < row["right_utterance"] for row in found)
    assert all({row["left_utterance"], row["right_utterance"]} & hubs for row in found)
    assert found[0]["p_same_goal"] == pytest.approx(0.81)
    assert count_exact(known, False) == (13, 7 * 6 // 2)
    # Of two locales together, `w` is said by another than `v0` and `v1` are.
    across = {(row["left_utterance"], row["right_utterance"]) for row in exact_variants(known, True).collect()}
    assert {pair for pair in across if "w" in pair} == {("v0", "w"), ("v1", "w")}


@pytest.fixture(scope="module")
def mined(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lakehouse, Settings]:
    """A day of turns and evidence: every utterance by a user of its own, and one locale of three utterances."""
    lake = Lakehouse(spark, str(tmp_path_factory.mktemp("variants")))
    frames = [(intent, city, text) for city in CITIES for intent, texts in WORDINGS.items() for text in texts]
    said = [("en", text.format(city), goal(intent, city)) for intent, city, text in frames]
    said += [("xx", text, goal("weather", "boham")) for text in ("boham", "boham now", "boham today")]
    rows = [(locale, utterance_id(locale, "", text), text, known, k) for k, (locale, text, known) in enumerate(said)]
    columns = "locale string, utterance_id string, text string, goal string, user long"
    utterances = spark.createDataFrame(rows, columns).withColumn("turn_date", F.lit(DAY))
    turns = utterances.withColumns(
        {"normalised_text": F.col("text"), "turn_id": F.col("utterance_id"), "session_id": F.col("utterance_id")}
    )
    filled = {"turn_index": F.lit(0), "user_id": F.lit("u"), "ts": F.timestamp_seconds(F.lit(0)), "context": F.lit("")}
    missing = [field for field in tables.TURNS.schema if field.name not in (*turns.columns, *filled)]
    nothing = {field.name: F.lit(None).cast(field.dataType) for field in missing}
    lake.replace(tables.TURNS, turns.withColumns(filled | nothing), LABEL, turn_date=[DAY])
    shared = {
        "source_utterance": F.col("utterance_id"),
        "context": F.lit(""),
        "n": F.lit(1.0),
        "friction_sum": F.lit(0.1),
        "gave_up_sum": F.lit(0.0),
        # Of one wording of each goal nothing is known.
        "n_outcomes": F.when(F.col("text").endswith("please"), 0.0).otherwise(1.0),
        "outcome_sum": F.lit(-1.0),
        "p_sum": F.lit(0.9),
    }
    of_utterance = {"kind": F.lit("utterance"), "target": F.lit(""), "users": F.array("user")}
    of_reading = {"kind": F.lit("reading"), "target": F.col("goal"), "users": F.lit(None).cast("array<bigint>")}
    names = tables.EVIDENCE.schema.fieldNames()
    evidence = [utterances.withColumns(shared | kind).select(*names) for kind in (of_utterance, of_reading)]
    lake.replace(tables.EVIDENCE, evidence[0].unionByName(evidence[1]), LABEL, turn_date=[DAY])
    settings = Settings(lake=lake.root, source=Source(path="unread"), variants=Variants(min_cosine=0.3))
    return lake, settings


def read(lake: Lakehouse, name: str) -> pd.DataFrame:
    return DeltaTable(f"{lake.root}/{name}").to_pandas()


def test_variants_are_found_and_calibrated_and_nothing_is_encoded_twice(mined: tuple[Lakehouse, Settings]) -> None:
    lake, settings = mined
    first, second = (run_stage(STAGES["embed"], lake, settings, [DAY]) for _ in range(2))
    assert first.row_counts["utterances"] == len(CITIES) * 8 + 3
    assert second.row_counts == {}
    assert second.versions_written == first.versions_written
    done = run_stage(STAGES["variants"], lake, settings, [DAY])
    assert done.message == "encoder lexical-1"
    assert done.metrics["utterances_not_encoded"] == 0
    assert done.metrics["utterances_of_known_goal"] == len(CITIES) * 6 + 3
    found = read(lake, "goal_variants")
    assert not found.duplicated(["left_utterance", "right_utterance"]).any()
    assert (found["left_locale"] == found["right_locale"]).all()
    exact, semantic = (found[found["kind"] == kind] for kind in ("exact", "semantic"))
    assert exact["cosine"].isna().all()
    assert len(exact) == len(CITIES) * 2 * 3 + 3
    goals = read(lake, "turns").set_index("utterance_id")["goal"]
    is_same = goals[semantic["left_utterance"]].to_numpy() == goals[semantic["right_utterance"]].to_numpy()
    # Wordings of nothing known find their goal, and pairs of other goals are too improbable for a row.
    assert len(semantic) > len(CITIES)
    assert is_same.mean() > 0.9
    assert semantic["p_same_goal"].mean() > 0.5
    evaluation = evaluate_variants(lake.root)
    assert evaluation.overall.calibration_error < 0.1
    assert evaluation.encoder_id == "lexical-1"


def test_sentences_of_the_launch_set_get_vectors_too(mined: tuple[Lakehouse, Settings], tmp_path: Path) -> None:
    _, settings = mined
    lake = Lakehouse(mined[0].spark, str(tmp_path / "lake"))
    lake.replace(tables.TURNS, mined[0].read(tables.TURNS), LABEL, turn_date=[DAY])
    sentences = [{"locale": "en", "text": text, "intent": "train"} for text in ("Trains to Bora", "a train, any train")]
    (tmp_path / "launch.jsonl").write_text("\n".join(map(json.dumps, sentences)), encoding="utf-8")
    launch = Source(path=str(tmp_path / "launch.jsonl"))
    with_launch = settings.model_copy(update={"lake": lake.root, "launch": launch})
    first, second = (run_stage(STAGES["embed"], lake, with_launch, [DAY]) for _ in range(2))
    # What people said as it stands in the launch set is one utterance.
    assert first.row_counts["utterances"] == len(CITIES) * 8 + 3 + 1
    assert second.row_counts == {}
    assert "a train, any train" in set(read(lake, "utterances")["text"])


class Pretrained:
    """Knows what people want, whatever their words, but for one sentence that it never saw."""

    encoder_id = "pretrained-1"
    dimension = 2


def test_the_refit_reads_by_a_pretrained_encoder_and_by_no_other(
    mined: tuple[Lakehouse, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, settings = mined
    turns = read(lake, "turns")
    known = turns[turns["normalised_text"] != "train to bora please"]
    vectors = [
        (
            row.locale,
            row.utterance_id,
            "pretrained-1",
            row.normalised_text,
            [1.0, 0.0] if "train" in row.goal else [0.0, 1.0],
        )
        for row in known.itertuples()
    ]
    lake.insert(tables.UTTERANCES, lake.spark.createDataFrame(vectors, tables.UTTERANCES.schema), LABEL)
    monkeypatch.setattr("selflearn.pipeline.encoders.load_encoder", lambda name: Pretrained())
    right = {}
    for name, encoder in (("spelling", None), ("pretrained", "pretrained")):
        variants = settings.variants.model_copy(update={"encoder": encoder})
        done = run_stage(STAGES["graph"], lake, settings.model_copy(update={"variants": variants}), [DAY])
        assert done.metrics["pool_is_refitted"] == 1
        nodes = read(lake, "graph_nodes")
        assert set(nodes["utterance_id"]) == set(turns["utterance_id"])
        goals = turns.set_index("utterance_id")["goal"]
        right[name] = nodes[nodes["goal"] == nodes["utterance_id"].map(goals)].set_index("utterance_id")[
            "refit_evidence"
        ]
    more = right["pretrained"] - right["spelling"]
    assert more.loc[known["utterance_id"]].dropna().mean() > 0.05
    assert len(right["pretrained"]) == len(right["spelling"])


def test_vectors_of_another_dimension_under_the_encoders_name_are_refused(mined: tuple[Lakehouse, Settings]) -> None:
    lake, settings = mined
    other = Lakehouse(lake.spark, f"{lake.root}/other")
    row = ("en", "u", "lexical-1", "text", [1.0, 0.0])
    other.insert(tables.UTTERANCES, lake.spark.createDataFrame([row], tables.UTTERANCES.schema), LABEL)
    turns = lake.read(tables.TURNS)
    other.replace(tables.TURNS, turns, LABEL, turn_date=[DAY])
    with pytest.raises(DataError, match="makes vectors of 512 numbers, table utterances holds some of 2"):
        run_stage(STAGES["embed"], other, settings.model_copy(update={"lake": other.root}), [DAY])


def test_what_another_run_inserted_meanwhile_is_not_inserted_again(mined: tuple[Lakehouse, Settings]) -> None:
    lake, _ = mined
    shared = Lakehouse(lake.spark, f"{lake.root}/shared")
    shared.create(tables.UTTERANCES)
    seen = versions(shared, [tables.UTTERANCES])["utterances"]
    row = lake.spark.createDataFrame([("en", "u", "e", "text", [1.0])], tables.UTTERANCES.schema)
    assert shared.insert(tables.UTTERANCES, row, LABEL, seen) == 1
    with pytest.raises(InfrastructureError, match="another run wrote the same part of table utterances"):
        shared.insert(tables.UTTERANCES, row, LABEL, seen)
    assert shared.read(tables.UTTERANCES).count() == 1


def test_an_encoder_that_is_missing_is_named(mined: tuple[Lakehouse, Settings], tmp_path: Path) -> None:
    lake, settings = mined
    missing = settings.model_copy(update={"variants": Variants(encoder=str(tmp_path / "gone"))})
    for stage in ("embed", "variants"):
        with pytest.raises(SettingsError, match="gone is no folder"):
            run_stage(STAGES[stage], lake, missing, [DAY])


def test_equal_utterances_and_full_cells_are_counted_and_do_not_stop_the_run(mined: tuple[Lakehouse, Settings]) -> None:
    lake, settings = mined
    equal = Lakehouse(lake.spark, f"{lake.root}/equal")
    for table in (tables.TURNS, tables.EVIDENCE):
        equal.replace(table, lake.read(table), LABEL, turn_date=[DAY])
    vector = F.array(*[F.lit(1.0 if k == 0 else 0.0).cast("float") for k in range(512)])
    rows = lake.read(tables.TURNS).select(
        "locale",
        "utterance_id",
        F.lit("lexical-1").alias("encoder_id"),
        F.lit("one").alias("text"),
        vector.alias("vector"),
    )
    equal.insert(tables.UTTERANCES, rows, LABEL)
    bounds = Variants(min_cosine=0.3, max_cell=50, max_neighbours=3)
    changed = settings.model_copy(update={"lake": equal.root, "variants": bounds})
    done = run_stage(STAGES["variants"], equal, changed, [DAY])
    assert done.metrics["pairs_over_cell_cap"] > 0
    assert done.row_counts["goal_variants"] <= (len(CITIES) * 8 + 3) * (3 + LINKS_PER_UTTERANCE)
