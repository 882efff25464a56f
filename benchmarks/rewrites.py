"""Win and loss of rewrites on a simulated month whose truth is known: `--out DIR`.

All but the last days are mined; the turns of the last days judge. A rewrite is a *win* where the reading that its
target gets is what people mostly meant by the wording, and more turns would have been mended than broken. It is a
*loss* where that reading is another goal, or as many good turns would have been broken as failed ones mended. No turn
is served rewritten here; `arms.py` measures what becomes of rewrites that are live.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from deltalake import DeltaTable

from common import print_figures, write_scores
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import STAGES, day_range, run_pipeline
from selflearn.session import build_session, effective_configuration
from selflearn.settings import USER_KEY_VARIABLE, Settings, Source
from selflearn.simulate import simulate
from selflearn.simulate.truth import read_truth
from selflearn.turns import frame_goal, normalise_text, utterance_id

_START = date(2026, 1, 5)
_JUDGING_DAYS = 7
_SEED = 21
_STAGES = ("ingest", "detect", "embed", "evidence", "variants", "graph", "rewrite")


def main() -> None:
    """Run the benchmark and write `scores.json` and `judged.jsonl`, every rewrite with its verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=120_000)
    parser.add_argument("--days", type=int, default=30 + _JUDGING_DAYS, help=f"the last {_JUDGING_DAYS} judge")
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "simulated people have no secrets")
    work = given.out / "work"
    shutil.rmtree(work, ignore_errors=True)
    started = time.perf_counter()
    simulate(work / "sample", n_turns=given.turns, days=given.days, start=_START, seed=given.seed)
    spark = build_session("selflearn benchmark rewrites")
    settings = Settings(
        lake=str(work / "lake"),
        source=Source(path=str(work / "sample" / "logs" / "{date}.jsonl")),
        launch=Source(path=str(work / "sample" / "launch.jsonl")),
    )
    last_mined = _START + timedelta(days=given.days - _JUDGING_DAYS - 1)
    metrics: dict[str, float] = {}
    for manifest, _ in run_pipeline(
        Lakehouse(spark, settings.lake), settings, day_range(_START, last_mined), [STAGES[name] for name in _STAGES]
    ):
        print(f"{manifest.stage}: {manifest.seconds:.1f} s, {dict(manifest.row_counts)}", flush=True)
        metrics |= manifest.metrics
    rewrites = DeltaTable(settings.lake + "/rewrites").to_pandas()
    judged = judge_rewrites(rewrites, read_judging_turns(work / "sample", last_mined))
    judged.to_json(given.out / "judged.jsonl", orient="records", lines=True, force_ascii=False)
    figures = {
        "turns": given.turns,
        "days_mined": given.days - _JUDGING_DAYS,
        "days_judging": _JUDGING_DAYS,
        "seed": given.seed,
        "candidates": metrics["rewrite_candidates"],
        **rewrite_figures(judged),
        "seconds": time.perf_counter() - started,
    }
    shutil.rmtree(work)
    write_scores(given.out, figures, effective_configuration(spark))
    print_figures("Rewrites, simulated month", figures)


def read_judging_turns(sample: Path, last_mined: date) -> pd.DataFrame:
    """Turns after the mined days: `utterance_id, read` (the goal acted on), `meant`, `is_failure`."""
    meant = {row.turn_id: row for row in read_truth(sample / "truth")}
    rows = []
    for file in sorted((sample / "logs").glob("*.jsonl")):
        if date.fromisoformat(file.stem) <= last_mined:
            continue
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                turn = json.loads(line)
                truth = meant[turn["turn_id"]]
                rows.append(
                    {
                        "utterance_id": utterance_id(turn["locale"], turn["context"], normalise_text(turn["text"])),
                        "read": _goal(turn) if turn["intent"] else None,
                        "meant": frame_goal(truth.goal.intent, truth.goal.slots),
                        "is_failure": truth.is_failure,
                    }
                )
    return pd.DataFrame(rows)


def judge_rewrites(rewrites: pd.DataFrame, turns: pd.DataFrame) -> pd.DataFrame:
    """Served rewrites, what each would have done to the turns in which people said its wording, and the verdict.

    `n_failed` turns failed as they were, `n_mended` of them would not have, and `n_broken` would have failed instead.
    """
    said = turns.groupby("utterance_id")
    of_words = said.groups.keys()
    rows = []
    for rewrite in rewrites[rewrites["state"] != "retired"].itertuples():
        row = {"text": rewrite.text, "target": rewrite.target_text, "locale": rewrite.locale, "goal": rewrite.goal}
        if rewrite.utterance_id not in of_words or rewrite.target_utterance not in of_words:
            rows.append(row | {"verdict": "unseen"})
            continue
        own, target = said.get_group(rewrite.utterance_id), said.get_group(rewrite.target_utterance)
        reading = Counter(target["read"]).most_common(1)[0][0]
        is_right = own["meant"] == reading
        counts = {
            "n_turns": len(own),
            "n_failed": int(own["is_failure"].sum()),
            "n_mended": int((own["is_failure"] & is_right).sum()),
            "n_broken": int((~own["is_failure"] & ~is_right).sum()),
        }
        mended, broken = counts["n_mended"], counts["n_broken"]
        is_right_mostly = is_right.mean() > 0.5
        verdict = (
            "win" if mended > broken and is_right_mostly else "loss" if broken or not is_right_mostly else "neutral"
        )
        rows.append(row | counts | {"verdict": verdict})
    columns = ["text", "target", "locale", "goal", "n_turns", "n_failed", "n_mended", "n_broken", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def rewrite_figures(judged: pd.DataFrame) -> dict[str, Any]:
    """Counts by verdict and by turns, wins per loss, and the share of defects that would be gone."""
    seen = judged[judged["verdict"] != "unseen"]
    counts = judged["verdict"].value_counts()
    n_failed, n_mended, n_broken = (int(seen[name].sum()) for name in ("n_failed", "n_mended", "n_broken"))
    return {
        "rewrites": len(judged),
        "verdicts": {name: int(counts.get(name, 0)) for name in ("win", "loss", "neutral", "unseen")},
        "wins_per_loss": float(counts.get("win", 0) / max(1, counts.get("loss", 0))),
        "turns": {
            "rewritten": int(seen["n_turns"].sum()),
            "failed": n_failed,
            "mended": n_mended,
            "broken": n_broken,
            "mended_per_broken": n_mended / max(1, n_broken),
            "defects_down": (n_mended - n_broken) / max(1, n_failed),
        },
    }


def _goal(turn: dict[str, Any]) -> str:
    return frame_goal(turn["intent"], ((slot["name"], slot["value"]) for slot in turn["slots"]))


if __name__ == "__main__":
    main()
