"""Scores of the contest: the NLU on the test, labels against what was meant, rewrites, shares of the oracle's gain."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from loop_systems import Label
from selflearn.evaluate.pairs import expected_calibration_error
from selflearn.nlu import Reading, ReferenceNLU
from selflearn.simulate.deployment import LEAST_SURE, Asked, Told, is_right
from selflearn.turns import frame_goal

_RARE = 0.2
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Unseen:
    """Sentences that nobody says but the testers; `is_tail` marks those of the intents that few people want,
    `was_right` those that the NLU read rightly when it was launched. `out_of_scope` are of no intent that it has."""

    asked: Sequence[Asked]
    is_tail: Bools
    was_right: Bools
    with_slots: bool
    out_of_scope: Sequence[Asked] = ()

    @classmethod
    def of(
        cls,
        asked: Sequence[Asked],
        launched: ReferenceNLU,
        popularity: Mapping[str, float],
        with_slots: bool,
        out_of_scope: Sequence[Asked] = (),
    ) -> Unseen:
        """A test with the launched NLU's readings."""
        names = sorted(popularity, key=lambda name: (popularity[name], name))
        share = np.cumsum([popularity[name] for name in names]) / sum(popularity.values())
        rare = {name for name, below in zip(names, share, strict=True) if below <= _RARE}
        is_tail = np.array([one.goal.intent in rare for one in asked])
        return cls(asked, is_tail, _right(read(launched, asked), asked, with_slots), with_slots, out_of_scope)


def read(nlu: ReferenceNLU, asked: Sequence[Asked]) -> list[Reading]:
    """The NLU's reading of each sentence."""
    return [found[0] for found in nlu.read([one.heard for one in asked], [""] * len(asked))]


def nlu_scores(nlu: ReferenceNLU, test: Unseen) -> dict[str, float]:
    """Errors of intents, sentences once right that are wrong now, and with slots exact frames and the F1 of values.

    `out_of_scope_acted_on` is the share of sentences out of scope that the assistant would not refuse.
    """
    readings = read(nlu, test.asked)
    intent = _right(readings, test.asked, with_slots=False)
    whole = _right(readings, test.asked, test.with_slots)
    scores = {
        "error": float(1 - intent.mean()),
        "error_tail": _share(~intent[test.is_tail]),
        "error_friction": _share(~intent[~test.was_right]),
        "regressions_unseen": float((test.was_right & ~whole).mean()),
    }
    if test.with_slots:
        pairs = list(zip(readings, test.asked, strict=True))
        hits = sum(
            len(reading.items & set(one.goal.slots)) for reading, one in pairs if reading.intent == one.goal.intent
        )
        found = sum(len(reading.items) + len(one.goal.slots) for reading, one in pairs)
        scores |= {"exact": float(whole.mean()), "slot_f1": 2 * hits / max(1, found)}
    if test.out_of_scope:
        surest = [found.probability for found in read(nlu, test.out_of_scope)]
        scores["out_of_scope_acted_on"] = float(np.mean(np.array(surest) >= LEAST_SURE))
    return scores


def _share(values: Bools) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _right(readings: Sequence[Reading], asked: Sequence[Asked], with_slots: bool) -> Bools:
    return np.array([is_right(found, one.goal, with_slots) for found, one in zip(readings, asked, strict=True)])


class Meant:
    """What people meant by each utterance so far, and what of it was read rightly; those who plant left out."""

    def __init__(self, with_slots: bool, supported: Collection[str]) -> None:
        """Nothing yet; `supported` are the intents that the assistant has."""
        self._with_slots, self._supported = with_slots, supported
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._worked: Counter[Asked] = Counter()

    def add(self, told: Sequence[Told]) -> None:
        """Count a day's turns."""
        for one in told:
            if not one.is_planted:
                self._counts[one.heard.casefold()][frame_goal(*one.goal)] += 1
                self._worked[Asked(one.heard, one.goal)] += not one.would_fail

    def regressions(self, nlu: ReferenceNLU) -> float:
        """Of the turns so far that were read rightly when they were said, the share that the NLU would now misread."""
        asked = [one for one, n in self._worked.items() if n]
        is_right = _right(read(nlu, asked), asked, self._with_slots)
        n = np.array([self._worked[one] for one in asked])
        return float(1 - np.average(is_right, weights=n)) if len(asked) else float("nan")

    def label_scores(self, labels: Sequence[Label], deployed: ReferenceNLU) -> dict[str, float]:
        """Of labels whose utterance somebody said: right ones, what is new to the NLU deployed that day, calibration.

        `yield` is the share of all utterances that are labelled, `out_of_scope_learnt` that of those out of scope.
        """
        known = [label for label in labels if label.text.casefold() in self._counts]
        if not known:
            return {"labels": 0}
        counts = [self._counts[label.text.casefold()] for label in known]
        right = np.array([label.goal == count.most_common(1)[0][0] for label, count in zip(known, counts, strict=True)])
        readings = [found[0] for found in deployed.read([label.text for label in known], [""] * len(known))]
        new = np.array(
            [
                frame_goal(one.intent, sorted(one.items)) != label.goal
                for one, label in zip(readings, known, strict=True)
            ]
        )
        probability = np.array([label.probability for label in known])
        labelled = {label.text.casefold() for label in known}
        beyond = [text for text, counts in self._counts.items() if self._is_out_of_scope(counts)]
        return {
            "labels": len(known),
            **({"out_of_scope_learnt": float(np.mean([text in labelled for text in beyond]))} if beyond else {}),
            "precision": float(right.mean()),
            "precision_new": float(right[new].mean()) if new.any() else float("nan"),
            "novelty": float(new.mean()),
            "yield": len(known) / len(self._counts),
            "ece": expected_calibration_error(right, probability),
        }

    def _is_out_of_scope(self, counts: Counter[str]) -> bool:
        return all(json.loads(goal)["intent"] not in self._supported for goal in counts)


def traffic_scores(told: Sequence[Told], rewrite_ids: Sequence[str | None]) -> dict[str, float]:
    """Failures of a day's traffic, and what rewrites did to the turns and, each as a whole, to their wordings."""
    people = [(one, rewrite) for one, rewrite in zip(told, rewrite_ids, strict=True) if not one.is_planted]
    balance: Counter[str] = Counter()
    for one, rewrite in people:
        if rewrite is not None:
            balance[rewrite] += int(one.would_fail) - int(one.is_failure)
    served = [one for one, rewrite in people if rewrite is not None]
    return {
        "defects": float(np.mean([one.is_failure for one, _ in people])),
        "served": len(served),
        "mended": sum(one.would_fail and not one.is_failure for one in served),
        "broken": sum(one.is_failure and not one.would_fail for one in served),
        "wins": sum(value > 0 for value in balance.values()),
        "losses": sum(value < 0 for value in balance.values()),
    }


def summary(records: pd.DataFrame) -> dict[str, Any]:
    """Each system's last cycle: means over seeds with 95 % intervals (Student's t), and its share of the oracle's gain.

    `records` has `system, seed, cycle` and scores; shares are taken seed by seed.
    """
    last = records[records["cycle"] == records.groupby(["system", "seed"])["cycle"].transform("max")]
    launched = records[records["cycle"] == 0].groupby("seed").first()
    best = last[last["system"] == "oracle"].set_index("seed")
    found = {}
    for system, rows in last.groupby("system"):
        by_seed = rows.set_index("seed")
        measures = by_seed.drop(columns=["system", "cycle"]).select_dtypes("number")
        for name, sign in (("error", 1), ("error_tail", 1), ("error_friction", 1), ("exact", -1)):
            if name in measures and not best.empty:
                gain, whole = sign * (launched[name] - measures[name]), sign * (launched[name] - best[name])
                measures[f"share_{name}"] = gain / whole
        found[str(system)] = {name: _interval(column) for name, column in measures.items() if column.notna().any()}
    return found


def _interval(values: pd.Series[float]) -> dict[str, float]:
    known = values.dropna().to_numpy(dtype=float)
    if len(known) < 2:
        return {"mean": float(known.mean())}
    half = float(stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
    return {"mean": float(known.mean()), "low": float(known.mean()) - half, "high": float(known.mean()) + half}


def plot(records: pd.DataFrame, out: Path) -> None:
    """Each system's error by cycle, mean over seeds, with the range of the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    for system, rows in records.groupby("system"):
        by_cycle = rows.groupby("cycle")["error"]
        line = axes.plot(by_cycle.mean(), label=str(system), marker=".")[0]
        axes.fill_between(by_cycle.mean().index, by_cycle.min(), by_cycle.max(), alpha=0.15, color=line.get_color())
    axes.set(xlabel="cycle", ylabel="intents read wrongly, unseen sentences", ylim=(0, None))
    axes.legend(fontsize="small")
    figure.savefig(out / "error.png", dpi=150, bbox_inches="tight")
