"""Keys of utterances on real calls: words alone, words in context, words in context with back-off: `DATA --out DIR`.

What recurring recognised strings mean is learnt from four fifths of the callers, by each key, and tested on the other
callers' turns. Learnt is from what the log holds: the live NLU's readings, and how likely each turn failed. The live
NLU, which is reported beside the keys, has heard the very turn, they have not.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import scipy
from deltalake import DeltaTable
from sklearn.model_selection import GroupKFold

from common import print_figures, write_scores
from dstc2 import mine, prepare
from dstc2_log import items_of_goal, read_rows, turn_id
from selflearn.considered import considered
from selflearn.graph.candidates import OTHER, OTHER_PRIOR, Prior, Readings, own_candidates
from selflearn.graph.context import back_off, fit_strength
from selflearn.graph.weights import FIRST
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import STAGES
from selflearn.ragged import Floats, Ints, offsets_of
from selflearn.session import build_session
from selflearn.settings import USER_KEY_VARIABLE, Graph

_FOLDS, _SEED = 5, 2013
_LOCALE = "en"
_NEVER_HEARD = 1e-9
"""Turns of an utterance that only the test holds."""
_HEARD_RARELY = 3
_KEYS = ("words", "words_in_context", "with_back_off")
Bools = npt.NDArray[np.bool_]


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with dstc2_turns and dstc2_pairs")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    parser.add_argument("--lake", type=Path, help="a lake of the folder's calls that is mined already")
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "callers are pseudonyms already")
    lake = given.lake
    if lake is None:
        log = prepare(given.folder, given.out / "work")
        mine(
            Lakehouse(build_session("selflearn benchmark context"), log.settings.lake),
            log,
            (STAGES["ingest"], STAGES["detect"]),
        )
        lake = Path(log.settings.lake)
    figures = {"folds": _FOLDS, "seed": _SEED, **compare_keys(read_turns(given.folder, lake))}
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
    write_scores(given.out, figures, versions)
    print_figures("What recurring strings mean to other callers", figures)


@dataclass(frozen=True)
class Turns:
    """Turns and what the NLU considered in each.

    Attributes:
        turns: `user_id, text, context, log_odds` (of a failure), `live` and `true` (items), `acted_on` (a goal).
        turn, goal, p: one row for each goal considered; goals by number from 1.
        meaning: items of each goal.
    """

    turns: pd.DataFrame
    turn: Ints
    goal: Ints
    p: Floats
    meaning: Mapping[int, str]


def read_turns(folder: Path, lake: Path) -> Turns:
    """The folder's turns as mined, with what was meant."""
    table = DeltaTable(lake / "turns").to_pyarrow_table().sort_by("turn_id").combine_chunks()
    failed = DeltaTable(lake / "turn_outcomes").to_pandas(columns=["turn_id", "outcome_log_odds"])
    lists = table["nlu_alternatives"].combine_chunks()
    goals, scores = (
        pa.ListArray.from_arrays(lists.offsets, lists.values.field(name), mask=lists.is_null())
        for name in ("goal", "score")
    )
    score = np.asarray(table["nlu_score"].cast(pa.float64()).to_numpy(), dtype=np.float64)
    found = considered(table["goal"].combine_chunks(), score, goals, scores)
    coded = found.goals.dictionary_encode()
    names = coded.dictionary.to_pylist()
    number = {name: k + 1 for k, name in enumerate(names)}
    said = {
        turn_id(row["session_id"], row["turn"]): (
            " ".join(sorted(row["obs"]["nlu_items"])),
            " ".join(sorted(row["gold"]["items"])),
        )
        for row in read_rows(folder, "dstc2_turns")
    }
    ids = table["turn_id"].to_pylist()
    is_acted_on = ~table["fallback"].fill_null(False).to_numpy(zero_copy_only=False)
    turns = pd.DataFrame(
        {
            "user_id": table["user_id"].to_pylist(),
            "text": table["normalised_text"].to_pylist(),
            "context": table["context"].to_pylist(),
            "log_odds": failed.set_index("turn_id")["outcome_log_odds"].reindex(ids).to_numpy(),
            "live": [said[of][0] for of in ids],
            "true": [said[of][1] for of in ids],
            "acted_on": [
                number[goal] if goal and is_acted else 0
                for goal, is_acted in zip(table["goal"].to_pylist(), is_acted_on, strict=True)
            ],
        }
    )
    return Turns(
        turns,
        np.repeat(np.arange(len(ids)), np.diff(found.offsets)),
        coded.indices.to_numpy().astype(np.int64) + 1,
        found.probabilities,
        {number[name]: " ".join(items_of_goal(name)) for name in names} | {OTHER: "?"},
    )


def compare_keys(log: Turns) -> dict[str, Any]:
    """How often each key's top goal is right for callers it was not learnt from, and how often the live NLU was."""
    tests, strengths = [], []
    callers = log.turns["user_id"]
    for learnt, held in GroupKFold(_FOLDS, shuffle=True, random_state=_SEED).split(callers, groups=callers):
        is_learnt = np.zeros(len(callers), dtype=bool)
        is_learnt[learnt] = True
        heard = log.turns.loc[is_learnt].groupby("text").size()
        recurring = held[log.turns["text"].iloc[held].isin(heard.index).to_numpy()]
        in_context = log.turns.loc[is_learnt].groupby(["text", "context"]).size()
        pairs = pd.MultiIndex.from_frame(log.turns[["text", "context"]].iloc[recurring])
        found = {"turns_in_context": in_context.reindex(pairs).fillna(0).to_numpy()}
        for name in ("live", "true"):
            found[name] = log.turns[name].to_numpy()[recurring]
        for key in _KEYS:
            goal, strength = top_goals(log, is_learnt, recurring, key)
            found[key] = np.array([log.meaning[of] for of in goal])
        strengths.append(strength)
        tests.append(pd.DataFrame(found))
    every = pd.concat(tests)
    n = every["turns_in_context"]
    parts = {"all": n >= 0, "context_is_new": n == 0, "context_is_rare": (n > 0) & (n < _HEARD_RARELY)}
    figures = {name: _accuracies(every[chosen.to_numpy()]) for name, chosen in parts.items()}
    return {**figures, "strength": float(np.mean(strengths))}


def top_goals(log: Turns, is_learnt: Bools, tested: Ints, key: str) -> tuple[list[int], float]:
    """Goal of each tested turn, by what is learnt of its key; and what other contexts count as."""
    words, context = (log.turns[name].astype("category").cat.codes.to_numpy(np.int64) for name in ("text", "context"))
    n_contexts = int(context.max()) + 1
    node = words * n_contexts + (0 if key == "words" else context)
    learnt = np.flatnonzero(is_learnt)
    nodes = np.unique(node[np.concatenate([learnt, tested])])
    prior = _prior(log, is_learnt)
    readings, n_turns = _readings(log, is_learnt, np.searchsorted(nodes, node), len(nodes))
    locale, of_words, most = [_LOCALE] * len(nodes), nodes // n_contexts, Graph().max_candidate_goals
    strength = fit_strength(readings, of_words, _LOCALE, prior)
    is_backed_off = key == "with_back_off"
    lent = back_off(readings, of_words, n_turns, locale, prior, {_LOCALE: strength}, most) if is_backed_off else None
    own = own_candidates(readings, n_turns, locale, prior, most, lent)
    probability, _ = own.posterior(FIRST)
    best = np.lexsort((own.goal, own.goal == OTHER, -probability * (own.goal != OTHER), own.utterance))
    top = own.goal[best[own.offsets[:-1]]]
    # Where nothing is known, the commonest goal is the best guess.
    commonest = max((goal for _, goal in prior), key=lambda goal: prior[_LOCALE, goal])
    top[top == OTHER] = commonest
    return top[np.searchsorted(nodes, node[tested])].tolist(), strength


def _prior(log: Turns, is_learnt: Bools) -> Prior:
    of_learnt = is_learnt[log.turn]
    mass = np.bincount(log.goal[of_learnt], weights=log.p[of_learnt])
    share = mass / mass.sum() * (1 - OTHER_PRIOR)
    return {(_LOCALE, int(goal)): float(share[goal]) for goal in np.flatnonzero(share)}


def _readings(log: Turns, is_learnt: Bools, place: Ints, n: int) -> tuple[Readings, Floats]:
    """What was learnt of n utterances, and how many turns; `place` is the utterance of each turn."""
    of_learnt = is_learnt[log.turn]
    turn, goal, p = log.turn[of_learnt], log.goal[of_learnt], log.p[of_learnt]
    order = np.argsort(place[turn], kind="stable")
    turn, goal, p = turn[order], goal[order], p[order]
    is_acted_on = (log.turns["acted_on"].to_numpy()[turn] == goal).astype(np.float64)
    failed = is_acted_on * log.turns["log_odds"].to_numpy()[turn]
    n_turns = np.maximum(np.bincount(place[is_learnt], minlength=n), _NEVER_HEARD)
    return Readings(offsets_of(np.bincount(place[turn], minlength=n)), goal, p, is_acted_on, failed), n_turns


def _accuracies(tests: pd.DataFrame) -> dict[str, Any]:
    right = {name: float((tests[name] == tests["true"]).mean()) for name in ("live", *_KEYS)}
    return {"turns": len(tests), **right}


if __name__ == "__main__":
    main()
