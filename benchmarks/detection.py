"""Candidate pairs compared and scored per second, without Spark around it: `--turns N --out DIR`.

Two processes, as many as cores in the figures of `scale.py`, each run what a Spark worker runs on its share of a
simulated log, one thread each. Beside it: the most memory that a fresh process takes for a quarter of the log and for
all of it, and what a bot costs that talks all day in one session.
"""

from __future__ import annotations

import argparse
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa

from common import peak_memory_mib, print_figures, write_scores
from selflearn.detect import Detector
from selflearn.detect.detection import scorer
from selflearn.detect.friction import shipped_friction
from selflearn.detect.latent_class import shipped_model
from selflearn.settings import Detect
from simulated_turns import DAY, simulated_turns

_SEED = 11
_PROCESSES = 2
_BOT_TURNS = 100_000
_DAY_MICROSECONDS = 86_400_000_000
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Scored:
    """What one process scored, in how much time, and the most memory it took."""

    pairs: int
    seconds: float
    cpu_seconds: float
    peak_memory_mib: float


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=400_000, help="size of the log")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    given = parser.parse_args()
    work = given.out / "work"
    shutil.rmtree(work, ignore_errors=True)
    turns = simulated_turns(work, given.turns, _SEED)
    parts = whole_sessions(turns, _PROCESSES)
    shares = [write(part, work / f"share-{k}") for k, part in enumerate(parts)]
    figures = {
        "turns": turns.num_rows,
        "processes": _PROCESSES,
        **throughput(in_processes(shares)),
        "peak_memory_mib": {
            "a_quarter": alone(write(whole_sessions(turns, 4)[0], work / "quarter")).peak_memory_mib,
            "all": alone(write(turns, work / "all")).peak_memory_mib,
        },
        "bot": bot_figures(turns, work),
    }
    shutil.rmtree(work)
    print_figures("Detection of pairs", figures)
    write_scores(given.out, figures, {name: version(name) for name in ("numpy", "scipy", "rapidfuzz", "pyarrow")})


def throughput(found: list[Scored]) -> dict[str, float]:
    """Pairs of all processes over the seconds of the slower one; and over the processor's time."""
    pairs = sum(scored.pairs for scored in found)
    seconds = max(scored.seconds for scored in found)
    return {
        "pairs": pairs,
        "seconds": seconds,
        "pairs_per_second": pairs / seconds,
        "pairs_per_cpu_second": pairs / sum(scored.cpu_seconds for scored in found),
    }


def bot_figures(turns: pa.Table, work: Path) -> dict[str, float]:
    """A session of `_BOT_TURNS` turns in a day: its pairs and seconds, beside its first turns and people's turns."""
    people = turns.take(pa.array(np.arange(_BOT_TURNS) % turns.num_rows))
    at = np.arange(_BOT_TURNS) * (_DAY_MICROSECONDS // _BOT_TURNS)
    made = {"session_id": pa.array(["bot"] * _BOT_TURNS), "turn_index": np.arange(_BOT_TURNS, dtype=np.int32), "at": at}
    bot = people
    for name, column in made.items():
        bot = bot.set_column(bot.schema.get_field_index(name), name, pa.array(column))
    cap = Detect().max_turns_per_session
    whole, beginning = alone(write(bot, work / "bot")), alone(write(bot.slice(0, cap), work / "beginning"))
    return {
        "turns": _BOT_TURNS,
        "pairs": whole.pairs,
        "seconds": whole.cpu_seconds,
        "pairs_of_first_turns": beginning.pairs,
        "seconds_of_first_turns": beginning.cpu_seconds,
        "seconds_of_as_many_turns_of_people": alone(write(people, work / "people")).cpu_seconds,
    }


def whole_sessions(turns: pa.Table, n: int) -> list[pa.Table]:
    """The turns in `n` parts of about one size, cut where sessions begin."""
    begins = np.flatnonzero(np.append(turns["turn_index"].to_numpy() == 0, True))
    cuts = begins[np.searchsorted(begins, np.arange(n + 1) * turns.num_rows // n)]
    return [turns.slice(start, end - start) for start, end in pairwise(cuts)]


def write(turns: pa.Table, path: Path) -> Path:
    """Write batches as Spark hands them to a worker."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, turns.schema) as stream:
        stream.write_table(turns, max_chunksize=_ROWS_AT_ONCE)
    return path


def alone(path: Path) -> Scored:
    """Score a file in a fresh process."""
    return in_processes([path])[0]


def in_processes(paths: list[Path]) -> list[Scored]:
    """Score each file in a fresh process of its own, all at once."""
    with ProcessPoolExecutor(len(paths), mp_context=get_context("spawn")) as fresh:
        return list(fresh.map(score, paths))


def score(path: Path) -> Scored:
    """Score a file's turns with the shipped weights, batch after batch."""
    began, cpu_began, pairs = time.perf_counter(), time.process_time(), 0
    detectors = {DAY: Detector(shipped_model("pair"), shipped_friction())}
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as batches:
        for scored in scorer(detectors, Detect())(batches):
            pairs += len(scored["pairs"].flatten())
    return Scored(pairs, time.perf_counter() - began, time.process_time() - cpu_began, peak_memory_mib())


if __name__ == "__main__":
    main()
