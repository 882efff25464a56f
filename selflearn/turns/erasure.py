"""People who asked to be forgotten: how the list names them, and which rows of a source are theirs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import BooleanType

from selflearn.turns.text import USER_ID_LENGTH, hash_user

# What may be an id in a row of whatever format: what stands in quotes, and what stands between separators.
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LOOSE, _TIGHT = re.compile(r'[^\s",;{}\[\]]+'), re.compile(r'[^\s",;{}\[\]:=]+')
_OF_SESSION = "session:"


def erasure_id(user_id: str) -> str:
    """What stands on the list for a user id of the tables, which must not: its SHA-256, cut to 32 hex digits."""
    return hashlib.sha256(user_id.encode()).hexdigest()[:USER_ID_LENGTH]


def user_of(user_id: Column, session_id: Column) -> Column:
    """What is hashed as the user of a row: the session, where there is no user."""
    return F.coalesce(user_id, F.concat(F.lit(_OF_SESSION), session_id))


def is_of(erased: Collection[str], user_key: bytes) -> Callable[[Column, Column], Column]:
    """Whether a row is of one of the people: its `user_of` is one, or a word of its raw form names one.

    Args:
        erased: ids of `erasure_id`.
        user_key: the secret that user ids are hashed with.

    Returns:
        a function of the row's user and of its raw form, of which either may be null.
    """
    listed = frozenset(erased)

    def is_listed(user: str) -> bool:
        return erasure_id(hash_user(user, user_key)) in listed

    def is_named(raw_row: str | None) -> bool:
        return raw_row is not None and any(map(is_listed, set(_words(raw_row))))

    def find(users: pa.Array, raw_rows: pa.Array) -> pa.Array:
        coded = users.dictionary_encode()
        known = pa.array(map(is_listed, coded.dictionary.to_pylist()), pa.bool_())
        is_theirs = pc.fill_null(known.take(coded.indices), False)
        return pc.or_(is_theirs, pa.array(map(is_named, raw_rows.to_pylist()), pa.bool_()))

    found: Callable[[Column, Column], Column] = arrow_udf(find, BooleanType())  # type: ignore[call-overload]
    return found


def _words(raw_row: str) -> Iterator[str]:
    """Each word that may be the id of a user, or of a session that stands for one."""
    for pattern in (_QUOTED, _LOOSE, _TIGHT):
        for word in pattern.findall(raw_row):
            yield word
            yield _OF_SESSION + word
