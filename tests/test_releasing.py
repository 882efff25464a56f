"""The stage release: published or rejected in one commit, taken back in one, and nothing of it where input is bad."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from release_place import DAY, LABEL, Place, make_place, nothing_published
from selflearn.errors import DataError, InfrastructureError
from selflearn.lakehouse import lease, tables
from selflearn.pipeline.withdrawal import remove_veto, roll_back, set_veto
from selflearn.release import find_release, load_training_set, read_releases, read_vetoes, veto
from selflearn.settings import Source, Trainer


@pytest.fixture
def place(spark: SparkSession, tmp_path: Path) -> Place:
    return make_place(spark, tmp_path)


def test_good_labels_are_published_and_bad_ones_rejected_with_the_reason(place: Place) -> None:
    good = place.label(["play me one", "PUT on  record 3", "play it"], "play") + place.label(["halt"], "stop", False)
    place.say(good)
    manifest = place.release()
    assert manifest.message is not None
    assert "published: no suite lost" in manifest.message
    assert manifest.metrics["is_published"] == 1.0
    first = find_release(place.lake.root)
    assert (first["n_launch"], first["n_corrected"], first["n_confirmed"]) == (40, 2, 1)
    examples = load_training_set(place.lake.root)
    assert "PUT on  record 3" not in set(examples["text"])
    assert "1 standing in an evaluation set" in first["card"]
    assert dict(first["figures"])["golden smoke.challenger"] == 1.0

    with nothing_published(place):
        again = place.release()
    assert again.message == f"release {first['release_id']} is published already, and was left as it is"

    place.say(place.label([f"stop that {number}" for number in range(60)], "stop"))
    rejected = place.release()
    assert place.states() == ["published", "rejected"]
    last = read_releases(place.lake.root).iloc[-1]
    assert "golden smoke: 1.000 to 0.000 of 20 sentences right" in last["reason"]
    assert last["champion_id"] == first["release_id"]
    assert rejected.metrics["golden smoke.challenger"] == 0.0
    assert find_release(place.lake.root)["release_id"] == first["release_id"]
    kept = DeltaTable(f"{place.lake.root}/training_sets").to_pandas()
    assert set(kept["release_id"]) == {first["release_id"]}

    # A rejected release is judged anew, by what the settings say now.
    place.release(golden={})
    assert place.states() == ["published", "rejected"]
    assert "golden" not in read_releases(place.lake.root).iloc[-1]["reason"]


def test_words_that_have_no_label_teach_their_likeliest_intent_by_its_weight(place: Place) -> None:
    set_veto(place.lake, place.settings, veto("", "halt then", "", "ambiguous"), datetime(2025, 1, 6))
    place.say(place.label(["play me one"], "play") + place.label(["halt"], "stop", False))
    place.lean(["play me one", "halt it", "halt then", "stop  that"], "stop", 0.6)
    place.release()
    released = find_release(place.lake.root)
    assert released["n_unsure"] == 2
    examples = load_training_set(place.lake.root).set_index("text")
    unsure = examples[examples["origin"] == "unsure"]
    assert unsure[["intent", "weight", "is_intent_only"]].to_dict("index") == {
        text: {"intent": "stop", "weight": 0.6, "is_intent_only": True} for text in ("halt it", "stop  that")
    }
    assert examples.loc["play me one", "intent"] == "play"
    place.release(unsure_from=1.0)
    assert find_release(place.lake.root)["n_unsure"] == 0


def test_a_roll_back_is_one_commit_and_what_is_withdrawn_stays_so(place: Place) -> None:
    with pytest.raises(DataError, match="table releases does not exist"):
        roll_back(place.lake, place.settings, "why")
    place.say(place.label(["play me one"], "play"))
    place.release()
    first = find_release(place.lake.root)["release_id"]
    place.say(place.label(["play me one", "play two"], "play"))
    place.release()
    second = find_release(place.lake.root)["release_id"]
    assert second != first
    before = place.lake.version(tables.RELEASES)
    assert roll_back(place.lake, place.settings, "people complained") == (second, first)
    assert place.lake.version(tables.RELEASES) == (before or 0) + 1
    assert find_release(place.lake.root)["release_id"] == first
    assert find_release(place.lake.root, second)["reason"] == "people complained"
    with nothing_published(place):
        assert "is withdrawn already" in str(place.release().message)
    assert roll_back(place.lake, place.settings, "too") == (first, None)
    with pytest.raises(DataError, match=r"no release of .* is published"):
        roll_back(place.lake, place.settings, "once more")


def test_of_two_at_once_the_second_is_told_who_is_first(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.2)
    with (
        lease.leased(place.lake, "learning", "a run over 2025-01-05"),
        pytest.raises(InfrastructureError, match=r"a run over 2025-01-05 has been writing the learning tables"),
    ):
        roll_back(place.lake, place.settings, "meanwhile")


def test_a_release_of_that_id_with_other_content_is_an_error(place: Place) -> None:
    place.say(place.label(["play me one"], "play"))
    place.release()
    name = find_release(place.lake.root)["release_id"]
    stored = place.lake.read(tables.TRAINING_SETS, release_id=[name])
    place.lake.replace(tables.TRAINING_SETS, stored.withColumn("weight", F.lit(0.5)), LABEL, release_id=[name])
    with (
        nothing_published(place),
        pytest.raises(DataError, match=f"release {name} exists already, with other examples"),
    ):
        place.release()


def test_vetoes_keep_labels_and_launch_sentences_out_until_they_are_taken_back(place: Place) -> None:
    place.say(place.label(["play me one", "play two"], "play"))
    given = veto("", "Play  TWO", "", "rude"), veto("en-GB", "", "stop", "retired")
    for one in given:
        set_veto(place.lake, place.settings, one, datetime(2025, 1, 6))
    set_veto(place.lake, place.settings, replace(given[0], reason="rude words"), datetime(2025, 1, 7))
    assert sorted(read_vetoes(place.lake.root)["reason"]) == ["retired", "rude words"]
    with pytest.raises(DataError, match="have the one intent 'play'"):
        place.release()
    remove_veto(place.lake, place.settings, given[1].veto_id)
    place.release()
    examples = load_training_set(place.lake.root)
    assert "play two" not in set(examples["text"])
    assert {"play me one", "stop 1"} <= set(examples["text"])
    with pytest.raises(DataError, match="there is no veto 'never'"):
        remove_veto(place.lake, place.settings, "never")


def test_bad_input_is_told_and_nothing_is_published(place: Place) -> None:
    with nothing_published(place):
        place.say(place.label(["play me one"], "play"))
        place.write(tables.WEAK_LABELS, [], as_of=[DAY])
        with pytest.raises(DataError, match=r"there is no weak label as of 2025-01-05, so nothing to release"):
            place.release()

        place.say(place.label(["play me one"], "play"))
        shape = place.folder / "shape.jsonl"
        shape.write_text('{"text": "play", "locale": "en-GB"}\n', encoding="utf-8")
        with pytest.raises(DataError, match=r"golden set 'odd' .*shape\.jsonl has 1 unfit rows \(1 missing_intent\)"):
            place.release(golden={"odd": Source(path=str(shape))})
        shape.write_text("no JSON at all\n", encoding="utf-8")
        with pytest.raises(DataError):
            place.release(golden={"odd": Source(path=str(shape))})
        shape.write_text("", encoding="utf-8")
        with pytest.raises(DataError):
            place.release(golden={"odd": Source(path=str(shape))})

        hanging = f"{sys.executable} -c 'import time; time.sleep(60)'"
        for command, told in (("false", "failed with exit code 1"), (hanging, "was not done after 0.01 minutes")):
            trainer = Trainer(train=command, predict="true", time_limit_minutes=0.01)
            with pytest.raises(InfrastructureError, match=told):
                place.release(trainer=trainer)
    alone = replace(place, settings=place.settings.model_copy(update={"launch": None}))
    with nothing_published(place), pytest.raises(DataError, match="all 1 examples have the one intent 'play'"):
        alone.release(golden={})


def test_labels_that_add_nothing_make_no_release(place: Place) -> None:
    place.say(place.label(["play me one"], "play", is_new=False))
    with nothing_published(place):
        manifest = place.release()
    assert manifest.message == "no label as of 2025-01-05 adds to the launch set; nothing was released"


def test_without_anything_to_compare_with_the_first_release_is_published(place: Place) -> None:
    place.say(place.label(["play me one"], "play") + place.label(["halt"], "stop"))
    alone = replace(place, settings=place.settings.model_copy(update={"launch": None}))
    assert "neither an earlier release nor a launch set" in str(alone.release(golden={}).message)
    assert find_release(place.lake.root)["n_corrected"] == 2
