"""Weak labels of a smaller log: a third of the callers, mined by itself, each in turn: `--data DIR --out DIR`.

DIR holds `dstc2_turns.jsonl.gz`. Callers go to thirds by a hash of their names, and nothing passes from one third to
another, so each is a log of callers that nothing was learnt from. Gold is read by the scoring alone.
"""

from __future__ import annotations

import argparse
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from common import print_figures, write_scores
from dstc2 import label_figures, labelled_turns, mine, prepare
from dstc2_log import read_rows
from selflearn.lakehouse.store import Lakehouse
from selflearn.pipeline import LEARNING, MINING
from selflearn.session import build_session, effective_configuration
from selflearn.settings import USER_KEY_VARIABLE

_PARTS = 3


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the calls")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    given = parser.parse_args()
    os.environ.setdefault(USER_KEY_VARIABLE, "callers are pseudonyms already")
    spark = build_session("selflearn benchmark dstc2 thirds")
    stages = [stage for stage in (*MINING, *LEARNING) if stage.name not in ("rewrite", "release")]
    callers = [row["user_id"] for row in read_rows(given.data, "dstc2_turns")]
    figures: dict[str, Any] = {}
    for part in range(_PARTS):
        log = prepare(given.data, given.out / str(part), is_in=lambda user, part=part: part_of(user) == part)
        mine(Lakehouse(spark, log.settings.lake), log, stages)
        found = label_figures(given.data, labelled_turns(Path(log.settings.lake)))
        figures[f"part_{part}"] = {"turns": sum(part_of(user) == part for user in callers), **found}
    ranks = figures["part_0"]["precision_at"]
    figures["mean_precision_at"] = {
        rank: float(np.nanmean([figures[f"part_{part}"]["precision_at"].get(rank, np.nan) for part in range(_PARTS)]))
        for rank in ranks
    }
    write_scores(given.out, figures, effective_configuration(spark))
    print_figures("DSTC2: labels of a third of the callers", figures)


def part_of(user: str) -> int:
    """Third of a caller."""
    return zlib.crc32(user.encode()) % _PARTS


if __name__ == "__main__":
    main()
