"""The tokens of a static encoder, learnt from a log's texts: whole words, and pieces for the words that are new."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from selflearn.ragged import Floats, Ints, offsets_of

UNKNOWN = "<unk>"
N_PIECES = 12_000
MAX_WORDS = 60_000
GRAM_SIZES = (2, 3, 4, 5)
_MAX_LENGTH = 24
_LEAST_COUNT = 2
_SMALL_SHARE = 1e-3
_EDGE_PUNCTUATION = Regex(r"(?<![\p{L}\p{N}])\p{P}|\p{P}(?![\p{L}\p{N}])")


def learn_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Pieces by byte-pair encoding (Sennrich 2016), and every word that is said twice as a token of its own.

    A word of the vocabulary is one token. Another one falls into pieces, and so does a run of a script that sets no
    spaces. Punctuation at a word's edge stands alone. The same texts give the same tokenizer.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_EDGE_PUNCTUATION, "isolated"), pre_tokenizers.Metaspace()]
    )
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


def token_counts(tokenizer: Tokenizer, texts: Sequence[str]) -> sparse.csr_array:
    """How often each text has each token, shape (texts, tokens); a token said twice has two entries."""
    ids, offsets = token_ids(tokenizer, texts)
    shape = (len(texts), tokenizer.get_vocab_size())
    return sparse.csr_array((np.ones(len(ids), dtype=np.float32), ids, offsets), shape=shape)


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], Ints]:
    """Ids of the texts' tokens in one array, and offsets by text."""
    found = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    offsets = offsets_of([len(ids) for ids in found])
    return np.fromiter(itertools.chain.from_iterable(found), np.int32, offsets[-1]), offsets


def token_weights(counts: sparse.csr_array) -> Floats:
    """Smooth inverse frequency of each token (Arora 2017), in (0, 1]: common words say little."""
    frequency = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel() + 0.5
    return np.asarray(_SMALL_SHARE / (_SMALL_SHARE + frequency / frequency.sum()))


def token_parts(tokenizer: Tokenizer) -> sparse.csr_array:
    """What a token's vector is the sum of, shape (tokens, parts): itself, and the character n-grams it shares.

    So words that are spelt alike begin alike (Bojanowski 2017). An n-gram of one token alone would say nothing that
    its own part does not. The n-grams of a token count together as much as itself; the unknown token has no part.
    """
    tokens = sorted((number, token) for token, number in tokenizer.get_vocab().items())
    grams = {number: _grams(token) for number, token in tokens if token != UNKNOWN}
    shared = [gram for gram, n in Counter(itertools.chain.from_iterable(grams.values())).items() if n >= _LEAST_COUNT]
    column = {gram: len(tokens) + k for k, gram in enumerate(sorted(shared))}
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for number, of_token in grams.items():
        held = [column[gram] for gram in of_token if gram in column]
        rows += [number] * (1 + len(held))
        columns += [number, *held]
        values += [1.0, *[max(1, len(held)) ** -0.5] * len(held)]
    shape = (len(tokens), len(tokens) + len(column))
    return sparse.csr_array((np.array(values, np.float32), (np.array(rows), np.array(columns))), shape=shape)


def _frequent_words(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Words as the tokenizer cuts them, the most frequent first."""
    words: Counter[str] = Counter()
    for text in texts:
        cut = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
        words.update(word for word, _ in cut if len(word) <= _MAX_LENGTH)
    frequent = [word for word, count in words.items() if count >= _LEAST_COUNT]
    return sorted(frequent, key=lambda word: (-words[word], word))[:MAX_WORDS]


def _grams(token: str) -> list[str]:
    """Distinct n-grams, in order; a token is not a gram of itself."""
    sizes = [size for size in GRAM_SIZES if size < len(token)]
    return list(dict.fromkeys(token[k : k + size] for size in sizes for k in range(len(token) - size + 1)))
