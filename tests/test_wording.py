"""What of a text is compared: its character grams, its words and its sound, in any script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plain_pairs import all_words, grams, sound_key, words
from selflearn.detect.sound import sound_keys
from selflearn.detect.wording import characters_of, gram_counts, word_counts

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


@given(st.lists(any_text, min_size=1, max_size=5))
def test_grams_and_words_are_counted_by_hash(texts: list[str]) -> None:
    folded = [text.casefold() for text in texts]
    characters = characters_of(folded)
    for counts, parts in ((gram_counts(characters), grams), (word_counts(characters), all_words)):
        for row, text in enumerate(folded):
            cells = counts[[row]]
            cells.sum_duplicates()
            assert sorted(cells.data) == sorted(parts({"texts": [], "normalised_text": text}).values())


@given(st.lists(any_text, max_size=5))
def test_the_keys_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    assert sound_keys(texts) == [sound_key(text) for text in texts]
