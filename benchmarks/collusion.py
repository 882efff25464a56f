"""What colluding users can plant: `--out DIR [--turns N] [--shares .01 .05 .1] [--seeds 33]`.

A simulated month is mined as it is, and again with colluders added: gangs of accounts of their own, as many as a share
of the log's users. Day by day each of them says a wording that works for others, cuts the answer off, and says another
wording, of another goal, that works: as if the first had meant the second. Of many such wordings they take the one that
looks most like the first, so that it passes for a rephrase. Half of the gangs push one false label all
month, the others a new one each day, which all of the gang push on it. A label *succeeds* where the wording gets a
weak label with the pushed goal that it does not get without colluders; it is *taught* where a release would teach the
wording the lure's intent, be it unsure, that it does not teach it without them; a rewrite is planted where the wording
is to be served as the lure. The yield is of utterances whose weak label is what people mostly meant by them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from deltalake import DeltaTable
from rapidfuzz import fuzz

from common import print_figures, write_scores
from selflearn.labels import unsure_intents
from selflearn.lakehouse import tables
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import MINING, STAGES, day_range, run_pipeline
from selflearn.session import build_session, effective_configuration
from selflearn.settings import USER_KEY_VARIABLE, Settings, Source
from selflearn.simulate import read_truth, simulate
from selflearn.turns import frame_goal, normalise_text, utterance_id

_START = date(2026, 1, 5)
_DAYS = 30
_GANG = 5
_SECONDS_BETWEEN = 6
_LURES = 300
_STAGES = (*MINING, STAGES["variants"], STAGES["graph"], STAGES["rewrite"], STAGES["label"])

Turn = dict[str, Any]


class Push(NamedTuple):
    """A false label: a wording, said before a lure of another goal, on some days."""

    wording: Turn
    lure: Turn
    days: tuple[int, ...]


class Mined(NamedTuple):
    """Goals of weak labels, intents that are taught, and what is to be said instead, by utterance."""

    labels: dict[str, str]
    taught: dict[str, str]
    rewrites: dict[str, str]


class Attack(NamedTuple):
    """Whether each label succeeded that was pushed all month, or for a day; labels taught; rewrites planted; honest
    yield left."""

    lasting: tuple[bool, ...]
    daily: tuple[bool, ...]
    n_taught: int
    n_rewrites: int
    yield_kept: float


class Month(NamedTuple):
    """Users of an honest month, right labels of it, and what became of it with each share of colluders."""

    n_users: int
    n_labels: int
    attacks: Mapping[float, Attack]


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    parser.add_argument("--turns", type=int, default=60_000, help="turns of the simulated month")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.01, 0.05, 0.1], help="of users that collude")
    parser.add_argument("--seeds", type=int, nargs="*", default=[33], help="of the months, one after another")
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "simulated people have no secrets")
    started = time.perf_counter()
    configuration = effective_configuration(build_session("selflearn benchmark collusion"))
    months: dict[int, Month] = {}
    figures: dict[str, Any] = {}
    for seed in given.seeds:
        months[seed] = month(given.out / "work", given.turns, given.shares, seed)
        figures = {"turns": given.turns, "gang": _GANG, **of_months(months, given.shares)}
        write_scores(given.out, figures | {"seconds": time.perf_counter() - started}, configuration)
    print_figures("Colluding users", figures)


def of_months(months: Mapping[int, Month], shares: Sequence[float]) -> dict[str, Any]:
    """Figures of some months, by seed, together."""
    return {
        "users": {str(seed): found.n_users for seed, found in months.items()},
        "honest_yield": {str(seed): found.n_labels for seed, found in months.items()},
        **{f"share_{one}": scores({seed: found.attacks[one] for seed, found in months.items()}) for one in shares},
    }


def month(work: Path, n_turns: int, shares: Sequence[float], seed: int) -> Month:
    """An honest month, and what becomes of it with each share of colluders."""
    shutil.rmtree(work, ignore_errors=True)
    made = simulate(work / "sample", n_turns=n_turns, days=_DAYS, start=_START, seed=seed)
    working = working_turns(work / "sample")
    meant = mostly_meant(work / "sample")
    launch = work / "sample" / "launch.jsonl"
    honest = mined(work / "honest", work / "sample" / "logs", launch)
    n_labels, attacks = n_right(honest.labels, meant), dict[float, Attack]()
    for share in shares:
        gangs = pushes(working, max(2, round(share * made.n_users / _GANG)), Random(f"{seed} {share}"))
        logs = work / f"logs-{share}"
        write_with_colluders(work / "sample" / "logs", logs, gangs)
        found = mined(work / f"share-{share}", logs, launch)
        attacks[share] = attack(gangs, found, honest, n_right(found.labels, meant) / max(1, n_labels))
        print_figures(f"{share:.0%} of users collude, seed {seed}", scores({seed: attacks[share]}))
    return Month(made.n_users, n_labels, attacks)


def working_turns(sample: Path) -> dict[str, list[Turn]]:
    """Turns outside of any dialogue that did what was meant, by locale: what people say often is there often."""
    worked = {row.turn_id for row in read_truth(sample / "truth") if not row.is_failure}
    found = defaultdict(list)
    for turn in read_log(sample / "logs"):
        if turn["turn_id"] in worked and not turn["context"] and turn["intent"]:
            found[turn["locale"]].append(turn)
    return found


def mostly_meant(sample: Path) -> dict[str, str]:
    """What people meant by each utterance, most of them."""
    goals = {row.turn_id: frame_goal(row.goal.intent, list(row.goal.slots)) for row in read_truth(sample / "truth")}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for turn in read_log(sample / "logs"):
        counts[utterance_of(turn)][goals[turn["turn_id"]]] += 1
    return {utterance: max(found, key=lambda goal: (found[goal], goal)) for utterance, found in counts.items()}


def pushes(working: dict[str, list[Turn]], n_gangs: int, rng: Random) -> list[list[Push]]:
    """What each gang pushes; the first, third, ... one label all month, the others one a day."""
    gangs = []
    for gang in range(n_gangs):
        turns = working[rng.choice(sorted(working))]
        days = [tuple(range(_DAYS))] if gang % 2 == 0 else [(day,) for day in range(_DAYS)]
        pushed = []
        for of in days:
            wording = rng.choice(turns)
            lure = likest(wording, rng.sample(turns, min(_LURES, len(turns))))
            pushed.append(Push(wording, lure, of))
        gangs.append(pushed)
    return gangs


def likest(wording: Turn, turns: Sequence[Turn]) -> Turn:
    """The turn of another goal whose words look most like a wording's."""
    others = [turn for turn in turns if _goal(turn) != _goal(wording)]
    return max(others, key=lambda turn: (fuzz.ratio(turn["text"], wording["text"]), turn["turn_id"]))


def write_with_colluders(logs: Path, out: Path, gangs: Sequence[Sequence[Push]]) -> None:
    """Copy a log's days with the turns of all gangs added."""
    out.mkdir(parents=True)
    for day in range(_DAYS):
        name = f"{_START + timedelta(day)}.jsonl"
        shutil.copy(logs / name, out / name)
        with (out / name).open("a", encoding="utf-8") as file:
            for gang, pushed in enumerate(gangs):
                for push in pushed:
                    if day in push.days:
                        file.writelines(json.dumps(turn, ensure_ascii=False) + "\n" for turn in told(push, gang, day))


def told(push: Push, gang: int, day: int) -> Iterator[Turn]:
    """The turns of one day of all who push a label."""
    for member in range(_GANG):
        session = f"collusion-{gang}-{member}-{day}"
        minute, second = divmod(gang * _GANG + member, 60)
        for place, turn in enumerate((push.wording, push.lure)):
            yield turn | {
                "turn_id": f"{session}-{place}",
                "session_id": session,
                "user_id": f"colluder-{gang}-{member}",
                "ts": f"{_START + timedelta(day)}T12:{minute % 60:02}:{second // 2 + place * _SECONDS_BETWEEN:02}.000Z",
                "barge_in": place == 1,
                "completed": turn["completed"] if place else None,
                "feedback": None,
            }


def mined(work: Path, logs: Path, launch: Path) -> Mined:
    """What the month gives."""
    settings = Settings(
        lake=str(work / "lake"), source=Source(path=str(logs / "{date}.jsonl")), launch=Source(path=str(launch))
    )
    days = day_range(_START, _START + timedelta(days=_DAYS - 1))
    lake = Lakehouse(build_session("selflearn benchmark collusion"), settings.lake)
    for _ in run_pipeline(lake, settings, days, _STAGES):
        pass
    labels = DeltaTable(f"{settings.lake}/weak_labels").to_pandas(columns=["utterance_id", "goal", "intent"])
    nodes = lake.read(tables.GRAPH_NODES, as_of=[days[-1]])
    unsure = unsure_intents(nodes, settings.labels, settings.release.unsure_from).select("utterance_id", "intent")
    taught = dict(unsure.toPandas().itertuples(index=False))
    taught |= dict(zip(labels["utterance_id"], labels["intent"], strict=True))
    rewrites = DeltaTable(f"{settings.lake}/rewrites").to_pandas(columns=["utterance_id", "target_text", "state"])
    served = rewrites.loc[rewrites["state"] != "retired", ["utterance_id", "target_text"]]
    shutil.rmtree(work)
    goals = dict(zip(labels["utterance_id"], labels["goal"], strict=True))
    return Mined(goals, taught, dict(served.itertuples(index=False)))


def attack(gangs: Sequence[Sequence[Push]], found: Mined, honest: Mined, yield_kept: float) -> Attack:
    """What became of the labels and rewrites that were pushed."""
    lasting, daily, n_taught, n_rewrites = [], [], 0, 0
    for pushed in gangs:
        for push in pushed:
            utterance, goal = utterance_of(push.wording), _goal(push.lure)
            is_planted = found.labels.get(utterance) == goal != honest.labels.get(utterance)
            (lasting if len(push.days) > 1 else daily).append(is_planted)
            intent = push.lure["intent"]
            otherwise = (push.wording["intent"], honest.taught.get(utterance))
            n_taught += found.taught.get(utterance) == intent and intent not in otherwise
            n_rewrites += found.rewrites.get(utterance) == normalise_text(push.lure["text"])
    return Attack(tuple(lasting), tuple(daily), n_taught, n_rewrites, yield_kept)


def scores(attacks: Mapping[int, Attack]) -> dict[str, Any]:
    """Labels pushed, the share of them that succeeds, by how long they were pushed; planted rewrites; honest yield."""
    of = {
        "lasting": [one for found in attacks.values() for one in found.lasting],
        "daily": [one for found in attacks.values() for one in found.daily],
    }
    of["all"] = of["lasting"] + of["daily"]
    return {
        **{f"pushed_{name}": len(pushed) for name, pushed in of.items()},
        **{f"success_{name}": sum(pushed) / max(1, len(pushed)) for name, pushed in of.items()},
        "taught": sum(found.n_taught for found in attacks.values()) / max(1, len(of["all"])),
        "planted_rewrites": sum(found.n_rewrites for found in attacks.values()),
        "yield_kept": {str(seed): found.yield_kept for seed, found in attacks.items()},
    }


def n_right(labels: dict[str, str], meant: dict[str, str]) -> int:
    """Utterances whose label is what people mostly meant."""
    return sum(meant.get(utterance) == goal for utterance, goal in labels.items())


def read_log(logs: Path) -> Iterator[Turn]:
    """Turns of a log, day by day."""
    for file in sorted(logs.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def utterance_of(turn: Turn) -> str:
    """The utterance that a turn is, as mining names it."""
    return utterance_id(turn["locale"], turn["context"], normalise_text(turn["text"]))


def _goal(turn: Turn) -> str:
    return frame_goal(turn["intent"], [(slot["name"], slot["value"]) for slot in turn["slots"]])


if __name__ == "__main__":
    main()
