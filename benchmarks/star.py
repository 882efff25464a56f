"""False alarms of rephrase detection on typed, mostly unproblematic dialogues: `--data DIR --out DIR`.

DIR holds `star_turns.jsonl.gz` (STAR, Mosig et al. 2020), which has neither readings nor labels of rephrases. Its turns
go through the ordinary ingest and detection; reported is how much is flagged. The flagged pairs stand with their texts
in `flagged.jsonl`, the most probable first, and fifty drawn from them in `sample.jsonl`: whether they are alarms or
rephrases, people say who read them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from deltalake import DeltaTable

from common import print_figures, write_scores
from dstc2_log import Row, read_rows, turn_id
from selflearn.detect import PAIR_CLASS_NAMES, pair_classes
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import STAGES, day_range, run_pipeline
from selflearn.session import build_session, effective_configuration
from selflearn.settings import USER_KEY_VARIABLE, Settings, Source

_LOCALE = "en"
_NOT_UNDERSTOOD = "out_of_scope"
_THRESHOLDS = (0.5, 0.8, 0.9)
_N_READ = 50
_SEED = 1


def main() -> None:
    """Run the benchmark and write its files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with star_turns.jsonl.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores and tables; tables are replaced")
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "users are pseudonyms already")
    started = time.perf_counter()
    work = given.out / "detected"
    shutil.rmtree(work, ignore_errors=True)
    days = write_log(given.data, work / "logs")
    settings = Settings(lake=str(work / "lake"), source=Source(path=str(work / "logs" / "{date}.jsonl")))
    spark = build_session("selflearn benchmark star")
    stages = (STAGES["ingest"], STAGES["detect"])
    for manifest, _ in run_pipeline(Lakehouse(spark, settings.lake), settings, days, stages):
        print(f"{manifest.stage}: {manifest.seconds:.1f} s, {dict(manifest.row_counts)}", flush=True)
    turns, pairs = read_detected(Path(settings.lake))
    flagged = pairs[pairs["p_rephrase"] >= _THRESHOLDS[0]]
    write_rows(flagged, given.out / "flagged.jsonl")
    write_rows(flagged.sample(min(_N_READ, len(flagged)), random_state=_SEED), given.out / "sample.jsonl")
    figures = {**alarm_figures(turns, pairs), "seed": _SEED, "seconds": time.perf_counter() - started}
    write_scores(given.out, figures, effective_configuration(spark))
    print_figures("STAR: typed dialogues", figures)


def write_log(folder: Path, out: Path) -> list[date]:
    """Write `out/YYYY-MM-DD.jsonl`, canonical turns by day; returns every day from the first to the last."""
    by_day: dict[str, list[str]] = defaultdict(list)
    for dialogue in read_rows(folder, "star_turns"):
        for turn in canonical_turns(dialogue):
            by_day[turn["ts"][:10]].append(json.dumps(turn, ensure_ascii=False))
    out.mkdir(parents=True, exist_ok=True)
    for day, lines in by_day.items():
        (out / f"{day}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return day_range(date.fromisoformat(min(by_day)), date.fromisoformat(max(by_day)))


def canonical_turns(dialogue: Row) -> Iterator[Row]:
    """The user's turns of a dialogue. The context is the system's last action, or its words where it has no label."""
    said = dialogue["turns"]
    prompt, context = None, ""
    for place, (speaker, at, text, label) in enumerate(said):
        if speaker == "S":
            prompt, context = text, label or text
            continue
        answered = said[place + 1] if place + 1 < len(said) and said[place + 1][0] == "S" else None
        yield {
            "turn_id": turn_id(str(dialogue["session_id"]), place),
            "session_id": str(dialogue["session_id"]),
            "user_id": dialogue["user_id"],
            "ts": datetime.fromtimestamp(at, UTC).isoformat(),
            "locale": _LOCALE,
            "text": text,
            "prompt": prompt,
            "response": answered[2] if answered else None,
            "context": context,
            "fallback": answered is not None and answered[3] == _NOT_UNDERSTOOD,
        }


def read_detected(lake: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Turns, and candidate pairs with their texts and classes, the most probable first."""
    turns = DeltaTable(lake / "turns").to_pandas(columns=["turn_id", "text", "response", "fallback"])
    ends = ["source_turn_id", "target_turn_id"]
    pairs = DeltaTable(lake / "rephrase_pairs").to_pandas(columns=[*ends, "p_rephrase", "p_friction_source", "pattern"])
    said = turns.set_index("turn_id")
    pairs["source"], pairs["target"] = (said["text"].reindex(pairs[name]).to_numpy() for name in ends)
    pairs["answer"] = said["response"].reindex(pairs["source_turn_id"]).to_numpy()
    classes = pair_classes(pairs.pop("pattern").tolist(), pairs["p_rephrase"].to_numpy())
    pairs["pair_class"] = np.array(PAIR_CLASS_NAMES)[classes]
    return turns, pairs.sort_values(["p_rephrase", *ends], ascending=[False, True, True], ignore_index=True)


def write_rows(rows: pd.DataFrame, file: Path) -> None:
    """Write rows as JSON lines."""
    rows.to_json(file, orient="records", lines=True, force_ascii=False)


def alarm_figures(turns: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Any]:
    """Share of the turns that are a flagged pair's source, and of the pairs that are flagged, by threshold."""
    flagged = {threshold: pairs[pairs["p_rephrase"] >= threshold] for threshold in _THRESHOLDS}
    return {
        "n_turns": len(turns),
        "n_fallback": int(turns["fallback"].sum()),
        "n_pairs": len(pairs),
        "expected_rephrases": float(pairs["p_rephrase"].sum()),
        "flagged": {
            f"{threshold}": {
                "n_pairs": len(rows),
                "share_of_pairs": len(rows) / len(pairs),
                "n_turns": rows["source_turn_id"].nunique(),
                "share_of_turns": rows["source_turn_id"].nunique() / len(turns),
                "classes": rows["pair_class"].value_counts().to_dict(),
            }
            for threshold, rows in flagged.items()
        },
    }


if __name__ == "__main__":
    main()
