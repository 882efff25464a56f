"""Candidate pairs on Spark: described, calibrated on those whose goals are known, and given `p_same_goal`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from selflearn.variants.calibration import SameGoalModel, fit_same_goal
from selflearn.variants.comparison import Lexicon, empty_lexicon, own_signals, text_signals, words_apart
from selflearn.variants.known_pairs import COSINE_BINS, Density, known_pairs

MAX_KNOWN_PAIRS = 60_000
"""Pairs of known goals that a fit sees, chosen by their ids' hash; more would not change it."""
_ENDS = ("left_locale", "right_locale", "left_utterance", "right_utterance")
DESCRIBED = (
    *_ENDS,
    "cosine",
    *(f"{side}_{name}" for side in ("left", "right") for name in ("context", "text", "goal")),
)
SCORED = (
    "left_locale string, right_locale string, left_utterance string, right_utterance string, "
    "cosine double, p_same_goal double"
)


def learn_same_goal(pairs: DataFrame, utterances: DataFrame, is_trained: bool) -> tuple[SameGoalModel, Lexicon]:
    """The model of this run's candidate pairs, and the lexicon that it reads words with.

    Args:
        pairs: rows of `neighbours.PAIRS`; read twice.
        utterances: `utterance_id, context, text, goal`; goal is null unless it is known.
        is_trained: as in `known_pairs`.
    """
    density = _density(pairs)
    n_pairs = sum(density.values())
    known = utterances.where(F.col("goal").isNotNull())
    share = _sampled_share(n_pairs)
    chosen = pairs.where(F.pmod(F.xxhash64("left_utterance", "right_utterance"), F.lit(1 << 20)) < share * (1 << 20))
    rows = described(chosen, known).orderBy("left_utterance", "right_utterance").limit(MAX_KNOWN_PAIRS).toArrow()
    of_pairs, lexicon = known_pairs(rows.combine_chunks(), density, is_trained)
    model = fit_same_goal(of_pairs)
    return model, lexicon if model.is_fitted else empty_lexicon()


def described(pairs: DataFrame, utterances: DataFrame) -> DataFrame:
    """Pairs with what is known of both ends, columns of `DESCRIBED`; pairs of which an end is unknown are left out."""
    for side in ("left", "right"):
        names = [F.col(name).alias(f"{side}_{name}") for name in ("context", "text", "goal")]
        end = utterances.select(F.col("utterance_id").alias(f"{side}_utterance"), *names)
        pairs = pairs.join(end, f"{side}_utterance")
    return pairs.select(*DESCRIBED)


def with_probability(rows: DataFrame, model: SameGoalModel, lexicon: Lexicon) -> DataFrame:
    """Rows of `SCORED` of described pairs."""
    return rows.mapInArrow(_scorer(model, lexicon), SCORED)


def _scorer(model: SameGoalModel, lexicon: Lexicon) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            left, right = batch["left_text"], batch["right_text"]
            of_words, apart = words_apart(left, right, lexicon)
            signals = own_signals(batch) | text_signals(left, right) | of_words
            p = model.probability(signals, apart, batch["left_locale"].to_pylist())
            names = [*_ENDS, "cosine"]
            columns = [*(batch[name] for name in names), pa.array(p)]
            yield pa.RecordBatch.from_arrays(columns, [*names, "p_same_goal"])

    return run


def _density(pairs: DataFrame) -> Density:
    bins = F.floor(F.col("cosine") * COSINE_BINS).alias("bin")
    counts = pairs.groupBy("left_locale", bins).agg(F.count(F.lit(1)).alias("n")).collect()
    return {(row["left_locale"], row["bin"]): row["n"] for row in counts}


def _sampled_share(n_pairs: int) -> float:
    """Share of the pairs that is looked through for known goals; at least a quarter of them has some in most logs."""
    return min(1.0, 4 * MAX_KNOWN_PAIRS / max(n_pairs, 1))
