"""The languages of the simulated people: each complete, each in its own script, chosen by locale."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from selflearn.cli import app
from selflearn.errors import SettingsError
from selflearn.simulate import known_locales, read_truth, simulate
from selflearn.simulate.world import CANCEL, Phrasebook, Utterance, load_world

START = date(2025, 2, 28)
USUAL = ("en-GB", "de-DE", "es-ES", "ja-JP", "ar-EG", "hi-IN")
SCRIPTS = {
    "ar-EG": "ARABIC", "hi-IN": "DEVANAGARI", "ja-JP": "HIRAGANA", "ru-RU": "CYRILLIC", "zh-CN": "CJK",
}  # fmt: skip
"""Where it is not Latin."""

Row = dict[str, Any]

each_locale = pytest.mark.parametrize("locale", known_locales())


def _book(locale: str) -> Phrasebook:
    return load_world((locale,)).phrasebooks[locale]


def _made(out: Path, locales: Sequence[str] | None = None, n_turns: int = 400) -> Path:
    simulate(out, n_turns=n_turns, days=1, start=START, seed=5, locales=locales, workers=1)
    return out


def _rows(out: Path) -> list[Row]:
    return [json.loads(line) for path in (out / "logs").iterdir() for line in path.read_text("utf-8").splitlines()]


def _digest(out: Path) -> str:
    content = b"".join(path.read_bytes() for path in sorted(out.rglob("*.jsonl")))
    return hashlib.sha256(content).hexdigest()


def _script(text: str) -> str:
    """The commonest first word of the names of a text's letters, such as `CYRILLIC`."""
    found = [unicodedata.name(letter).split()[0].split("-")[0] for letter in text if letter.isalpha()]
    return max(set(found), key=found.count)


@pytest.fixture(scope="module")
def said_and_heard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, Row]]]:
    """What was really said, and the turn that was logged, by locale."""
    out = _made(tmp_path_factory.mktemp("languages") / "log", known_locales(), 6_000)
    said = {row.turn_id: row.text for row in read_truth(out / "truth")}
    by_locale = defaultdict(list)
    for row in _rows(out):
        by_locale[row["locale"]].append((said[row["turn_id"]], row))
    return by_locale


def test_there_are_ten_languages_and_all_are_spoken(said_and_heard: dict[str, list[tuple[str, Row]]]) -> None:
    assert len(known_locales()) == 10
    assert set(said_and_heard) == set(known_locales())
    assert set(USUAL) < set(known_locales())


def test_the_usual_log_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    usual = _made(tmp_path / "usual")
    assert _digest(usual) == "350eaf6b85bccb00fe3199875ba9c572ee964dad9f1a4b66111671e118e8f32f"
    assert _digest(_made(tmp_path / "named", USUAL)) == _digest(usual)


def test_a_language_is_the_same_whatever_others_are_spoken(tmp_path: Path) -> None:
    outs = _made(tmp_path / "alone", ["tr-TR"]), _made(tmp_path / "among others", ["zh-CN", "tr-TR"])
    alone, among = (set((out / "launch.jsonl").read_text("utf-8").splitlines()) for out in outs)
    assert alone < among


@each_locale
def test_every_goal_can_be_said_asked_for_and_answered(locale: str) -> None:
    book, world = _book(locale), load_world((locale,))
    for intent in world.intents.values():
        wordings = book.requests[intent.name]
        assert len({carrier.text for carrier in wordings}) == len(wordings) >= 6
        assert {name for carrier in wordings for name in carrier.slot_names} == set(intent.slots)
        assert book.done[intent.name]
        if intent.question:
            assert book.asks[intent.question]
            assert len(book.answers[intent.question]) >= 4
        if intent.ask:
            assert any(intent.ask not in carrier.slot_names for carrier in wordings)
            assert all(intent.ask in carrier.slot_names for carrier in book.answers[intent.question])
        if intent.confirm:
            assert {carrier.intent for carrier in book.refusals[intent.question]} == {CANCEL}


@each_locale
def test_values_stand_in_the_words_as_they_are(locale: str) -> None:
    book = _book(locale)
    for carrier in book.carriers():
        values = {name: book.values[name] for name in carrier.slot_names}
        for chosen in product(*(options[:3] for options in values.values())):
            said = Utterance.of(carrier, dict(zip(values, chosen, strict=True)), book.fillers[0])
            assert said.frame == (carrier.intent, tuple(zip(values, chosen, strict=True)))
            assert all(value in said.text for value in chosen)
            assert "{" not in said.text


@each_locale
def test_wordings_and_values_are_clean_and_no_list_holds_one_twice(locale: str) -> None:
    book = _book(locale)
    texts = [carrier.text for carrier in book.carriers()]
    texts += [value for values in book.values.values() for value in values]
    for text in texts:
        assert text == unicodedata.normalize("NFC", text)
        assert text == " ".join(text.split())
    for values in book.values.values():
        assert len(set(values)) == len(values)
    for before, after in book.fillers:
        assert before.strip() or after.strip()


@each_locale
def test_some_words_mean_two_things(locale: str) -> None:
    requests = [carrier.text for group in _book(locale).requests.values() for carrier in group]
    assert len(set(requests)) < len(requests)


@each_locale
def test_one_turn_in_ten_is_misheard_in_letters_of_its_own(
    locale: str, said_and_heard: dict[str, list[tuple[str, Row]]]
) -> None:
    book = _book(locale)
    own = [carrier.text for carrier in book.carriers()]
    own += [text for texts in (*book.values.values(), *book.fillers) for text in texts]
    turns = said_and_heard[locale]
    misheard = [row["text"] for said, row in turns if row["text"] != said]
    assert 0.05 < len(misheard) / len(turns) < 0.16
    assert set("".join(misheard).casefold()) <= set("".join(own).casefold())


@each_locale
def test_values_are_taken_for_others_that_look_alike(
    locale: str, said_and_heard: dict[str, list[tuple[str, Row]]]
) -> None:
    values = {value for values in _book(locale).values.values() for value in values}
    misheard = [(said, row["text"]) for said, row in said_and_heard[locale] if row["text"] != said]
    for said, heard in misheard:
        if any(said.replace(value, other) == heard for value in values if value in said for other in values):
            return
    pytest.fail(f"no value was taken for another in {len(misheard)} turns")


@each_locale
def test_its_script_is_its_own(locale: str) -> None:
    words = "".join(carrier.text.split("{")[0] for carrier in _book(locale).carriers())
    assert _script(words) == SCRIPTS.get(locale, "LATIN")


def test_two_have_no_spaces_and_one_runs_from_right_to_left() -> None:
    words = {
        locale: [piece for carrier in _book(locale).carriers() for piece in carrier.pieces]
        for locale in known_locales()
    }
    assert {locale for locale, own in words.items() if not any(" " in piece for piece in own)} == {"ja-JP", "zh-CN"}
    leftward = {
        locale
        for locale, own in words.items()
        if all(unicodedata.bidirectional(letter) == "AL" for letter in "".join(own) if letter.isalpha())
    }
    assert leftward == {"ar-EG"}


def test_people_speak_the_locales_that_are_named(tmp_path: Path) -> None:
    out = _made(tmp_path / "two", ("tr-TR", "zh-CN"))
    assert {row["locale"] for row in _rows(out)} == {"tr-TR", "zh-CN"}
    assert {row.locale for row in read_truth(out / "truth")} == {"tr-TR", "zh-CN"}


@pytest.mark.parametrize(
    ("locales", "said"),
    [
        (("en-GB", "xx-XX"), r"xx-XX.*\n.*tr-TR"),
        (("en-GB", "en-GB"), "each once"),
        ((), "at least one"),
    ],
)
def test_locales_that_make_no_sense_are_refused(tmp_path: Path, locales: tuple[str, ...], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        _made(tmp_path / "new", locales)
    assert not (tmp_path / "new").exists()


def test_the_command_line_takes_locales(tmp_path: Path) -> None:
    options = ["simulate", "--turns", "60", "--days", "1", "--out"]
    result = CliRunner().invoke(app, [*options, str(tmp_path / "made"), "--locales", "ru-RU, id-ID"])
    assert result.exit_code == 0, result.output
    assert {row["locale"] for row in _rows(tmp_path / "made")} == {"ru-RU", "id-ID"}
    result = CliRunner().invoke(app, [*options, str(tmp_path / "none"), "--locales", "klingon"])
    assert isinstance(result.exception, SettingsError)
    assert "klingon" in str(result.exception)
