"""Which commits make a day look undone: told from what the log says of them."""

from __future__ import annotations

from typing import Any

import pytest

from selflearn.lakehouse import log
from selflearn.lakehouse.log import UPKEEP, is_replaced, is_touched

DAYS = ["2026-01-05", "2026-01-06"]
ADDED = {"operation": "WRITE", "operationParameters": {"mode": "Append", "partitionBy": "[]"}}
OPTIMIZED = {"operation": "OPTIMIZE", "operationParameters": {"predicate": "[]"}}
VACUUMED = {"operation": "VACUUM START", "operationParameters": {}}
EXPIRED = {
    "operation": "DELETE",
    "operationParameters": {"predicate": "[\"(turn_date < DATE '2026-01-06')\"]"},
    "userMetadata": f'{{"run_id": "1", "settings": "2", "kind": "{UPKEEP}"}}',
}
DELETED_BY_HAND = {"operation": "DELETE", "operationParameters": {"predicate": '["(user_id = u1)"]'}}
RESTORED = {"operation": "RESTORE", "operationParameters": {"version": 3}}


def replaced(*days: str) -> dict[str, Any]:
    predicate = f"turn_date IN ({', '.join(days)})"
    return {
        "operation": "WRITE",
        "operationParameters": {"mode": "Overwrite", "predicate": predicate},
        "userMetadata": '{"run_id": "1", "settings": "2"}',
    }


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The commits of a table, its versions from 0 on."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(log, "_commit", lambda spark, path, version: told[version])
    return told


@pytest.mark.parametrize(
    ("commit", "is_touching"),
    [
        (replaced("2026-01-06"), True),
        (replaced("2026-01-07", "2026-01-08"), False),
        (ADDED, True),
        (DELETED_BY_HAND, True),
        (RESTORED, True),
        (OPTIMIZED, False),
        (VACUUMED, False),
        (EXPIRED, False),
    ],
)
def test_a_commit_touches_the_days_it_names_or_all_where_it_names_none(
    commits: list[dict[str, Any]], commit: dict[str, Any], is_touching: bool
) -> None:
    commits.extend([replaced("2026-01-07"), commit])
    assert is_touched(None, "table", range(2), DAYS) is is_touching  # type: ignore[arg-type]
    assert is_touched(None, "table", range(1), DAYS) is False  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("commit", "is_any_replaced"),
    [(ADDED, False), (OPTIMIZED, False), (EXPIRED, False), (replaced("2026-01-07"), True), (DELETED_BY_HAND, True)],
)
def test_rows_that_were_added_replace_none(
    commits: list[dict[str, Any]], commit: dict[str, Any], is_any_replaced: bool
) -> None:
    commits.append(commit)
    assert is_replaced(None, "table", range(1)) is is_any_replaced  # type: ignore[arg-type]


def test_without_days_every_change_counts_and_upkeep_does_not(commits: list[dict[str, Any]]) -> None:
    commits.extend([OPTIMIZED, VACUUMED, EXPIRED, replaced("2020-01-01")])
    assert not is_touched(None, "table", range(3))  # type: ignore[arg-type]
    assert is_touched(None, "table", range(4))  # type: ignore[arg-type]
