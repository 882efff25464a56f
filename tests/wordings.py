"""Sentences for a house: every way to ask for everything in every room, and the goals."""

from __future__ import annotations

from selflearn.turns.text import frame_goal

ODD_TEXTS = [
    "",
    " ",
    "a",
    "?",
    "😀",
    "👩‍👩‍👧 ok",
    "ไม่เปิดไฟ",
    "打开灯",
    "lights\x00 on",
    "x" * 5_000,
    "turn the lights on",
]

ASKS = {
    "lights_on": ["turn on the {} lights", "{} lights on please", "make it bright in the {}", "light up the {}"],
    "lights_off": ["turn off the {} lights", "kill the {} lights", "make it dark in the {}", "{} lights off"],
    "heat": ["warm up the {}", "it is freezing in the {}", "turn on the heating in the {}", "heat the {} now"],
}
ROOMS = ["kitchen", "bedroom", "hall", "cellar", "attic", "office", "bathroom", "garage", "porch", "pantry"]


def said(rooms: list[str]) -> tuple[list[str], list[str]]:
    """Every way to ask for everything in some rooms, and the goals."""
    rows = [(ask.format(room), intent, room) for intent, asks in ASKS.items() for ask in asks for room in rooms]
    return [text for text, _, _ in rows], [frame_goal(intent, [("room", room)]) for _, intent, room in rows]
