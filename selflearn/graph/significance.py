"""Which edges are more than chance: utterances that are said often follow each other often, whatever they mean.

Each edge is compared with how often its two ends would meet if everything said again were drawn from all that is said
again: Dunning's log-likelihood ratio (1993), as a signed root, is about standard normal by chance. Of a locale's edges,
those stay of which at most `FALSE_DISCOVERIES` are there by chance (Benjamini and Hochberg 1995); all of them where
there are too few to know what chance would do.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as RowWindow
from pyspark.sql import functions as F
from scipy.stats import norm

from selflearn.ragged import Ints

FALSE_DISCOVERIES = 0.05
MIN_EDGES = 30
_BIN = 0.01
_MOST = 40.0
"""Beyond it the probability of chance is 0 in floating point."""


def with_chance_z(edges: DataFrame) -> DataFrame:
    """Adds `chance_z`, the signed root of the log-likelihood ratio of each edge's mass n in its locale."""

    def total(*by: str) -> Column:
        return F.sum("n").over(RowWindow.partitionBy("locale", *by))

    everything = F.broadcast(edges.groupBy("locale").agg(F.sum("n").alias("everything")))
    known = edges.join(everything, "locale").withColumns(
        {"of_source": total("source_utterance"), "of_target": total("target_utterance")}
    )
    n, of_source, of_target, in_all = (F.col(name) for name in ("n", "of_source", "of_target", "everything"))
    cells = (n, of_source - n, of_target - n, in_all - of_source - of_target + n, in_all)
    margins = (of_source, of_target, in_all - of_source, in_all - of_target)
    ratio = sum((_x_log_x(cell) for cell in cells), F.lit(0.0)) - sum((_x_log_x(of) for of in margins), F.lit(0.0))
    z = F.signum(n * in_all - of_source * of_target) * F.sqrt(2 * F.greatest(ratio, F.lit(0.0)))
    return known.withColumn("chance_z", z).select(*edges.columns, "chance_z")


def significant(edges: DataFrame) -> DataFrame:
    """Edges that are more than chance; `edges` has `locale` and `chance_z`.

    The threshold is found on counts of `_BIN`s, by their lower ends: never more edges than the procedure allows.
    """
    in_bin = F.floor(F.least("chance_z", F.lit(_MOST)) / _BIN).cast("long")
    counts = edges.groupBy("locale", in_bin.alias("bin")).count().toPandas()
    least = {
        str(locale): least_significant(rows["bin"].to_numpy(), rows["count"].to_numpy())
        for locale, rows in counts.groupby("locale")
    }
    kept = [(F.col("locale") == locale) & (in_bin >= bound) for locale, bound in least.items()]
    return edges.where(reduce(or_, kept, F.lit(False)))


def least_significant(bins: Ints, counts: Ints) -> int:
    """Least bin of the edges that stay, above all where none does; `bins` are z in units of `_BIN`, rounded down."""
    if counts.sum() < MIN_EDGES:
        return int(bins.min())
    order = np.argsort(-bins)
    p = norm.sf(bins[order] * _BIN)
    rank = np.cumsum(counts[order])
    passes = np.flatnonzero(p <= FALSE_DISCOVERIES * rank / rank[-1])
    return int(bins[order][passes[-1]] if len(passes) else bins.max() + 1)


def _x_log_x(x: Column) -> Column:
    """0 at 0, and where rounding left less."""
    return F.when(x > 0, x * F.log(x)).otherwise(0.0)
