"""What a text, a frame and a user become, one by one and in Arrow batches; no JVM needed."""

from __future__ import annotations

import json
import string
import unicodedata
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selflearn.turns import (
    canonical_locale,
    clean_text,
    frame_goal,
    hash_user,
    mask_personal_data,
    normalise_text,
    utterance_id,
)
from selflearn.turns.cleaning import _arrow_type, _cleaner
from selflearn.turns.text import INVISIBLE

KEY = b"a key that is long enough"

# Lone surrogates too: a function on texts must not fail on any.
ANY_TEXT = st.text(st.characters(exclude_categories=()))
DIGITS = st.text("0123456789 +-./()٠١٢３４५६:@abc\u200e", max_size=40)


@given(ANY_TEXT)
@example("ﬃ ẞ İ ŉ ΐ ͅ\u0345ᾳ\u1fb3")
@example("a\u0000b\u202ec \u200f\u2028d")
def test_normalising_is_total_and_idempotent(text: str) -> None:
    normal = normalise_text(text)
    assert normalise_text(normal) == normal
    assert normal == " ".join(normal.split())
    assert not any(unicodedata.category(c) in ("Cc", "Cs") or c in INVISIBLE for c in normal)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  Wake\tme \n UP ", "wake me up"),
        ("ＰＬＡＹ　ｊａｚｚ", "play jazz"),
        ("Straße", "strasse"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("شغّل \u200fالموسيقى\u200f", "شغّل الموسيقى"),
        ("cafe\u0301", "café"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\u0000\u200b\u2066\u2069", ""),
    ],
)
def test_normalising_knows_no_language(text: str, normal: str) -> None:
    assert normalise_text(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "set an alarm for 7:30",
        "at 7:30 2026-11-21",
        "on 2026-11-21 07:30:00",
        "2026-11-21T07:30:00Z",
        "21.11.2026 for 2",
        "12/31/2026",
        "21 11 2026",
        "hits of 1990-2000",
        "room 1234",
        "8 30 to 9 45",
        "1,234,567.89 euros",
        "meet @home",
        "",
    ],
)
def test_ordinary_numbers_stay(text: str) -> None:
    assert mask_personal_data(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to Bob.Smith+x@mail.example.co.uk.", "write to <email>."),
        ("bob＠example．com", "<email>"),
        ("ring +44 (0)20 7946 0958 now", "ring <phone> now"),
        ("0171 1234567", "<phone>"),
        ("555-1234", "<phone>"),
        ("\u202d+49 30 1234567\u202c", "\u202d<phone>\u202c"),
        ("اتصل بـ ٠١٢٣٤٥٦٧٨٩", "اتصل بـ <phone>"),
        ("card 4111 1111 1111 1111 please", "card <card> please"),
        ("card 4111111111111112", "card <number>"),
        ("order 12345678", "order <number>"),
        ("IBAN DE89370400440532013000", "IBAN DE<number>"),
        ("01 02 2034 5678", "<phone>"),
        ("5551234 7:30", "<number> 7:30"),
    ],
)
def test_personal_data_is_masked(text: str, masked: str) -> None:
    assert mask_personal_data(text) == masked


@given(st.one_of(ANY_TEXT, DIGITS))
def test_masking_leaves_no_long_number_of_one_piece(text: str) -> None:
    stored, normal = clean_text(text)
    assert mask_personal_data(stored) == stored
    assert (normalise_text(normal), mask_personal_data(normal)) == (normal, normal)
    run = 0
    for character in normal:
        run = run + 1 if unicodedata.category(character) == "Nd" else 0
        assert run < 7


@pytest.mark.parametrize(
    "text",
    ["a" * 100_000 + "@", "1:" * 50_000, "20 " * 33_000, "a@" * 50_000, "(" * 100_000, "1.-" * 33_000],
)
@pytest.mark.timeout(10)
def test_long_texts_take_no_long_time(text: str) -> None:
    clean_text(text)


@pytest.mark.parametrize(
    ("tag", "canonical"),
    [
        ("en_gb", "en-GB"),
        ("EN-gb", "en-GB"),
        ("zh_hant_tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("no", "no"),
        ("de-CH-1996", "de-CH-1996"),
        ("english", None),
        ("e", None),
        ("en-", None),
        ("en GB", None),
        ("", None),
    ],
)
def test_locales_have_one_spelling(tag: str, canonical: str | None) -> None:
    assert canonical_locale(tag) == canonical
    if canonical:
        assert canonical_locale(canonical) == canonical


def test_utterance_ids_keep_their_parts_apart() -> None:
    ids = {utterance_id("en", "", "ab"), utterance_id("en", "a", "b"), utterance_id("e", "n", "ab")}
    assert len(ids) == 3
    assert all(len(one) == 32 for one in ids)


def test_goals_are_canonical() -> None:
    expected = '{"intent":"play","slots":[{"name":"artist","value":"björk"},{"name":"song","value":"army of me"}]}'
    assert frame_goal("play", [("song", "Army  of Me"), ("artist", "Bjo\u0308rk")]) == expected
    assert frame_goal("call", [("number", "0171 1234567")]).endswith('"value":"<phone>"}]}')
    assert frame_goal("stop", []) == '{"intent":"stop","slots":[]}'


def test_users_are_hashed_with_the_key() -> None:
    hashed = hash_user("user-1", KEY)
    assert len(hashed) == 32
    assert set(hashed) <= set(string.hexdigits.lower())
    assert hashed == hash_user("user-1", KEY)
    assert hashed != hash_user("user-1", KEY + b"!")


VALUE = st.one_of(st.none(), st.text(max_size=12), DIGITS)
SLOTS = st.one_of(
    st.none(),
    st.lists(
        st.one_of(st.none(), st.fixed_dictionaries({"name": st.sampled_from(["a", "b", None]), "value": VALUE})),
        max_size=4,
    ),
)
SCORE = st.one_of(st.none(), st.integers(0, 8).map(lambda eighths: eighths / 8))
INTENT = st.sampled_from([None, "play", 'say "so"'])
LOGGED = st.fixed_dictionaries(
    {
        "text": VALUE,
        "text_alternatives": st.one_of(
            st.none(),
            st.lists(st.one_of(st.none(), st.fixed_dictionaries({"text": VALUE, "score": SCORE})), max_size=3),
        ),
        "prompt": VALUE,
        "response": VALUE,
        "intent": INTENT,
        "slots": SLOTS,
        "nlu_alternatives": st.one_of(
            st.none(),
            st.lists(
                st.one_of(st.none(), st.fixed_dictionaries({"intent": INTENT, "slots": SLOTS, "score": SCORE})),
                max_size=4,
            ),
        ),
        "user_id": VALUE,
    }
)
_SLOTS = pa.list_(pa.struct({"name": pa.string(), "value": pa.string()}))
LOGGED_TYPES = {
    "text": pa.string(),
    "text_alternatives": pa.list_(pa.struct({"text": pa.string(), "score": pa.float64()})),
    "prompt": pa.string(),
    "response": pa.string(),
    "intent": pa.string(),
    "slots": _SLOTS,
    "nlu_alternatives": pa.list_(pa.struct({"intent": pa.string(), "slots": _SLOTS, "score": pa.float64()})),
    "user_id": pa.string(),
}


@given(st.lists(LOGGED, max_size=6), st.booleans())
def test_a_batch_is_cleaned_like_each_of_its_rows(rows: list[dict[str, Any]], mask: bool) -> None:
    arrays = [pa.array([row[name] for row in rows], kind) for name, kind in LOGGED_TYPES.items()]
    found = _cleaner(mask, KEY).func(*arrays)  # type: ignore[attr-defined]
    assert found.type == _arrow_type()
    assert [_with_seldom_changed(new, old) for new, old in zip(found.to_pylist(), rows, strict=True)] == [
        _cleaned(row, mask) for row in rows
    ]


def _with_seldom_changed(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    names = ("text", "text_alternatives", "prompt", "response")
    return new | {name: old[name] if new[name] is None else new[name] for name in names}


def _cleaned(row: dict[str, Any], mask: bool) -> dict[str, Any]:
    """The plain twin of a batch of one row."""

    def stored(text: str | None) -> str | None:
        return None if text is None else clean_text(text, mask)[0]

    slots = _filled(row["slots"])
    heard = row["text_alternatives"]
    return {
        "text": stored(row["text"]),
        "normalised_text": None if row["text"] is None else clean_text(row["text"], mask)[1],
        "text_alternatives": heard
        and [one | {"text": stored(one["text"])} for one in heard if one and one["text"] is not None],
        "prompt": stored(row["prompt"]),
        "response": stored(row["response"]),
        "slots": None
        if row["slots"] is None
        else [
            {"name": name, "value": value}
            for name, _, value in sorted((name, clean_text(v, mask)[1], stored(v)) for name, v in slots)
        ],
        "goal": None if row["intent"] is None else frame_goal(row["intent"], slots, mask),
        "nlu_alternatives": _read(row["nlu_alternatives"], mask),
        "user_id": None if row["user_id"] is None else hash_user(row["user_id"], KEY),
    }


def _filled(slots: list[dict[str, Any] | None] | None) -> list[tuple[str, str]]:
    return [
        (slot["name"], slot["value"])
        for slot in slots or []
        if slot and slot["name"] is not None and slot["value"] is not None
    ]


def _read(alternatives: list[dict[str, Any] | None] | None, mask: bool) -> list[dict[str, Any]] | None:
    if alternatives is None:
        return None
    scores: dict[str, float | None] = {}
    for one in alternatives:
        if one and one["intent"] is not None:
            goal = frame_goal(one["intent"], _filled(one["slots"]), mask)
            known = [score for score in (scores.get(goal), one["score"]) if score is not None]
            scores[goal] = sum(known) if known else None
    best_first = sorted(scores.items(), key=lambda item: (item[1] is None, -(item[1] or 0), item[0]))
    return [{"goal": goal, "score": score} for goal, score in best_first]


def test_goals_are_json() -> None:
    goal = frame_goal('say "so"', [("quote", 'he said "no" \\ left')])
    assert json.loads(goal)["slots"][0]["value"] == 'he said "no" \\ left'
