"""The tokens of a static encoder, learnt from a log's texts: whole words, and pieces for the words that are new."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from selflearn.ragged import Ints, offsets_of

UNKNOWN, WORD_START = "<unk>", "▁"
N_PIECES = 12_000
MAX_WORDS = 60_000
_MAX_LENGTH = 24
_LEAST_COUNT = 2
_EDGE_PUNCTUATION = Regex(r"(?<![\p{L}\p{N}])\p{P}|\p{P}(?![\p{L}\p{N}])")


def learn_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Pieces by byte-pair encoding (Sennrich 2016), and every word that is said twice as a token of its own.

    A word of the vocabulary is one token. Another one falls into pieces, and so does a run of a script that sets no
    spaces. Punctuation at a word's edge stands alone. The same texts give the same tokenizer.
    """
    tokenizer = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=N_PIECES, special_tokens=[UNKNOWN], max_token_length=_MAX_LENGTH, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    learnt: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = learnt["vocab"]
    for word in _frequent_words(tokenizer, texts):
        vocabulary.setdefault(word, len(vocabulary))
    tokenizer.model = models.BPE(
        vocabulary, [tuple(merge) for merge in learnt["merges"]], unk_token=UNKNOWN, fuse_unk=True, ignore_merges=True
    )
    return tokenizer


def silent_tokens(tokenizer: Tokenizer) -> list[int]:
    """The unknown token and the bare start of a word: of a text without other tokens nothing is known."""
    found = [tokenizer.token_to_id(token) for token in (UNKNOWN, WORD_START)]
    return [number for number in found if number is not None]


def cuts_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a text's tokens are those of its words, but for silent ones: so of any tokenizer that was learnt here."""
    own, other = (json.loads(one.to_str()) for one in (_untrained(), tokenizer))
    return all(own[part] == other[part] for part in ("normalizer", "pre_tokenizer", "post_processor", "truncation"))


def distinct_words(texts: Sequence[str]) -> tuple[list[str], Ints, Ints]:
    """What stands between spaces: each word once, the places of each text's words among these, and offsets by text."""
    cut = pc.split_pattern(pa.array(texts, pa.string()), " ")
    coded = cut.values.dictionary_encode()
    places, offsets = (column.to_numpy().astype(np.int64) for column in (coded.indices, cut.offsets))
    return coded.dictionary.to_pylist(), places, offsets


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], Ints]:
    """Ids of the texts' tokens in one array, and offsets by text."""
    found = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    offsets = offsets_of([len(ids) for ids in found])
    return np.fromiter(itertools.chain.from_iterable(found), np.int32, offsets[-1]), offsets


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_EDGE_PUNCTUATION, "isolated"), pre_tokenizers.Metaspace()]
    )
    return tokenizer


def _frequent_words(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Words as the tokenizer cuts them, the most frequent first."""
    words: Counter[str] = Counter()
    for text in texts:
        cut = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
        words.update(word for word, _ in cut if len(word) <= _MAX_LENGTH)
    frequent = [word for word, count in words.items() if count >= _LEAST_COUNT]
    return sorted(frequent, key=lambda word: (-words[word], word))[:MAX_WORDS]
