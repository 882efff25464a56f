"""The absorbing chain as a baseline of the pool: what an utterance means is what those reach who begin with it."""

from __future__ import annotations

from datetime import date

import pandas as pd
from pyspark.sql import functions as F

from selflearn.graph import significant, weighted, window_days
from selflearn.lakehouse import tables
from selflearn.lakehouse.landing import landing
from selflearn.lakehouse.store import Lakehouse
from selflearn.rewrites import chances, exits, transitions
from selflearn.rewrites.transitions import key
from selflearn.settings import Settings


def chain_labels(lake: Lakehouse, settings: Settings, as_of: date) -> pd.DataFrame:
    """`goal, p, n_users_behind` by utterance: the goal of most successes, and its share of them.

    Whoever does not say an utterance again is at their end with it, so one without links means what it was acted on
    with success. Behind a label are those who said the utterance.
    """
    evidence = weighted(lake.read(tables.EVIDENCE, turn_date=window_days(as_of, settings.graph)), as_of, settings.graph)
    edges = significant(lake.read(tables.GRAPH_EDGES, as_of=[as_of]))
    nodes = lake.read(tables.GRAPH_NODES, as_of=[as_of]).select("utterance_id", "n_users").distinct()
    with landing(lake, "chain-alone") as land:
        left = land(exits(evidence))
        # Where some goals were missing, pandas would make floats of all, and keys have more digits.
        ends = chances(transitions(edges, left), settings.rewrites.max_links_on_driver, land).dropna(subset="goal")
        reached = ends.join(nodes, F.col("utterance") == key(F.col("utterance_id"))).toPandas()
        worked = left.dropna(subset="goal").withColumn("key", key(F.col("goal"))).toPandas()
        n_users = nodes.toPandas().set_index("utterance_id")["n_users"]
    names = worked.drop_duplicates("key").set_index("key")["goal"]
    linked = pd.DataFrame(
        {
            "goal": reached["goal"].map(names),
            "p": reached["p_success"] / (1 - reached["p_abandoned"]),
            "utterance_id": reached["utterance_id"],
        }
    )
    worked["p"] = worked["mass"] / worked.groupby("utterance_id")["mass"].transform("sum")
    best = worked.sort_values(["p", "goal"], ascending=[False, True]).drop_duplicates("utterance_id")
    alone = best[~best["utterance_id"].isin(linked["utterance_id"])]
    found = pd.concat([linked, alone[linked.columns]]).set_index("utterance_id")
    return found.assign(n_users_behind=n_users)
