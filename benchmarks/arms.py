"""What two arms of a rewrite are worth while rewrites are live: `--out DIR [--cycles N] [--seeds N]`.

A simulated deployment runs for ten weeks, of each a day is seen; rewrites learnt from all before are served to most of
their turns, and every third week the NLU is trained on other sentences. The system runs twice, in the same worlds with
the same wants: with arms, so that turns that were served rewritten speak for the rewrite alone, and without, so that
they speak for the wording that was said. Each week each rewrite that was live is kept or let go. To keep it is right
where fewer of the week's turns fail with it than without, which is known of every turn, be it served or not. Scored is
the area under the precision-recall curve of the system's probability that a rewrite is better (0 where it is no
candidate any more), over all decisions of a run; beside it, that of finding those with which more turns fail.

Detection, chain, priors and judgement are the project's own; what joins them here is plain pandas in place of Spark.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import stats
from sklearn.metrics import average_precision_score

import selflearn
from common import print_figures, write_scores
from loop_systems import Row, detected, example_of
from selflearn.lakehouse import tables
from selflearn.nlu import ReferenceNLU
from selflearn.rewrites.candidates import MIN_REPHRASE
from selflearn.rewrites.judgement import judge
from selflearn.rewrites.priors import MOST_TRIALS, SUMS, fitted
from selflearn.rewrites.transitions import solve
from selflearn.settings import Graph, Rewrites
from selflearn.simulate.deployment import (
    Assistant,
    Deployment,
    Division,
    Rewrite,
    Told,
    World,
    divide,
    is_right,
    sample_wordings,
)
from selflearn.simulate.deployment.conversation import LEAST_SURE
from selflearn.turns import frame_goal, normalise_text

_START = date(2026, 1, 5)
_DAYS = 7
_FIRST_SEED = 300
_WORDINGS = 500
_LAUNCH = 12
_TEST_SHARE = 0.05
_TRAINED_ON = 0.8
_CYCLES_PER_NLU = 3


class Learner:
    """The system; `is_aware` of what was served rewritten, or not."""

    def __init__(self, is_aware: bool) -> None:
        self._is_aware = is_aware
        self._patterns = pd.DataFrame(columns=tables.LEVEL_PATTERNS.schema.fieldNames())
        self._turns, self._pairs = pd.DataFrame(), pd.DataFrame()
        self._retired: dict[str, date] = {}
        self._settings, self._half_life = Rewrites(), Graph().half_life_days

    def learn(self, day: date, rows: Sequence[Row]) -> pd.DataFrame:
        """Candidates as of the day: `text, target_text, rewrite_id, p_better, p_treated_better, is_served`."""
        turns, pairs, self._patterns = detected(rows, day, self._patterns)
        rewrite = {row["turn_id"]: row["rewrite_id"] for row in rows if self._is_aware}
        turns = turns.assign(day=day, text=turns["text"].map(normalise_text), rewrite=turns["turn_id"].map(rewrite))
        self._turns = pd.concat([self._turns, turns], ignore_index=True)
        self._pairs = pd.concat([self._pairs, pairs[pairs["p_rephrase"] >= 0.1]], ignore_index=True)
        return self._judged(day)

    def _judged(self, day: date) -> pd.DataFrame:
        turns = self._turns.assign(
            weight=0.5 ** ((day - self._turns["day"]).map(lambda age: age.days) / self._half_life)
        )
        organic, treated = turns[turns["rewrite"].isna()], turns[turns["rewrite"].notna()]
        said, edges = votes(organic, ["text"]), edges_of(self._pairs, organic)
        worked = worked_as(organic)
        meaning = meanings(edges, worked, organic)
        found = candidates(said, edges, worked, meaning, self._settings)
        found = found.join(votes(treated, ["rewrite"]).add_suffix("_treated"), on="rewrite_id").fillna(0.0)
        found["n_treated_worked"] = found["n_treated"] * (1 - found["friction_treated"])
        found = found.rename(columns={"most_treated": "n_treated_most"}).merge(priors_of(said, meaning), on="intent")
        if found.empty:
            return found.assign(p_better=0.0, p_treated_better=0.0, is_served=False)
        judgement = judge(pa.Table.from_pandas(found, preserve_index=False), self._settings)
        found = found.assign(
            p_better=judgement.p_better,
            p_treated_better=judgement.p_treated_better,
            is_allowed=judgement.is_allowed,
            state=judgement.state,
            lower=judgement.target.lower_bound,
        )
        return found.assign(is_served=self._chosen(found, day))

    def _chosen(self, found: pd.DataFrame, day: date) -> pd.Series[bool]:
        """What is served: see `selflearn.rewrites.select_rewrites`."""
        since = day - timedelta(days=self._settings.cooldown_days)
        cooling = found["rewrite_id"].map(lambda name: self._retired.get(name, date.min) > since)
        bad = (found["state"] == "retired") & (found["n_treated"] > 0) & ~cooling
        self._retired |= dict.fromkeys(found.loc[bad, "rewrite_id"], day)
        tried = found[found["is_allowed"] & (found["state"] != "retired") & ~cooling]
        tried = tried[~tried["target_text"].isin(tried["text"])]
        order = tried.assign(is_kept=tried["state"] == "kept").sort_values(["is_kept", "lower", "rewrite_id"])
        return found.index.isin(order.groupby("text").tail(1).index)


def votes(turns: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Of each key `n` people and days, weighted, the mean `friction`, the `most` of one person, and who they were."""
    of_user = turns.groupby([*by, "user_id", "day"], as_index=False).agg(
        weight=("weight", "first"), friction=("p_friction", "mean")
    )
    of_user["failed"] = of_user["weight"] * of_user["friction"]
    sums = of_user.groupby(by).agg(n=("weight", "sum"), failed=("failed", "sum"))
    most = of_user.groupby([*by, "user_id"])["weight"].sum().groupby(by).max()
    return pd.DataFrame({"n": sums["n"], "friction": sums["failed"] / sums["n"], "most": most})


def worked_as(organic: pd.DataFrame) -> pd.Series[float]:
    """People and days of whom a text was read as a goal and that worked, by both."""
    share = organic["weight"] / organic.groupby(["text", "user_id", "day"])["turn_id"].transform("size")
    return (share * (1 - organic["p_friction"])).groupby([organic["text"], organic["goal"]]).sum()


def edges_of(pairs: pd.DataFrame, organic: pd.DataFrame) -> pd.DataFrame:
    """What was said after what: `text, target_text, mass, p_rephrase, share, given` (user, day and weight of each)."""
    known = organic.set_index("turn_id")[["text", "user_id", "day", "weight"]]
    ends = pairs.join(known, on="source", how="inner").join(
        known["text"].rename("target_text"), on="target", how="inner"
    )
    ends = ends[ends["text"] != ends["target_text"]]
    keys = ["text", "target_text"]
    of_user = ends.groupby([*keys, "user_id", "day"], as_index=False).agg(
        p=("p_rephrase", "max"), n=("weight", "first")
    )
    of_user["mass"] = of_user["n"] * of_user["p"]
    of_user["given"] = list(zip(of_user["user_id"], of_user["day"], of_user["n"], strict=True))
    edges = of_user.groupby(keys).agg(n=("n", "sum"), mass=("mass", "sum"), given=("given", list)).reset_index()
    edges["p_rephrase"] = edges["mass"] / edges.pop("n")
    edges["share"] = edges["mass"] / edges.groupby("text")["mass"].transform("sum")
    return edges


def meanings(edges: pd.DataFrame, worked: pd.Series[float], organic: pd.DataFrame) -> dict[str, str]:
    """The goal that most of those reach who begin with a linked text, by the chain; of others what they worked as."""
    gave_up = (organic["weight"] * organic["p_gave_up"]).groupby(organic["text"]).sum()
    texts, goals = sorted(set(organic["text"])), sorted(set(worked.index.get_level_values("goal")))
    of_text, of_goal = ({name: at for at, name in enumerate(names)} for names in (texts, goals))
    rows = [
        (edges["text"].map(of_text), edges["target_text"].map(of_text), None, edges["mass"]),
        (
            worked.index.get_level_values("text").map(of_text),
            None,
            worked.index.get_level_values("goal").map(of_goal),
            worked,
        ),
        (gave_up.index.map(of_text), None, None, gave_up),
    ]
    linked = set(edges["text"].map(of_text)) | set(edges["target_text"].map(of_text))
    masses = pd.concat(
        [pd.DataFrame({"source": s, "target": t, "goal": g, "mass": np.asarray(m)}) for s, t, g, m in rows]
    ).astype({"source": "Int64", "target": "Int64", "goal": "Int64"})
    masses = masses[masses["source"].isin(linked)]
    solved = solve(pa.Table.from_pandas(masses, preserve_index=False)).to_pandas().dropna(subset="goal")
    own = worked.groupby("text").idxmax().map(lambda key: key[1]).to_dict()
    return own | {texts[row.utterance]: goals[int(row.goal)] for row in solved.itertuples()}


def candidates(
    said: pd.DataFrame,
    edges: pd.DataFrame,
    worked: pd.Series[float],
    meaning: Mapping[str, str],
    settings: Rewrites,
) -> pd.DataFrame:
    """Columns of `judge`'s input but the treated arm's and the prior's, for texts that fail and what was said next."""
    found = edges[edges["p_rephrase"] >= MIN_REPHRASE]
    found = found.assign(goal=found["text"].map(meaning))
    found = found[found["goal"].notna() & (found["goal"] == found["target_text"].map(meaning))]
    found = found.join(said, on="text").join(said[["n", "most"]].add_prefix("target_"), on="target_text")
    found = found[found["friction"] >= settings.min_friction]
    given = found[["text", "given"]].explode("given")
    given[["user_id", "day", "weight"]] = given.pop("given").tolist()
    of_user = given.groupby(["text", "user_id"])["weight"].sum().groupby("text")
    of_text = pd.DataFrame(
        {
            "n_users": of_user.size(),
            "n_days": given.groupby("text")["day"].nunique(),
            "max_user_share": of_user.max() / of_user.sum(),
        }
    )
    of = worked.to_dict()
    return (
        found.drop(columns="given")
        .join(of_text, on="text")
        .assign(
            worked=[of.get(key, 0.0) for key in zip(found["text"], found["goal"], strict=True)],
            target_worked=[of.get(key, 0.0) for key in zip(found["target_text"], found["goal"], strict=True)],
            rewrite_id=found["text"] + " -> " + found["target_text"],
            intent=found["goal"].map(intent_of),
        )
    )


def priors_of(said: pd.DataFrame, meaning: Mapping[str, str]) -> pd.DataFrame:
    """`intent, prior_worked, prior_failed`."""
    n, share = said["n"].clip(upper=MOST_TRIALS), 1 - said["friction"]
    sums = pd.DataFrame(
        dict(zip(SUMS, (n * 0 + 1, n, n * n, n * share, n * share * share + share * (1 - share)), strict=True))
    )[said["n"] >= 2]
    intents = sums.index.map(lambda text: intent_of(meaning.get(text, "")))
    of_intent = sums.groupby(intents).sum().rename_axis("intent").reset_index().assign(locale="")
    missing = sorted({intent_of(goal) for goal in meaning.values()} - set(of_intent["intent"]))
    empty = pd.DataFrame(0.0, index=range(len(missing)), columns=list(SUMS)).assign(intent=missing, locale="")
    return fitted(pd.concat([of_intent, empty], ignore_index=True)).drop(columns="locale")


def intent_of(goal: str) -> str:
    """The intent of a canonical goal."""
    return goal.partition('"intent":"')[2].partition('"')[0]


def judged_by_truth(rewrites: Mapping[str, Rewrite], told: Sequence[Told], assistant: Assistant) -> pd.DataFrame:
    """Of each rewrite the turns of the week that fail with it and without it, were all of them served and none."""
    rows = []
    for one in told:
        rewrite = rewrites.get(normalise_text(one.heard))
        if rewrite and not one.is_planted:
            plain, other = assistant.replies([one.heard, rewrite.text], [False, False])
            fails = [
                reply.readings[0].probability < LEAST_SURE or not is_right(reply.readings[0], one.goal, True)
                for reply in (plain, other)
            ]
            rows.append((rewrite.rewrite_id, *fails))
    return pd.DataFrame(rows, columns=["rewrite_id", "without", "served"]).groupby("rewrite_id").sum()


def run(division: Division, world: World, seed: int, is_aware: bool) -> tuple[pd.DataFrame, dict[str, float]]:
    """Decisions on live rewrites, `cycle, score, is_better` (1, -1, or 0 where neither), `is_kept`; and failures."""
    deployment, learner = Deployment(division, world, seed), Learner(is_aware)
    rewrites: dict[str, Rewrite] = {}
    decisions, failed = [], []
    for cycle in range(world.n_cycles):
        nlu = ReferenceNLU(trained_on(division, seed, cycle // _CYCLES_PER_NLU))
        assistant = Assistant(nlu, f"cycle-{cycle}", rewrites)
        day = _START + timedelta(days=_DAYS * cycle)
        rows, told = deployment.day(cycle, day, assistant)
        found = learner.learn(day, rows).set_index("rewrite_id")
        truth = judged_by_truth(rewrites, told, assistant)
        score = found["p_treated_better" if is_aware else "p_better"].reindex(truth.index).fillna(0.0)
        is_better = np.sign(truth["without"] - truth["served"])
        kept = found["is_served"].reindex(truth.index).eq(True)
        decisions.append(pd.DataFrame({"cycle": cycle, "score": score, "is_better": is_better, "is_kept": kept}))
        served = [row["rewrite_id"] is not None for row in rows]
        of_served = [one for one, yes in zip(told, served, strict=True) if yes]
        failed.append(
            (
                np.mean([one.is_failure for one in told]),
                sum(one.is_failure for one in of_served),
                sum(one.would_fail for one in of_served),
            )
        )
        chosen = found[found["is_served"]]
        rewrites = {row.text: Rewrite(row.Index, row.target_text) for row in chosen.itertuples()}
    share, of_served, else_failed = np.array(failed, dtype=float).T
    down = 1 - of_served.sum() / max(1.0, else_failed.sum())
    return pd.concat(decisions), {"failed": share.mean(), "defects_down_rewritten": down}


def trained_on(division: Division, seed: int, number: int) -> list[Any]:
    """Sentences of the NLU number so and so."""
    drawn = Random(f"{seed}/nlu/{number}").sample(division.launch, round(_TRAINED_ON * len(division.launch)))
    return [example_of(one.text, frame_goal(one.goal.intent, one.goal.slots)) for one in drawn]


def scores(decisions: pd.DataFrame) -> dict[str, float]:
    """Areas under the precision-recall curves of finding the better and the worse rewrites, and counts."""
    better, worse = ((sign * decisions["is_better"] > 0).to_numpy() for sign in (1, -1))
    return {
        "pr_auc": float(average_precision_score(better, decisions["score"])),
        "pr_auc_worse": float(average_precision_score(worse, -decisions["score"])) if worse.any() else float("nan"),
        "right": float((better == decisions["is_kept"].to_numpy()).mean()),
        "decisions": len(decisions),
        "better": int(better.sum()),
        "worse": int(worse.sum()),
    }


def main() -> None:
    """Run the benchmark; writes `scores.json` and every decision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=2_500, help="a day")
    parser.add_argument("--locale", default="en-GB", help="of the project's own sample of wordings")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json and every decision")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    world = World(n_sessions=given.sessions, n_cycles=given.cycles, n_users=given.sessions * 3 // 8, with_slots=True)
    found = []
    for seed in range(_FIRST_SEED, _FIRST_SEED + given.seeds):
        wordings = Random(f"{seed}/wordings").sample(sample_wordings(given.locale), _WORDINGS)
        division = divide(wordings, _LAUNCH, _TEST_SHARE, seed)
        for is_aware in (True, False):
            decisions, traffic = run(division, world, seed, is_aware)
            name = "with" if is_aware else "without"
            decisions.to_csv(given.out / f"decisions-{seed}-{name}.csv")
            found.append({"seed": seed, "arms": is_aware, **scores(decisions), **traffic})
            print(found[-1], flush=True)
    figures = {"seeds": given.seeds, "cycles": given.cycles, "sessions": given.sessions, **summary(pd.DataFrame(found))}
    figures["seconds"] = time.perf_counter() - started
    write_scores(given.out, figures, {"python": platform.python_version(), "selflearn": selflearn.__version__})
    print_figures("Ten cycles with rewrites live", figures)


def summary(found: pd.DataFrame) -> dict[str, Any]:
    """Means over seeds, with and without arms, and by how much the first are above the second."""
    means = found.drop(columns="seed").groupby("arms").mean()
    ratio = found[found["arms"]].set_index("seed")["pr_auc"] / found[~found["arms"]].set_index("seed")["pr_auc"] - 1
    half = float(stats.t.ppf(0.975, len(ratio) - 1) * stats.sem(ratio)) if len(ratio) > 1 else float("nan")
    return {
        "with_arms": means.loc[True].to_dict(),
        "without_arms": means.loc[False].to_dict(),
        "pr_auc_above": {
            "mean": float(ratio.mean()),
            "low": float(ratio.mean()) - half,
            "high": float(ratio.mean()) + half,
        },
    }


if __name__ == "__main__":
    main()
