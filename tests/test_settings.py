"""Settings: every mistake named at once, paths anchored, and a fingerprint of what changes results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from selflearn.errors import SettingsError
from selflearn.settings import Settings, load_settings, parse_settings, read_user_key

LEAST: dict[str, Any] = {"lake": "lake", "source": {"path": "logs/{date}.jsonl"}}
KEY = "sixteen or more characters"


def written(folder: Path, content: str | dict[str, Any]) -> Path:
    file = folder / "settings.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return file


def given(**changes: Any) -> Settings:
    return parse_settings(LEAST | changes)


def test_all_mistakes_of_a_file_are_named_in_one_error(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        source: {path: logs, format: xml}
        labels: {threshold: 1.5}
        detect: {max_turns: many, max_turn: 3}
        colour: red
        """,
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    message = caught.value.what
    assert message.startswith(f"{file} has 6 mistakes:")
    assert "lake: required, but missing" in message
    assert "source.format: " in message
    assert "(got 'xml')" in message
    assert "labels.threshold: Input should be less than 1 (got 1.5)" in message
    assert "detect.max_turns: " in message
    assert "(got 'many')" in message
    assert "detect.max_turn: unknown key" in message
    assert "colour: unknown key" in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("- lake\n- source\n", "a settings file is a mapping of sections"),
        ("", "a settings file is a mapping of sections"),
        ("lake: [unclosed\n", "cannot be read"),
        ("lake: lake\n", "has 1 mistake:\n  - source: required, but missing"),
        ("lake: lake\nsource: {}\n", "source.path: required, but missing"),
        ("lake: lake\nsource: {path: p}\nlabels: {threshold: .nan}\n", "labels.threshold"),
        ("lake: lake\nsource: {path: p}\nlake: other\n", "key 'lake' stands twice"),
        ("lake: ''\nsource: {path: p}\n", "lake: String should have at least 1 character"),
        (
            "lake: lake\nsource: {path: p}\nlabels: {min_users: yes}\n",
            "labels.min_users: Input should be a valid integer",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_told_why(tmp_path: Path, content: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(written(tmp_path, content))
    assert complaint in caught.value.what
    assert caught.value.next_step


def test_a_file_that_is_not_there_or_not_text_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(tmp_path / "absent.yaml")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "binary.yaml")


def test_relative_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = LEAST | {"launch": {"path": "launch.jsonl"}, "detect": {"model": "detector.json"}}
    content |= {"release": {"golden": {"smoke": {"path": "smoke.csv", "format": "csv"}}}}
    (tmp_path / "deployment").mkdir()
    written(tmp_path / "deployment", content)
    monkeypatch.chdir(tmp_path)
    settings = load_settings(Path("deployment/settings.yaml"))
    folder = tmp_path / "deployment"
    assert settings.lake == str(folder / "lake")
    assert settings.source.path == str(folder / "logs/{date}.jsonl")
    assert settings.launch is not None
    assert settings.launch.path == str(folder / "launch.jsonl")
    assert settings.detect.model == folder / "detector.json"
    assert settings.release.golden["smoke"].path == str(folder / "smoke.csv")
    assert settings.release.golden["smoke"].format == "csv"


def test_absolute_paths_and_object_stores_stay_as_they_are(tmp_path: Path) -> None:
    content = {"lake": "s3a://bucket/lake", "source": {"path": "/logs/{date}"}, "launch": {"path": "file:/launch"}}
    settings = load_settings(written(tmp_path, content))
    assert settings.lake == "s3a://bucket/lake"
    assert settings.source.path == "/logs/{date}"
    assert settings.launch is not None
    assert settings.launch.path == "file:/launch"
    assert load_settings(written(tmp_path, content | {"lake": "~/lake"})).lake == str(Path.home() / "lake")
    assert settings.detect.model is None


def test_what_is_left_out_has_a_default_and_nothing_can_be_changed() -> None:
    settings = given(labels={"min_users": 3})
    assert settings.labels.min_users == 3
    assert settings.labels.threshold == 0.85
    assert settings.detect == given().detect
    with pytest.raises(ValidationError, match="frozen"):
        settings.lake = "elsewhere"
    with pytest.raises(ValidationError, match="frozen"):
        settings.labels.threshold = 0.5


def test_fingerprint_is_of_what_changes_results_not_of_where_things_lie(tmp_path: Path) -> None:
    fingerprint = given().fingerprint()
    assert len(fingerprint) == 12
    assert set(fingerprint) <= set("0123456789abcdef")
    moved = {"lake": "/elsewhere", "source": {"path": "/other/logs"}}
    assert parse_settings(moved).fingerprint() == fingerprint
    golden = [given(release={"golden": {name: {"path": path}}}) for name, path in (("a", "x"), ("a", "y"), ("b", "x"))]
    assert golden[0].fingerprint() == golden[1].fingerprint() != golden[2].fingerprint()
    assert load_settings(written(tmp_path, LEAST)).fingerprint() == fingerprint
    launch = given(launch={"path": "a.jsonl"}).fingerprint()
    assert launch == given(launch={"path": "b.jsonl"}).fingerprint()
    different = {
        given(labels={"threshold": 0.86}).fingerprint(),
        given(detect={"max_turns": 4}).fingerprint(),
        given(source={"path": "logs", "format": "csv"}).fingerprint(),
        given(source={"path": "logs", "columns": {"text": "lower(said)"}}).fingerprint(),
        launch,
    }
    assert len(different - {fingerprint}) == 5
    pinned = given(detect={"model": str(tmp_path / "detector.json")})
    (tmp_path / "detector.json").write_text("{}")
    before = pinned.fingerprint()
    (tmp_path / "detector.json").write_text("[]")
    assert len({fingerprint, before, pinned.fingerprint()}) == 3


def test_user_key_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(f"{KEY}, in a file\n")
    monkeypatch.setenv("SELFLEARN_USER_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.delenv("SELFLEARN_USER_KEY", raising=False)
    assert read_user_key() == f"{KEY}, in a file".encode()
    monkeypatch.setenv("SELFLEARN_USER_KEY", KEY)
    assert read_user_key() == KEY.encode()


def test_a_key_that_is_missing_short_or_unreadable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SELFLEARN_USER_KEY_FILE", raising=False)
    monkeypatch.delenv("SELFLEARN_USER_KEY", raising=False)
    with pytest.raises(SettingsError, match="has 0 characters, at least 16 needed"):
        read_user_key()
    monkeypatch.setenv("SELFLEARN_USER_KEY", "x" * 15)
    with pytest.raises(SettingsError, match="has 15 characters") as caught:
        read_user_key()
    assert "x" * 15 not in str(caught.value)
    monkeypatch.delenv("SELFLEARN_USER_KEY")
    (tmp_path / "binary").write_bytes(b"\xff" * 32)
    for name in ("absent", "binary"):
        monkeypatch.setenv("SELFLEARN_USER_KEY_FILE", str(tmp_path / name))
        with pytest.raises(SettingsError, match="cannot be read"):
            read_user_key()


def test_json_schema_describes_every_section_and_refuses_unknown_keys() -> None:
    schema = json.loads(json.dumps(Settings.model_json_schema()))
    assert set(schema["required"]) == {"lake", "source"}
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert schema["additionalProperties"] is False
    assert all(section["additionalProperties"] is False for section in schema["$defs"].values())
    assert schema["$defs"]["Labels"]["properties"]["threshold"]["exclusiveMaximum"] == 1
