"""What each source of the goal posterior is worth: `--out DIR [--dstc2 DIR] [--turns N] [--seed N]`.

A simulated month, and the calls in the DSTC2 folder where one is named, are mined from raw log to goal posteriors. Then
the posteriors are made again with one source's weight set to nothing, with pairs alone, or with the weights that the
launch set would give, and the labels scored that each would give. What the neighbours say stays as it was.
`hard_copies` gives every utterance that was said again the NLU's reading of what was said then, `chain_alone` the goal
that most of those reach who begin with it. Weights, and all that is mined, come without truth; the scoring reads it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from deltalake import DeltaTable

from common import print_figures, write_scores
from dstc2 import mine, prepare
from dstc2_log import items_of_goal, read_rows, turn_id
from pool_chain import chain_labels
from selflearn.evaluate import score_labels
from selflearn.graph.weights import SOURCES, PoolWeights
from selflearn.lakehouse.store import Lakehouse
from selflearn.lakehouse.tables import OTHER_GOAL
from selflearn.pipeline import MINING, STAGES, day_range, run_pipeline
from selflearn.session import build_session, effective_configuration
from selflearn.settings import USER_KEY_VARIABLE, Labels, Settings, Source
from selflearn.simulate import read_truth, simulate
from selflearn.turns import frame_goal

_START = date(2026, 1, 5)
_DAYS = 30
_SEED = 505
_UNKNOWN = ""
_ONCE = 1
_STAGES = (*MINING, STAGES["variants"], STAGES["graph"])

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """A mined log and its truth.

    Attributes:
        turns: `utterance_id, live, true` of every turn; meanings as `meaning` gives them.
        nodes: `graph_nodes`, sorted by utterance.
        edges: `graph_edges`.
        chain: `goal, p, n_users_behind` by utterance, as the absorbing chain has them.
        meaning: what two goals share that are scored as equal.
        metrics: of the stage `graph`.
    """

    turns: pd.DataFrame
    nodes: pd.DataFrame
    edges: pd.DataFrame
    chain: pd.DataFrame
    meaning: Callable[[str], str]
    metrics: Mapping[str, float]

    def weights(self, fitted: str = "pool") -> dict[str, float]:
        """Of the sources, as fitted on outcomes (`pool`) or on the launch set (`launch_pool`)."""
        return {name: self.metrics[f"{fitted}_weight_{name}"] for name in vars(PoolWeights())}


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    parser.add_argument("--dstc2", type=Path, help="folder that holds dstc2_turns.jsonl.gz")
    parser.add_argument("--turns", type=int, default=100_000, help="turns of the simulated month")
    parser.add_argument("--seed", type=int, default=_SEED, help="of the simulated month")
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "simulated people have no secrets")
    started = time.perf_counter()
    spark = build_session("selflearn benchmark pool")
    figures: dict[str, Any] = {"seed": given.seed, "turns": given.turns}
    figures["simulated"] = ablation(simulated(Path(given.out) / "work", given.turns, given.seed))
    if given.dstc2:
        figures["dstc2"] = ablation(real_calls(given.dstc2, Path(given.out) / "calls"))
    figures["seconds"] = time.perf_counter() - started
    write_scores(given.out, figures, effective_configuration(spark))
    print_figures("The goal posterior, source by source", figures)


def simulated(work: Path, n_turns: int, seed: int) -> Case:
    """A simulated month, mined; what is right is the whole frame."""
    shutil.rmtree(work, ignore_errors=True)
    simulate(work / "sample", n_turns=n_turns, days=_DAYS, start=_START, seed=seed)
    settings = Settings(
        lake=str(work / "lake"),
        source=Source(path=str(work / "sample" / "logs" / "{date}.jsonl")),
        launch=Source(path=str(work / "sample" / "launch.jsonl")),
    )
    days = day_range(_START, _START + timedelta(days=_DAYS - 1))
    lake = Lakehouse(build_session("selflearn benchmark pool"), settings.lake)
    for _ in run_pipeline(lake, settings, days, _STAGES):
        pass
    true = {
        row.turn_id: frame_goal(row.goal.intent, list(row.goal.slots)) for row in read_truth(work / "sample" / "truth")
    }
    return read_case(lake, settings, days[-1], true, str)


def real_calls(folder: Path, work: Path) -> Case:
    """The folder's calls, mined; what is right is all items of what was meant."""
    log = prepare(folder, work)
    lake = Lakehouse(build_session("selflearn benchmark pool"), log.settings.lake)
    mine(lake, log, _STAGES)
    true = {
        turn_id(row["session_id"], row["turn"]): " ".join(sorted(row["gold"]["items"]))
        for row in read_rows(folder, "dstc2_turns")
    }
    return read_case(lake, log.settings, log.days[-1], true, lambda goal: " ".join(items_of_goal(goal)))


def read_case(
    lake: Lakehouse, settings: Settings, as_of: date, true: Mapping[str, str], meaning: Callable[[str], str]
) -> Case:
    """The tables of a lake, and the meaning of each turn by its id."""
    root = Path(settings.lake)
    nodes, edges, runs = (DeltaTable(root / name).to_pandas() for name in ("graph_nodes", "graph_edges", "runs"))
    turns = DeltaTable(root / "turns").to_pandas(columns=["turn_id", "utterance_id", "goal"])
    live = turns["goal"].map(lambda goal: _UNKNOWN if goal is None else meaning(goal))
    known = turns[["utterance_id"]].assign(live=live, true=turns["turn_id"].map(true))
    metrics = runs[runs["stage"] == "graph"].sort_values("started_at").iloc[-1]["metrics"]
    chain = chain_labels(lake, settings, as_of)
    return Case(known, nodes.sort_values(["utterance_id", "goal"]), edges, chain, meaning, dict(metrics))


def ablation(case: Case) -> dict[str, Any]:
    """Scores of the labels by all sources, without each, with other weights and by copying; and what the run noted."""
    full = case.weights()
    pools = {"all": full} | {f"without_{name}": full | {name: 0.0} for name in full if full[name] > 0}
    if "launch_pool_weight_nlu" in case.metrics:
        pools["launch_weights"] = case.weights("launch_pool")
    pools["pairs_alone"] = dict.fromkeys(full, 0.0) | {"pair": 1.0}
    scores = {name: score(case, pooled(case.nodes, PoolWeights(**weights))) for name, weights in pools.items()}
    baselines = {"hard_copies": score(case, copied(case)), "chain_alone": score(case, case.chain)}
    return scores | baselines | {"metrics": case.metrics}


def pooled(nodes: pd.DataFrame, weights: PoolWeights) -> pd.DataFrame:
    """`goal, p, n_users_behind` of every utterance's most probable goal, by utterance."""
    log_p = nodes[list(SOURCES)].to_numpy() @ np.asarray(weights.as_tuple())
    by_utterance = nodes[["utterance_id", "goal", "n_users_behind"]].assign(log_p=log_p)
    highest = by_utterance.groupby("utterance_id")["log_p"].transform("max")
    mass = np.exp(by_utterance["log_p"] - highest)
    total = mass.groupby(by_utterance["utterance_id"]).transform("sum")
    ranked = by_utterance.assign(p=mass / total).sort_values(["p", "goal"], ascending=[False, True])
    return ranked.drop_duplicates("utterance_id").set_index("utterance_id")[["goal", "p", "n_users_behind"]]


def copied(case: Case) -> pd.DataFrame:
    """The same, of utterances that were said again: the deployed reading of what was most surely said again."""
    read = case.nodes[(case.nodes["p_nlu"] > 0) & (case.nodes["goal"] != OTHER_GOAL)].sort_values(
        ["p_nlu", "goal"], ascending=[False, True]
    )
    goal = read.drop_duplicates("utterance_id").set_index("utterance_id")["goal"]
    said_again = case.edges.assign(n=case.edges["n_pairs"] * case.edges["p_rephrase"]).sort_values(
        ["n", "target_utterance"], ascending=[False, True]
    )
    best = said_again.drop_duplicates("source_utterance").set_index("source_utterance")
    labels = pd.DataFrame({"goal": best["target_utterance"].map(goal), "p": 1.0, "n_users_behind": best["n_users"] + 1})
    return labels.dropna()


def score(case: Case, labels: pd.DataFrame) -> dict[str, Any]:
    """Scores of labelled turns, apart for utterances heard once, and how often the likeliest goal is right."""
    settings = Labels()
    found = case.turns.join(labels, "utterance_id")
    found["goal"] = found["goal"].fillna(OTHER_GOAL)
    meanings = {goal: case.meaning(goal) for goal in found["goal"].unique() if goal != OTHER_GOAL}
    found["meaning"] = found["goal"].map(meanings)
    is_right = (found["meaning"] == found["true"]).to_numpy(dtype=bool)
    is_label = (found["p"] >= settings.threshold) & (found["n_users_behind"] >= settings.min_users)
    is_label = (is_label & found["meaning"].notna()).to_numpy(dtype=bool)
    is_once = (found.groupby("utterance_id")["goal"].transform("size") == _ONCE).to_numpy(dtype=bool)
    of_all = np.ones(len(found), dtype=bool)
    return {
        "accuracy": float(is_right.mean()),
        **{name: _scores(found, is_right, is_label & who) for name, who in (("labels", of_all), ("once", is_once))},
    }


def _scores(found: pd.DataFrame, is_right: Bools, chosen: Bools) -> dict[str, Any]:
    live_right, differs = (found["live"] == found["true"]), (found["live"] != found["meaning"])
    return asdict(
        score_labels(
            is_right[chosen],
            live_right.to_numpy(dtype=bool)[chosen],
            differs.to_numpy(dtype=bool)[chosen],
            found["p"].to_numpy(dtype=float)[chosen],
        )
    )


if __name__ == "__main__":
    main()
