"""What of a text is compared: its character grams, its words and its sound, in any script."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from plain_pairs import Row, all_words, folded, grams, heard, sound_key, words
from selflearn.sound import sound_keys
from selflearn.wording import beyond_chance, characters_of, gram_counts, word_counts, words_of

SPECIAL = "aé ce'’.·-3日のカーกำن\u200cिक्🎵\ufe0f\x02c "
any_text = st.text(st.sampled_from(SPECIAL) | st.characters(exclude_categories=["Cs"]), max_size=10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("what's on at 3.30?", ["what's", "on", "at", "3.30"]),
        ("मौसम कैसा", ["मौसम", "कैसा"]),
        ("東京の天気", ["東", "京", "の", "天", "気"]),
        ("天気 tokyo", ["天", "気", "tokyo"]),
        ("น้ำ", ["น้", "ำ"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("ok👍🏽", ["ok", "👍", "🏽"]),
        ("'end.' ", ["end"]),
        ("", []),
    ],
)
def test_a_word_is_what_stands_between_spaces_where_the_script_sets_them(text: str, expected: list[str]) -> None:
    assert words(text) == expected
    assert word_counts(characters_of([text])).sum() == len(expected)


def are_told_apart(rows: Sequence[Row]) -> bool:
    """Whether no two grams or words of these turns share a bucket, as some of many do."""
    characters = characters_of([text for row in rows for text in heard(row)])
    return all(
        len(set().union(*map(parts, rows))) == len(np.unique(counts(characters).indices))
        for counts, parts in ((gram_counts, grams), (word_counts, all_words))
    )


@given(st.lists(any_text, min_size=1, max_size=5))
def test_grams_and_words_are_counted_by_hash(texts: list[str]) -> None:
    rows = [{"texts": [], "normalised_text": text} for text in texts]
    assume(are_told_apart(rows))
    characters = characters_of([folded(text) for text in texts])
    for counts, parts in ((gram_counts(characters), grams), (word_counts(characters), all_words)):
        for place, row in enumerate(rows):
            cells = counts[[place]]
            cells.sum_duplicates()
            assert sorted(cells.data) == sorted(parts(row).values())


@given(st.lists(any_text, max_size=5))
def test_the_keys_and_words_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    assert sound_keys(texts) == [sound_key(text) for text in texts]
    assert words_of(texts) == [words(text) for text in texts]


def test_what_long_texts_share_by_chance_says_no_more_than_what_short_ones_do() -> None:
    # Sizes of requests of 15, 50 and 150 characters; unrelated ones share about .03, .1 and .26.
    product = np.array([15.0, 50.0, 150.0])
    by_chance = 1 - np.exp(-0.002 * product)
    assert beyond_chance(by_chance, product) == pytest.approx(beyond_chance(by_chance[1:2], product[1:2])[0])
    assert beyond_chance(by_chance[1:2], product[1:2]) == pytest.approx(by_chance[1:2])
    assert beyond_chance(np.full(3, 0.4), product).tolist() == sorted(beyond_chance(np.full(3, 0.4), product))[::-1]


@given(st.floats(0, 1), st.floats(0, 1e9))
def test_beyond_chance_is_a_share(overlap: float, product: float) -> None:
    one, more = beyond_chance(np.array([overlap, min(1.0, overlap + 0.1)]), np.full(2, product))
    assert 0 <= one <= more <= 1
    assert beyond_chance(np.ones(1), np.array([product])) == 1
