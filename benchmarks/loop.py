"""The closed loop, measured against every alternative: `--out DIR [--data FOLDER --pool hwu64]`.

A deployment is simulated: people who say what other people wrote, a noisy recogniser, a reference NLU that was trained
on a few sentences of each intent. Every cycle is a day of the log; then each system learns from its log so far, the NLU
is trained anew, and both it and the rewrites go live. All systems meet the same people with the same wants. The test
is of sentences and people that are in no log. `share` is the part of the oracle's gain that a system has, where the
oracle gets gold for every turn. With `--encoder` the project knows a pretrained encoder; what that one brings by itself
is the system `distilled`, which learns from words alone. A run that was cut short goes on where it was when started
again with the same arguments: what is done stands in `records.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

import selflearn
from common import print_figures, write_scores
from loop_scores import Meant, Unseen, nlu_scores, plot, summary, traffic_scores
from loop_systems import (
    Distilled,
    Marupa,
    Nothing,
    Oracle,
    PairCounts,
    Row,
    SelfTraining,
    SuccessChain,
    System,
    example_of,
)
from loop_wordings import pool_of
from selflearn.encoding import load_encoder
from selflearn.nlu import Example, ReferenceNLU
from selflearn.settings import USER_KEY_VARIABLE
from selflearn.simulate.deployment import Assistant, Deployment, Division, Wording, World, divide
from selflearn.simulate.lines import as_json
from selflearn.turns import frame_goal

_START = date(2026, 1, 5)
_FIRST_SEED = 100
_TEST_SHARE = 0.25
_PROJECT = "project"
_SHOWN = (
    "share_error",
    "error",
    "error_tail",
    "error_friction",
    "regressions",
    "regressions_unseen",
    "labels",
    "precision",
    "novelty",
    "ece",
    "defects",
)
_SHOWN_WITH_SLOTS = ("share_exact", "exact", "slot_f1")
_SHOWN_OUT_OF_SCOPE = ("out_of_scope_learnt", "out_of_scope_acted_on")
PLAIN: dict[str, Callable[[Sequence[Example]], System]] = {
    "none": lambda launch: Nothing(),
    "self-training": SelfTraining,
    "pair counts": PairCounts,
    "marupa": Marupa,
    "chain": SuccessChain,
    "oracle": Oracle,
}
ABLATED = ("context", "variants", "support", "calibration", "self-awareness")
_DISTILLED = "distilled"
SYSTEMS = (*PLAIN, _DISTILLED, _PROJECT, *(f"{_PROJECT} without {part}" for part in ABLATED))


def main() -> None:
    """Run the contest; writes `records.jsonl`, `scores.json` and `error.png`."""
    given = _arguments()
    os.environ.setdefault(USER_KEY_VARIABLE, "simulated people have no secrets")
    given.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    world = World(
        n_sessions=given.sessions,
        n_users=max(50, given.sessions * 3 // 8),
        n_cycles=given.cycles,
        silent=given.silent,
        with_slots=given.slots,
    )
    wordings = pool_of(given.pool, given.data)
    file = given.out / "records.jsonl"
    for seed in range(_FIRST_SEED, _FIRST_SEED + given.seeds):
        division = divide(wordings, given.launch, _TEST_SHARE, seed, given.out_of_scope)
        for name in given.systems:
            work, n_done = given.out / "work", _done(file, name, seed)
            for record in contest(name, division, world, seed, work, n_done, given.encoder):
                print(json.dumps(record), flush=True)
                with file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(record) + "\n")
    records = pd.read_json(file, lines=True)
    figures = {
        "pool": given.pool,
        "encoder": given.encoder and load_encoder(given.encoder).encoder_id,
        "launch_sentences_per_intent": given.launch,
        "out_of_scope": given.out_of_scope,
        "seeds": given.seeds,
        "first_seed": _FIRST_SEED,
        "world": asdict(world),
        "systems": summary(records),
        "seconds": time.perf_counter() - started,
    }
    write_scores(given.out, figures, {"python": platform.python_version(), "selflearn": selflearn.__version__})
    print_figures("The closed loop", table(figures["systems"], given.slots))
    plot(records, given.out)


def contest(
    name: str,
    division: Division,
    world: World,
    seed: int,
    work: Path,
    n_done: int = 0,
    encoder: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Run one system in a world of its own, and yield a record for each cycle; cycle 0 is the launched NLU.

    Records of the first `n_done` cycles are left out; where that is all there is nothing to run.
    """
    if n_done > world.n_cycles:
        return
    deployment = Deployment(division, world, seed)
    launch = [_example(one, world.with_slots) for one in division.launch]
    nlu = ReferenceNLU(launch)
    popularity = dict(zip(deployment.pool.intents, deployment.pool.popularity(0), strict=True))
    test = Unseen.of(deployment.test(), nlu, popularity, world.with_slots, deployment.out_of_scope_test())
    folder = work / f"{name.replace(' ', '-')}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    system = _system(name, launch, division, folder, world.with_slots, encoder)
    meant = Meant(world.with_slots, {one.goal.intent for one in division.launch})
    assistant = Assistant(nlu, "launch")
    if not n_done:
        yield {"system": name, "seed": seed, "cycle": 0, **nlu_scores(nlu, test)}
    for cycle in range(1, world.n_cycles + 1):
        day = _START + timedelta(days=cycle - 1)
        rows, told = deployment.day(cycle - 1, day, assistant)
        meant.add(told)
        began = time.perf_counter()
        learnt = system.learn(day, rows, told)
        seconds = {"": time.perf_counter() - began} | {f"_{stage}": took for stage, took in learnt.seconds.items()}
        of_labels = meant.label_scores(learnt.labels, nlu)
        if learnt.examples is not None:
            nlu = ReferenceNLU(learnt.examples)
        assistant = Assistant(nlu, f"cycle-{cycle}", learnt.rewrites)
        if cycle >= n_done:
            yield {
                "system": name,
                "seed": seed,
                "cycle": cycle,
                "turns": len(rows),
                **nlu_scores(nlu, test),
                **of_labels,
                "regressions": meant.regressions(nlu),
                **traffic_scores(told, [row["rewrite_id"] for row in rows]),
                "examples": len(learnt.examples or launch),
                "rewrites": len(learnt.rewrites),
                **{f"seconds_learning{stage}": took for stage, took in seconds.items()},
            }


def table(systems: dict[str, dict[str, dict[str, float]]], with_slots: bool) -> dict[str, dict[str, str]]:
    """Some measures of each system: the mean, and half the interval's width where there are seeds enough."""
    shown = (*_SHOWN, *_SHOWN_OUT_OF_SCOPE, *(_SHOWN_WITH_SLOTS if with_slots else ()))
    return {
        system: {name: _shown(measures[name]) for name in shown if name in measures}
        for system, measures in sorted(systems.items(), key=lambda item: item[1]["error"]["mean"])
    }


def _shown(value: dict[str, float]) -> str:
    spread = f" ± {value['high'] - value['mean']:.3f}" if "high" in value else ""
    return f"{value['mean']:,.3f}{spread}"


def _system(
    name: str, launch: Sequence[Example], division: Division, folder: Path, with_slots: bool, encoder: str | None
) -> System:
    if name in PLAIN:
        return PLAIN[name](launch)
    if name == _DISTILLED:
        return Distilled(launch, load_encoder(encoder))
    # Only here is a JVM wanted.
    from loop_project import PARTS, WHOLE, Project
    from selflearn.session import build_session

    part = PARTS[name.removeprefix(f"{_PROJECT} without ")] if name != _PROJECT else WHOLE
    spark = build_session("selflearn benchmark loop", extra={"spark.sql.shuffle.partitions": "2"})
    return Project(spark, folder, [_launch_row(one, with_slots) for one in division.launch], part, encoder)


def _example(wording: Wording, with_slots: bool) -> Example:
    return example_of(wording.text, frame_goal(wording.goal.intent, wording.goal.slots if with_slots else ()))


def _launch_row(wording: Wording, with_slots: bool) -> Row:
    slots = as_json(wording.goal.slots) if with_slots else []
    return {
        "text": wording.text,
        "locale": wording.locale,
        "intent": wording.goal.intent,
        "slots": slots,
        "context": "",
    }


def _done(file: Path, name: str, seed: int) -> int:
    """Records of a system and seed that are there already."""
    if not file.exists():
        return 0
    records = pd.read_json(file, lines=True)
    return 0 if records.empty else int(((records["system"] == name) & (records["seed"] == seed)).sum())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="folder of data sets; without it the project's own sample is the pool"
    )
    parser.add_argument("--pool", default="en-GB", help="a data set of the folder, such as hwu64, or a sample's locale")
    parser.add_argument("--launch", type=int, default=10, help="sentences of each intent that the NLU begins with")
    parser.add_argument(
        "--out-of-scope", metavar="INTENT", help="intent that the assistant lacks: said, never launched"
    )
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=4_000, help="sessions a cycle")
    parser.add_argument("--silent", type=float, default=0.1, help="share of failures of which nobody says anything")
    parser.add_argument("--encoder", help="a sentence-transformers model or folder that the project may use")
    parser.add_argument("--slots", action="store_true", help="frames with slots, not intents alone")
    parser.add_argument(
        "--systems", type=lambda text: text.split(","), default=[*PLAIN, _PROJECT], help=f"of: {', '.join(SYSTEMS)}"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for scores; work files go below it")
    given = parser.parse_args()
    unknown = sorted(set(given.systems) - set(SYSTEMS))
    if unknown:
        parser.error(f"--systems: {', '.join(unknown)} is none of {', '.join(SYSTEMS)}")
    if _DISTILLED in given.systems and not given.encoder:
        parser.error(f"--systems: {_DISTILLED} needs --encoder")
    return given


if __name__ == "__main__":
    main()
