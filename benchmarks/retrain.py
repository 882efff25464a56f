"""Retraining without gold, on real phone calls: `--train DIR --test DIR --out DIR`.

DIR holds `dstc2_turns.jsonl.gz`. The train folder is mined from raw log to goal posteriors, by `obs` alone. One
reference NLU is trained on what the live NLU said of the train folder's turns, on those that worked, on those and the
mined corrections, and on gold; each reads the test folder's turns, alone and multiplied with the live alternatives.
A figure is the share of exact frames. Where both folders are one, its callers are halved by the parity of the MD5 of
their name, and each half is the test of what was mined from the other. What an earlier run into the same folder has
mined, or trained and read, to its end is not done again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from deltalake import DeltaTable

from common import print_figures, write_scores
from dstc2 import mine, prepare
from dstc2_log import Row, asked_slot, canonical_turn, frame, items_of_goal, read_rows, turn_id
from selflearn.lakehouse.store import Lakehouse
from selflearn.nlu import Example, Item, Reading, ReferenceNLU, Tagged
from selflearn.nlu.classifiers import place_of
from selflearn.pipeline import MINING, STAGES
from selflearn.session import build_session, effective_configuration
from selflearn.settings import USER_KEY_VARIABLE

Frame = tuple[str, frozenset[Item]]

_NONE = "none"
"""Intent of a turn that the live NLU had no reading of."""
_WORKED = 0.5
_UNSEEN = 0.02
"""Probability of a reading that is not among the live alternatives."""
_SEED = 20260105
_DRAWS = 1_000


@dataclass(frozen=True)
class Turn:
    """A turn as the live system saw it, and what was meant."""

    turn_id: str
    user_id: str
    text: str
    context: str
    live: Frame
    alternatives: dict[Frame, float]
    meant: Frame


def main() -> None:
    """Run the benchmark and write its files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="folder that is mined")
    parser.add_argument("--test", type=Path, required=True, help="folder whose turns are read")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores; tables in it are replaced")
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "callers are pseudonyms already")
    halves: tuple[Callable[[str], bool], ...] = (lambda user: True,)
    if given.train.resolve() == given.test.resolve():
        halves = (_is_odd, lambda user: not _is_odd(user))
    scores: list[dict[str, Any]] = []
    configuration: dict[str, str] = {}
    for number, is_mined in enumerate(halves):
        lake, configuration = mined(given.train, given.out / f"mined-{number}", is_mined)
        learnt_from = [turn for turn in read_turns(given.train) if is_mined(turn.user_id)]
        asked = [turn for turn in read_turns(given.test) if len(halves) == 1 or not is_mined(turn.user_id)]
        scores.append(compare(training_sets(lake, learnt_from), asked, given.out / "read"))
    figures = summary(scores)
    write_scores(given.out, figures, configuration)
    print_figures("Retraining without gold: exact frames of callers not mined", figures)


def mined(folder: Path, work: Path, is_in: Callable[[str], bool]) -> tuple[Path, dict[str, str]]:
    """The lake of the folder's callers that are in, and the configuration that they were mined with."""
    done = work / "mined.json"
    if not done.exists():
        spark = build_session("selflearn benchmark retrain")
        log = prepare(folder, work, is_in=is_in)
        learning = [STAGES[name] for name in ("variants", "graph", "label")]
        mine(Lakehouse(spark, log.settings.lake), log, (*MINING, *learning))
        done.write_text(json.dumps(dict(effective_configuration(spark))), encoding="utf-8")
    return work / "lake", json.loads(done.read_text(encoding="utf-8"))


def _is_odd(user: str) -> bool:
    return hashlib.md5(user.encode()).digest()[-1] % 2 == 1


def read_turns(folder: Path) -> list[Turn]:
    """The folder's turns."""
    return [_turn(row) for row in read_rows(folder, "dstc2_turns")]


def _turn(row: Row) -> Turn:
    seen = canonical_turn(row)
    alternatives: dict[Frame, float] = {}
    for one in seen["nlu_alternatives"]:
        alternatives[_frame(one)] = alternatives.get(_frame(one), 0.0) + one["score"]
    meant = frame(row["gold"]["acts"], asked_slot(row["obs"]["prompt_acts"] or []))
    return Turn(
        turn_id=turn_id(row["session_id"], row["turn"]),
        user_id=row["user_id"],
        text=seen["text"],
        context=seen["context"],
        live=_frame(seen),
        alternatives=alternatives,
        meant=_frame(meant or {"intent": None, "slots": None}),
    )


def _frame(row: Row) -> Frame:
    return row["intent"] or _NONE, frozenset((slot["name"], slot["value"]) for slot in row["slots"] or ())


def training_sets(lake: Path, turns: Sequence[Turn]) -> dict[str, list[Example]]:
    """What the NLU is trained on, by the name of the row in the table of results."""
    failed = DeltaTable(lake / "turn_outcomes").to_pandas(columns=["turn_id", "p_friction"])
    friction = dict(failed.itertuples(index=False))
    utterances = dict(DeltaTable(lake / "turns").to_pandas(columns=["turn_id", "utterance_id"]).itertuples(index=False))
    labels = DeltaTable(lake / "weak_labels").to_pandas(columns=["utterance_id", "goal", "p_correct"])
    labels = labels[labels["goal"].notna()]
    label_of = {row.utterance_id: (_frame(json.loads(row.goal)), row.p_correct) for row in labels.itertuples()}
    worked = [turn for turn in turns if friction[turn.turn_id] < _WORKED]
    corrected = []
    for turn in turns:
        meant, probability = label_of.get(utterances[turn.turn_id], (turn.live, 1.0))
        if meant != turn.live:
            corrected.append(example(turn, meant, probability))
        elif friction[turn.turn_id] < _WORKED:
            corrected.append(example(turn, turn.live))
    return {
        "output of the live NLU": [example(turn, turn.live) for turn in turns],
        "turns that worked": [example(turn, turn.live) for turn in worked],
        "turns that worked, and corrections": corrected,
        "gold": [example(turn, turn.meant) for turn in turns],
    }


def example(turn: Turn, meant: Frame, weight: float = 1.0) -> Example:
    """The turn as a sentence to learn from; values that stand in its words are tagged there."""
    intent, items = meant
    tagged: list[Tagged] = []
    for slot, value in sorted(items, key=lambda item: (-len(item[1]), item)):
        place = place_of((slot, value), turn.text)
        if place and not any(place[0] < one.end and one.start < place[1] for one in tagged):
            tagged.append(Tagged(slot, *place))
    return Example(turn.text, turn.context, intent, items, tuple(tagged), weight)


def compare(sets: dict[str, list[Example]], turns: Sequence[Turn], done: Path) -> dict[str, Any]:
    """Of every turn whether its frame is exact, by row of the table; and the callers.

    What is found is kept below `done`, by what was learnt from and what was read.
    """
    is_right: dict[str, list[bool]] = {"live NLU": [_is_exact(turn.live, turn) for turn in turns]}
    for name, examples in sets.items():
        file = done / f"{_digest(examples, turns)}.json"
        if not file.exists():
            done.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(_learn_and_read(examples, turns)), encoding="utf-8")
        alone, multiplied = json.loads(file.read_text(encoding="utf-8"))
        is_right |= {name: alone, f"{name}, times the live alternatives": multiplied}
    sizes = {name: len(examples) for name, examples in sets.items()}
    return {"is_right": is_right, "callers": [turn.user_id for turn in turns], "sizes": sizes}


def _digest(examples: Sequence[Example], turns: Sequence[Turn]) -> str:
    learnt = [(one.text, one.context, one.intent, sorted(one.items), one.tagged, one.weight) for one in examples]
    return hashlib.sha256(repr((learnt, [turn.turn_id for turn in turns])).encode()).hexdigest()[:16]


def _learn_and_read(examples: Sequence[Example], turns: Sequence[Turn]) -> tuple[list[bool], list[bool]]:
    """Whether each frame is exact: as the NLU reads it, and multiplied with the live alternatives."""
    nlu = ReferenceNLU(examples)
    found = [one[0] for one in nlu.read([turn.text for turn in turns], [turn.context for turn in turns])]
    both = list(zip(found, turns, strict=True))
    alone = [_is_exact((one.intent, one.items), turn) for one, turn in both]
    return alone, [_is_exact(_multiplied(nlu, turn, one), turn) for one, turn in both]


def _multiplied(nlu: ReferenceNLU, turn: Turn, own: Reading) -> Frame:
    """The most probable of the live alternatives and the NLU's own reading, by the product of both probabilities."""
    frames = list(dict.fromkeys([*turn.alternatives, (own.intent, own.items)]))
    p_live = [max(turn.alternatives.get(one, 0.0), _UNSEEN) for one in frames]
    return frames[int(np.argmax(nlu.probabilities(turn.text, turn.context, frames) * p_live))]


def _is_exact(found: Frame, turn: Turn) -> bool:
    return _items(found) == _items(turn.meant)


def _items(found: Frame) -> list[str]:
    slots = [{"name": name, "value": value} for name, value in found[1]]
    return items_of_goal(json.dumps({"intent": found[0], "slots": slots}))


def summary(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Share of exact frames by row, and of the gold row's gain, with 95 % intervals by bootstrap over callers."""
    callers = np.array([caller for one in scores for caller in one["callers"]])
    right = {
        name: np.array([value for one in scores for value in one["is_right"][name]]) for name in scores[0]["is_right"]
    }
    draws = _draws(callers)
    drawn = {name: draws @ is_right / draws.sum(axis=1) for name, is_right in right.items()}
    exact = {name: is_right.mean() for name, is_right in right.items()}
    rows = {}
    for name in right:
        row = {"exact": exact[name], "share": _share_of_gain(name, exact)}
        for measure, values in (("exact", drawn[name]), ("share", _share_of_gain(name, drawn))):
            row |= dict(zip((f"{measure}_low", f"{measure}_high"), np.quantile(values, (0.025, 0.975)), strict=True))
        rows[name] = {measure: float(value) for measure, value in row.items()}
    sizes = {name: sum(one["sizes"][name] for one in scores) for name in scores[0]["sizes"]}
    return {"rows": rows, "examples": sizes, "turns": len(callers), "seed": _SEED, "draws": _DRAWS}


def _share_of_gain(name: str, exact: dict[str, Any]) -> Any:
    """Of what learning from gold gains over the live NLU."""
    return (exact[name] - exact["live NLU"]) / (exact["gold"] - exact["live NLU"])


def _draws(callers: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """How often each turn counts in each of the bootstrap's draws of callers, shape (draws, turns)."""
    _, caller = np.unique(callers, return_inverse=True)
    n_callers = int(caller.max()) + 1
    drawn = np.random.default_rng(_SEED).multinomial(n_callers, np.full(n_callers, 1 / n_callers), size=_DRAWS)
    return np.asarray(drawn[:, caller])


if __name__ == "__main__":
    main()
