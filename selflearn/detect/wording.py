"""What two turns' words have in common over all that the recogniser heard: characters, no language's words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from selflearn.ragged import Floats, Ints, offsets_of

GRAM_SIZES = (2, 3)
EDGE = "\x02"
_BUCKETS = 1 << 18
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_FOLD = np.uint64(29)
_SMALL_LENGTH = 3


def gram_profiles(texts: npt.NDArray[np.object_], offsets: Ints, codes: Ints) -> sparse.csr_array:
    """Root of the share of each character 2- and 3-gram in all that was heard of a turn, rows of length one.

    `codes` are places in `texts`, lists by turn. All alternatives count alike: a recogniser's scores put nearly
    everything on the first, and a misheard turn is one whose first is wrong. The product of two rows is the
    Bhattacharyya coefficient of the two distributions.
    """
    heard = sparse.csr_array((np.ones(len(codes)), codes, offsets), shape=(len(offsets) - 1, len(texts)))
    grams = heard @ gram_counts(texts.tolist())
    total = np.maximum(1.0, np.asarray(grams.sum(axis=1)))
    grams.data = np.sqrt(grams.data / np.repeat(total, np.diff(grams.indptr)))
    grams.sort_indices()
    return sparse.csr_array(grams)


def gram_counts(texts: Sequence[str]) -> sparse.csr_array:
    """Counts of each text's character 2- and 3-grams by hash, shape (texts, buckets); an edge is a character.

    >>> int(gram_counts(["ab"]).sum())
    5
    """
    joined = "".join(f"{EDGE}{text}{EDGE}" for text in texts)
    characters = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    sizes = np.array([len(text) + 2 for text in texts], dtype=np.int64)
    left = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(characters))
    buckets = np.full((len(characters), len(GRAM_SIZES)), -1, dtype=np.int64)
    key = np.ones(len(characters), dtype=np.uint64)
    for size in range(1, max(GRAM_SIZES) + 1):
        key[: max(0, len(key) - size + 1)] ^= characters[size - 1 :]
        key *= _SPREAD
        key ^= key >> _FOLD
        if size in GRAM_SIZES:
            bucket = (key % np.uint64(_BUCKETS)).astype(np.int64)
            buckets[:, GRAM_SIZES.index(size)] = np.where(left >= size, bucket, -1)
    n_grams = np.maximum(0, np.subtract.outer(sizes, np.array(GRAM_SIZES)) + 1).sum(axis=1)
    found = buckets[buckets >= 0]
    return sparse.csr_array((np.ones(len(found)), found, offsets_of(n_grams)), shape=(len(texts), _BUCKETS))


def wording_shared(profiles: sparse.csr_array, source: Ints, target: Ints) -> Floats:
    """Bhattacharyya coefficient of the two turns' gram profiles, in [0, 1]."""
    return np.asarray(profiles[source].multiply(profiles[target]).sum(axis=1)).ravel()


def length_ratio(source: Ints, target: Ints) -> Floats:
    """Log of the target's length over the source's; both in characters, a few more so that short ones differ less."""
    return np.asarray(np.log((target + _SMALL_LENGTH) / (source + _SMALL_LENGTH)))
