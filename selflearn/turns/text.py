"""What a text, a frame and a user become: plain functions, one value in, one value out.

Nothing here knows a language: case folding, digits and blanks are Unicode's, of any script.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import unicodedata
from collections.abc import Iterable

USER_ID_LENGTH = 32
UNIT_SEPARATOR = "\x1f"

# A text without a match has nothing to mask. Once for `re`, once for Arrow's RE2, whose `\d` is ASCII alone.
_SUSPECT = re.compile(r"[@\uff20\ufe6b]|\d(?:\D{0,3}\d){6}")
SUSPECT_RE2 = r"[@\x{ff20}\x{fe6b}]|\p{Nd}(?:\P{Nd}{0,3}\p{Nd}){6}"

# Marks that direct or hide text and never change what is said. Joiners stay: they spell words in Indic scripts,
# Persian and emoji.
INVISIBLE = "\u00ad\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
LOCALE_PATTERN = r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$"


class _Removed(dict[int, int | None]):
    """Translation that drops controls (but not blanks), surrogates and invisible marks."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        control = unicodedata.category(character) in ("Cc", "Cs") and not character.isspace()
        self[code] = None if control or character in INVISIBLE else code
        return self[code]


class _Plain(dict[int, str]):
    """Translation to the ASCII look of digits, blanks, dashes and brackets; keeps every character's place."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Nd":
            plain = str(unicodedata.digit(character))
        elif category == "Zs":
            plain = " "
        elif category == "Pd":
            plain = "-"
        elif character in INVISIBLE:
            plain = INVISIBLE[0]
        else:
            folded = unicodedata.normalize("NFKC", character)
            plain = folded if folded in tuple("@+()./:_") else character
        self[code] = plain
        return plain


_REMOVED = _Removed()
_PLAIN = _Plain()

_LOCAL_PART = r"[\w.!#$%&'*+/=?^`{|}~-]"
_EMAIL = rf"(?<!{_LOCAL_PART}){_LOCAL_PART}+@[\w-]+(?:\.[\w-]+)+"
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_DATE = (
    rf"(?<!\d)(?:{_YEAR}[-./ ]{_MONTH}[-./ ]{_DAY}|{_DAY}[-./ ]{_MONTH}[-./ ]{_YEAR}|{_MONTH}[-./ ]{_DAY}[-./ ]{_YEAR}"
    rf"|{_YEAR} ?[-/] ?{_YEAR})(?!\d|[-./]\d| \d{{3}})"
)
_TIME = r"(?<!\d)\d{1,2}:\d\d(?::\d\d)?(?!:?\d)"
_MOMENT = rf"{_DATE}|{_TIME}"
_NUMBER = rf"[+(]?\d(?:[ .\-/()_{INVISIBLE[0]}]{{0,3}}(?!{_MOMENT})\d)*"
_PERSONAL = re.compile(rf"(?P<email>{_EMAIL})|(?P<moment>{_MOMENT})|(?P<number>{_NUMBER})")
_LEAST_DIGITS = 7


def normalise_text(text: str) -> str:
    """The form in which wordings are compared: NFKC, case folded, single blanks, no control or direction marks.

    Idempotent. Folding a character may bring up one that folds again, hence the loop.

    >>> normalise_text("  Wake\\tme at ７ ")
    'wake me at 7'
    """
    while (folded := _fold(text)) != text:
        text = folded
    return text


def mask_personal_data(text: str) -> str:
    """Put `<email>`, `<phone>`, `<card>` or `<number>` in the place of addresses and of numbers of 7 or more digits.

    Digits count in any script, with blanks, dots, dashes, slashes and brackets between them. Dates and times stay.

    >>> mask_personal_data("call +44 20 7946 0958 on 2026-11-21 at 7:30")
    'call <phone> on 2026-11-21 at 7:30'
    """
    if not _SUSPECT.search(text):
        return text
    pieces, end = [], 0
    for match in _PERSONAL.finditer(text if text.isascii() else text.translate(_PLAIN)):
        if label := _label(match):
            pieces += [text[end : match.start()], label]
            end = match.end()
    return "".join([*pieces, text[end:]])


def clean_text(text: str, mask: bool = True) -> tuple[str, str]:
    """The text as it is stored and its normalised form, both masked unless `mask` is off.

    The normalised form is masked again: normalising can bring up an address that was spelt in other characters.
    """
    if not mask:
        return text, normalise_text(text)
    masked = mask_personal_data(text)
    return masked, mask_personal_data(normalise_text(masked))


def canonical_locale(tag: str) -> str | None:
    """Language, script and region in their customary case, joined by `-`; None where it is no language tag.

    >>> canonical_locale("zh_hant_tw")
    'zh-Hant-TW'
    """
    if not re.match(LOCALE_PATTERN, tag):
        return None
    language, *others = tag.replace("_", "-").split("-")
    return "-".join([language.lower(), *map(_subtag, others)])


def utterance_id(locale: str, context: str, normalised_text: str) -> str:
    """Key of the utterance: MD5 of its three parts."""
    parts = UNIT_SEPARATOR.join((locale, context, normalised_text))
    return hashlib.md5(parts.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()


def frame_goal(intent: str, slots: Iterable[tuple[str, str]], mask: bool = True) -> str:
    """The frame as canonical JSON: values normalised, slots sorted by name and value.

    >>> frame_goal("play", [("song", "Hello"), ("artist", "Adele")])
    '{"intent":"play","slots":[{"name":"artist","value":"adele"},{"name":"song","value":"hello"}]}'
    """
    pairs = sorted((name, clean_text(value, mask)[1]) for name, value in slots)
    frame = {"intent": intent, "slots": [{"name": name, "value": value} for name, value in pairs]}
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))


def hash_user(user: str, key: bytes) -> str:
    """HMAC-SHA256 of the user's id, cut to 32 hex digits: nobody without the key can try ids against it."""
    return hmac.digest(key, user.encode("utf-8", "replace"), "sha256").hex()[:USER_ID_LENGTH]


def _fold(text: str) -> str:
    if not text.isprintable():
        text = text.translate(_REMOVED)
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def _label(match: re.Match[str]) -> str | None:
    if match["email"]:
        return "<email>"
    run = match["number"] or ""
    digits = [int(character) for character in run if character.isdigit()]
    if len(digits) < _LEAST_DIGITS:
        return None
    if 13 <= len(digits) <= 19 and run[0] != "+" and _passes_luhn(digits):
        return "<card>"
    is_phone = len(digits) <= 15 and (run[0] in "+(" or digits[0] == 0 or len(run) > len(digits))
    return "<phone>" if is_phone else "<number>"


def _passes_luhn(digits: list[int]) -> bool:
    doubled = (digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _subtag(tag: str) -> str:
    if len(tag) == 4 and tag.isalpha():
        return tag.title()
    return tag.upper() if len(tag) == 2 or (len(tag) == 3 and tag.isdigit()) else tag.lower()
