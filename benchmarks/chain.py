"""Components and absorbing chain of a large graph of wordings: `--out DIR`.

The graph is generated: utterances fall into components whose sizes follow Zipf's law, and a giant one; within a
component people go on to its popular wordings most, and reach its popular goals most. Measured is what the stage
`rewrite` does on the driver, from masses by hashed keys to the chances of every utterance, in a process of its own.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy

from common import print_figures, write_scores
from selflearn.ragged import Floats, Ints, offsets_of
from selflearn.rewrites.transitions import solve

_SEED = 5
_GIANT_SHARE = 0.2
_LARGEST = 20_000
_EXPONENT = 2.5
_STATES_PER_GOAL = 12
_UNDIRECTED_SHARE = 0.1


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=3_000_000)
    parser.add_argument("--links", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    work = given.out / "transitions.arrow"
    with pa.OSFile(str(work), "wb") as file:
        masses = generate(given.utterances, given.links)
        with pa.ipc.new_file(file, masses.schema) as writer:
            writer.write_table(masses)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        figures = {"seed": _SEED, **fresh.submit(measure, work).result()}
    work.unlink()
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
    write_scores(given.out, figures, versions)
    print_figures("Components and chain", figures)


def measure(file: Path) -> dict[str, Any]:
    """Seconds and peak memory of solving the transitions in a file, and what was found."""
    masses = pa.ipc.open_file(pa.OSFile(str(file))).read_all()
    started, cpu_started = time.perf_counter(), time.process_time()
    found = solve(masses)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    sizes = found["n_states"].to_numpy()
    return {
        "n_links": len(masses) - masses["target"].null_count,
        "n_utterances": len(found),
        "n_components": int(np.rint((1 / sizes).sum())),
        "largest_component": int(sizes.max()),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "residual_times_1e12": found["residual"][0].as_py() * 1e12,
        "mean_p_success": float(found["p_success"].to_numpy().mean()),
        "mean_p_abandoned": float(found["p_abandoned"].to_numpy().mean()),
    }


def generate(n_utterances: int, n_links: int) -> pa.Table:
    """`source, target, goal, mass` of that many utterances; each is linked, so a few more links may be made."""
    rng = np.random.default_rng(_SEED)
    sizes = component_sizes(n_utterances, rng)
    first = offsets_of(sizes)[:-1]
    component = np.repeat(np.arange(len(sizes)), sizes)
    # Every utterance goes on to an earlier one, which holds its component together; the other links fall as people go.
    place = np.arange(n_utterances) - first[component]
    tied = np.flatnonzero(place > 0)
    free = rng.choice(n_utterances, n_links - len(tied))
    source = np.concatenate([tied, free])
    bound = np.concatenate([place[tied], sizes[component[free]]])
    to = popular(bound, rng)
    # Nobody goes on to what they said: such a link leads to the utterance after it.
    to = np.where(to == place[source], (to + 1) % sizes[component[source]], to)
    target = first[component[source]] + to
    is_back = rng.random(len(source)) < _UNDIRECTED_SHARE
    source, target = np.where(is_back, target, source), np.where(is_back, source, target)
    keys = rng.integers(-(2**63), 2**63 - 1, n_utterances)
    n_goals = np.maximum(1, sizes // _STATES_PER_GOAL)
    goal_first = offsets_of(n_goals)[:-1]
    goal_keys = rng.integers(-(2**63), 2**63 - 1, int(n_goals.sum()))
    reached = goal_keys[goal_first[component] + popular(n_goals[component], rng)]
    second = goal_keys[goal_first[component] + popular(n_goals[component], rng)]
    everyone = np.arange(n_utterances)
    rows = [
        (source, keys[target], None, rng.exponential(0.7, len(source))),
        (everyone, None, reached, rng.exponential(2.0, n_utterances)),
        (everyone, None, second, rng.exponential(0.3, n_utterances)),
        (everyone, None, None, rng.exponential(0.4, n_utterances)),
    ]
    tables = [
        pa.table({"source": keys[of], "target": column(to, len(of)), "goal": column(goal, len(of)), "mass": mass})
        for of, to, goal, mass in rows
    ]
    together = pa.concat_tables(tables)
    return together.take(pa.array(rng.permutation(len(together)))).combine_chunks()


def component_sizes(n_utterances: int, rng: np.random.Generator) -> Ints:
    """Sizes that add up: a giant component, the others by Zipf's law from 2 to `_LARGEST`."""
    giant = int(n_utterances * _GIANT_SHARE)
    drawn = np.minimum(1 + rng.zipf(_EXPONENT, n_utterances // 2), _LARGEST)
    drawn = drawn[np.cumsum(drawn) <= n_utterances - giant]
    return np.append(drawn, n_utterances - int(drawn.sum()))


def popular(n: Ints, rng: np.random.Generator) -> Ints:
    """A number from 0 to n - 1, about as often as 1 / (number + 1)."""
    return np.minimum((n + 1.0) ** rng.random(len(n)) - 1, n - 1).astype(np.int64)


def column(values: Ints | Floats | None, n: int) -> pa.Array:
    """The values, or n nulls."""
    return pa.nulls(n, pa.int64()) if values is None else pa.array(values)


if __name__ == "__main__":
    main()
