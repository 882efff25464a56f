"""What two arms of a rewrite are worth while rewrites are live: `--out DIR [--cycles N] [--seeds N]`.

A stand-in world of numbers: wordings with others that people went on to, turns week by week, and what is seen of their
outcomes. A share of the people who say a wording mean something else than its target (`--match`: the share of pairs in
which nobody does); NLU and meanings change as weeks go by. Rewrites that the system allows are served to most turns of
their wordings. It runs twice in the same worlds: with arms, so that turns served rewritten speak for the rewrite alone,
and without, so that they speak for the wording that was said. Each week it keeps or lets go of each rewrite that was
live; to keep it is right where it works more often than the wording left as it is in the week that follows. Scored are
the areas under the precision-recall curves of the system's probability that a rewrite is better (0 of one that is no
candidate any more): of finding those to keep and those to retire, and the mean of both.

Priors, arms, guards and states are the project's own (`priors.fitted`, `judgement.judge`); all else is drawn here.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy import stats
from sklearn.metrics import average_precision_score

import selflearn
from common import print_figures, write_scores
from selflearn.ragged import Floats
from selflearn.rewrites.judgement import judge
from selflearn.rewrites.priors import MOST_TRIALS, SUMS, fitted
from selflearn.settings import Graph, Rewrites

_FIRST_SEED = 300
_INTENTS = 20
_DAYS = 7
_TURNS = 40.0
"""Turns a week of the most frequent wording; that of rank r has (r + 1) ** -_SLOPE as many, and one at least."""
_SLOPE = 0.4
_P_SERVED = 0.85
_P_SILENT = 0.17
"""Failures of which nothing is seen (as in `selflearn.simulate`)."""
_P_FALSE_ALARM = 0.05
_P_SAID_AGAIN = 0.3
_P_CHANGE = 0.04
"""Chance that the reading of a wording, that of its target, or what is meant by it changes in a week, each."""
_SETTINGS = Rewrites()
_MATCHES = (0.6, 0.8, 0.95)

Flags = npt.NDArray[np.bool_]


class World:
    """Pairs of a wording and its target.

    Attributes:
        turns, target_turns: mean number a week.
        works, target_works: chance that each wording is read as it is meant.
        match: share of those who say the wording and mean what its target means.
    """

    def __init__(self, n_pairs: int, match: float, seed: int) -> None:
        self._rng, self._match = np.random.default_rng(seed), match
        rank = self._rng.permutation(n_pairs)
        self.intent = self._rng.integers(0, _INTENTS, n_pairs)
        self.turns = np.maximum(1.0, _TURNS * (rank + 1.0) ** -_SLOPE)
        self.target_turns = self.turns * self._rng.lognormal(0.5, 1.0, n_pairs)
        self.works = np.where(self._rng.random(n_pairs) < 0.8, 0.03, 0.9)
        self.target_works = np.where(self._rng.random(n_pairs) < 0.85, 0.95, 0.1)
        self.match = self._meant(n_pairs)

    @property
    def treated_works(self) -> Floats:
        return self.match * self.target_works

    def change(self) -> None:
        """A week later: other sentences are read rightly, and some words have come to mean something else."""
        draws = self._rng.random((3, len(self.turns))) < _P_CHANGE
        self.works = np.where(draws[0], 0.93 - self.works, self.works)
        self.target_works = np.where(draws[1], 1.05 - self.target_works, self.target_works)
        self.match = np.where(draws[2], self._meant(len(self.turns)), self.match)

    def _meant(self, n: int) -> Floats:
        return np.where(self._rng.random(n) < self._match, 1.0, self._rng.beta(1, 3, n))


@dataclass
class Record:
    """Decayed counts of turns by pair, and of those that seem to have worked."""

    n: Floats
    worked: Floats

    @classmethod
    def none(cls, n_pairs: int) -> Record:
        return cls(np.zeros(n_pairs), np.zeros(n_pairs))

    def fade(self) -> None:
        weight = 0.5 ** (_DAYS / Graph().half_life_days)
        self.n, self.worked = self.n * weight, self.worked * weight

    def see(self, rng: np.random.Generator, n: npt.NDArray[np.int64], chance: Floats) -> npt.NDArray[np.int64]:
        """Add n turns with a chance to work each; returns how many of the failures were noticed."""
        right = rng.binomial(n, chance)
        noticed = rng.binomial(n - right, 1 - _P_SILENT)
        alarms = rng.binomial(n - noticed, _P_FALSE_ALARM)
        # What seems to have failed did so with .9, what seems to have worked failed with .1.
        bad = noticed + alarms
        self.n = self.n + n
        self.worked = self.worked + 0.1 * bad + 0.9 * (n - bad)
        return noticed


@dataclass
class System:
    """What is known of each pair, with or without arms."""

    n_pairs: int
    has_arms: bool
    source: Record = field(init=False)
    target: Record = field(init=False)
    treated: Record = field(init=False)

    def __post_init__(self) -> None:
        self.source, self.target, self.treated = (Record.none(self.n_pairs) for _ in range(3))
        self.n_users = np.zeros(self.n_pairs)
        self.live = np.zeros(self.n_pairs, dtype=bool)
        self._cooling = np.zeros(self.n_pairs)

    def see_week(self, world: World, rng: np.random.Generator) -> None:
        """Turns of a week, those of live rewrites served to most."""
        for record in (self.source, self.target, self.treated):
            record.fade()
        n = rng.poisson(world.turns)
        served = np.where(self.live, rng.binomial(n, _P_SERVED), 0)
        noticed = self.source.see(rng, n - served, world.works)
        self.n_users += rng.binomial(noticed, _P_SAID_AGAIN)
        self.target.see(rng, rng.poisson(world.target_turns), world.target_works)
        (self.treated if self.has_arms else self.source).see(rng, served, world.treated_works)

    def decide(self, world: World) -> Floats:
        """The probability that each rewrite is better; says which are live next."""
        source, target, treated = self.source, self.target, self.treated
        friction = 1 - np.divide(source.worked, source.n, out=np.ones(self.n_pairs), where=source.n > 0)
        rows = pd.DataFrame(
            {
                "intent": world.intent.astype(str),
                "text": "",
                "target_text": "",
                "tells_apart": False,
                "share": 0.5,
                **_columns(source, "{}", "most"),
                **_columns(target, "target_{}", "target_most"),
                "n_treated": treated.n,
                "n_treated_worked": treated.worked,
                "n_treated_most": np.minimum(treated.n, 1.0),
                "friction": friction,
                "n_users": self.n_users,
                "n_days": self.n_users,
                "max_user_share": 1 / np.maximum(self.n_users, 1),
            }
        )
        is_candidate = (friction >= _SETTINGS.min_friction) & (self.n_users >= _SETTINGS.min_users)
        of = np.flatnonzero(is_candidate)
        found = judge(
            pa.Table.from_pandas(rows.iloc[of].merge(self._priors(world), on="intent", how="left")), _SETTINGS
        )
        score, is_allowed, is_bad = np.zeros(self.n_pairs), is_candidate.copy(), np.zeros(self.n_pairs, dtype=bool)
        score[of] = found.p_treated_better if self.has_arms else found.p_better
        is_allowed[of] = found.is_allowed
        is_bad[of] = found.is_retired & (treated.n[of] > 0)
        self._cooling = np.where(
            is_bad & (self._cooling <= 0), _SETTINGS.cooldown_days / _DAYS, np.maximum(self._cooling - 1, 0)
        )
        self.live = is_allowed & ~is_bad & (self._cooling <= 0)
        return score

    def _priors(self, world: World) -> pd.DataFrame:
        n = np.concatenate([self.source.n, self.target.n])
        share = np.concatenate([self.source.worked, self.target.worked]) / np.maximum(n, 1e-9)
        n = np.minimum(n, MOST_TRIALS)
        of_wording = (np.ones(len(n)), n, n * n, n * share, n * share * share + share * (1 - share))
        sums = pd.DataFrame(dict(zip(SUMS, of_wording, strict=True)))
        intents = np.concatenate([world.intent, world.intent]).astype(str)
        of_intent = sums[n >= 2].groupby(intents[n >= 2]).sum().reindex(sorted(set(intents)), fill_value=0.0)
        return fitted(of_intent.rename_axis("intent").reset_index().assign(locale="")).drop(columns="locale")


def _columns(record: Record, name: str, most: str) -> dict[str, Floats]:
    counts = {name.format("n"): record.n, name.format("worked"): record.worked}
    return counts | {most: np.minimum(record.n, np.maximum(1.0, 0.1 * record.n))}


def run(n_pairs: int, n_cycles: int, match: float, seed: int, has_arms: bool) -> pd.DataFrame:
    """Decisions on rewrites that were live: `score, is_kept, gain`, how much more often the rewrite works."""
    world, system = World(n_pairs, match, seed), System(n_pairs, has_arms)
    rng = np.random.default_rng([seed, has_arms])
    decisions = []
    system.see_week(world, rng)
    system.decide(world)
    for cycle in range(n_cycles):
        was_live = system.live
        system.see_week(world, rng)
        score = system.decide(world)
        world.change()
        found = pd.DataFrame({"score": score, "is_kept": system.live, "gain": world.treated_works - world.works})
        decisions.append(found[was_live].assign(cycle=cycle))
    return pd.concat(decisions)


def scores(decisions: pd.DataFrame) -> dict[str, float]:
    """Areas under the precision-recall curves, the share of right decisions, and what rewriting gained."""
    better = (decisions["gain"] > 0).to_numpy()
    keep = float(average_precision_score(better, decisions["score"]))
    retire = float(average_precision_score(~better, -decisions["score"]))
    return {
        "pr_auc": (keep + retire) / 2,
        "pr_auc_keep": keep,
        "pr_auc_retire": retire,
        "right": float((better == decisions["is_kept"].to_numpy()).mean()),
        "decisions": len(decisions),
        "to_keep": float(better.mean()),
    }


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=1_000)
    parser.add_argument("--match", type=float, nargs="*", default=_MATCHES, help="share of pairs that mean the same")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json")
    given = parser.parse_args()
    started = time.perf_counter()
    figures: dict[str, Any] = {"seeds": given.seeds, "cycles": given.cycles, "pairs": given.pairs}
    for match in given.match:
        found = [
            {"seed": seed, "arms": arms, **scores(run(given.pairs, given.cycles, match, seed, arms))}
            for seed in range(_FIRST_SEED, _FIRST_SEED + given.seeds)
            for arms in (True, False)
        ]
        figures[f"match_{match:.2f}"] = summary(pd.DataFrame(found))
    figures["seconds"] = time.perf_counter() - started
    write_scores(given.out, figures, {"python": platform.python_version(), "selflearn": selflearn.__version__})
    print_figures("Cycles with rewrites live", figures)


def summary(found: pd.DataFrame) -> dict[str, Any]:
    """Means over seeds, and by how much the areas with arms are above those without."""
    by_arms = {arms: rows.set_index("seed") for arms, rows in found.groupby("arms")}
    figures: dict[str, Any] = {
        name: by_arms[arms].drop(columns="arms").mean().to_dict()
        for name, arms in (("with_arms", True), ("without_arms", False))
    }
    for name in ("pr_auc", "pr_auc_keep", "pr_auc_retire"):
        ratio = by_arms[True][name] / by_arms[False][name] - 1
        half = float(stats.t.ppf(0.975, len(ratio) - 1) * stats.sem(ratio)) if len(ratio) > 1 else float("nan")
        figures[f"{name}_above"] = {"mean": float(ratio.mean()), "half_width": half}
    return figures


if __name__ == "__main__":
    main()
