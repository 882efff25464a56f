"""Near pairs among distinct utterances: `--out DIR [--data FOLDER]`.

On `--n` utterances: recall of the exact pairs of `--sample` of them, and seconds beside
`sentence_transformers.util.paraphrase_mining` on the same vectors, with as many threads; the kernels alone, in this
process, and the whole job on Spark. The peer runs on an eighth and on a quarter of the utterances; its seconds for all
are what they would be did they grow on as between these two, which is too few: what it compares grows with the square,
the rest of its work does not. `--whole-peer` runs it on all. On growing shares of `--most` utterances: seconds and peak
memory of fresh processes. A pair counts where its cosine is at least the threshold and one is among the `--neighbours`
nearest of the other, for all three alike.
"""

from __future__ import annotations

import argparse
import math
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from common import peak_memory_mib, print_figures, write_scores
from distinct_utterances import distinct_utterances
from selflearn.encoding.encoder import load_encoder
from selflearn.lakehouse.landing import landing
from selflearn.lakehouse.store import Lakehouse
from selflearn.session import build_session, effective_configuration
from selflearn.variants.blocks import Block, nearest_in_block
from selflearn.variants.cells import SAMPLED_PER_CELL, learn_centres, n_cells, nearest_cells, whole
from selflearn.variants.neighbours import Limits, nearest_pairs
from selflearn.variants.placement import PROBES

_SEED = 29
_THREADS = 2
_THRESHOLDS = (0.8, 0.7)
_SHARES = (0.2, 0.5, 1.0)
_PEER_SHARES = (0.125, 0.25)
_ROWS_AT_ONCE = 8_192
_EXACT_ROWS_AT_ONCE = 256
_STEPS = 1_000_000
_PEER = ("sentence_transformers.util",)

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VectorFile:
    """Rows of float32 in a file, so that no process holds more of them than it needs."""

    path: Path
    n: int
    dimension: int

    def rows(self, start: int, end: int) -> npt.NDArray[np.float32]:
        """Some of the rows, shape (rows, dimension)."""
        end = min(end, self.n)
        some = np.fromfile(self.path, np.float32, (end - start) * self.dimension, offset=4 * start * self.dimension)
        return some.reshape(-1, self.dimension)

    def chunks(self, at_once: int) -> Iterator[tuple[int, int]]:
        """Where chunks of so many rows start and end."""
        return ((start, min(start + at_once, self.n)) for start in range(0, self.n, at_once))


@dataclass(frozen=True)
class Found:
    """Pairs, each once, as `left * n + right`, with `left < right`; and what finding them took."""

    pairs: Ints
    cosine: npt.NDArray[np.float64]
    seconds: float
    cpu_seconds: float
    peak_memory_mib: float


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200_000, help="utterances compared with the peer")
    parser.add_argument("--most", type=int, default=1_000_000, help="utterances of the largest run")
    parser.add_argument("--sample", type=int, default=10_000, help="utterances whose exact neighbours are looked for")
    parser.add_argument("--whole-peer", action="store_true", help="run the peer on all, however long that takes")
    parser.add_argument("--neighbours", type=int, default=Limits().max_neighbours, help="nearest others that count")
    parser.add_argument("--data", type=Path, help="folder of real sentences, *.jsonl.gz")
    parser.add_argument("--encoder", help="name or folder of an encoder; the lexical one where left out")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json; work files go below it")
    given = parser.parse_args()
    work = given.out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    vectors = encoded(distinct_utterances(given.n, given.data, _SEED), given.encoder, work / "peer.f32")
    exact = alone(exact_pairs, vectors, min(_THRESHOLDS), given.neighbours, given.sample)
    ours = {threshold: alone(pairs_in_process, vectors, threshold, given.neighbours) for threshold in _THRESHOLDS}
    peer = peer_figures(vectors, given.neighbours, (1.0,) if given.whole_peer else _PEER_SHARES)
    spark, configuration = on_spark(vectors, Limits(_THRESHOLDS[0], given.neighbours), work)
    figures = {
        "utterances": given.n,
        "dimension": vectors.dimension,
        "neighbours": given.neighbours,
        "threads": _THREADS,
        "recall": {f"{t}": figures_of_recall(found, exact, t) for t, found in ours.items()},
        "in_process": time_figures(ours[_THRESHOLDS[0]], peer),
        "spark": {**time_figures(spark, peer), **figures_of_recall(spark, exact, _THRESHOLDS[0])},
        "peer": peer,
        "exact": {"seconds": exact.seconds, "utterances": given.sample},
        "growth": growth_figures(given, work),
    }
    shutil.rmtree(work)
    print_figures("Near pairs", figures)
    write_scores(given.out, figures, configuration)


def encoded(texts: list[str], encoder: str | None, path: Path) -> VectorFile:
    """Write the vectors of the texts."""
    loaded = load_encoder(encoder)
    with path.open("wb") as file:
        for start in range(0, len(texts), _ROWS_AT_ONCE):
            loaded.encode(texts[start : start + _ROWS_AT_ONCE]).astype(np.float32).tofile(file)
    return VectorFile(path, len(texts), loaded.dimension)


def figures_of_recall(found: Found, exact: Found, threshold: float) -> dict[str, float]:
    """Share of the exact pairs from the threshold on that were found; `exact` are those of a sample of utterances."""
    wanted = exact.pairs[exact.cosine >= threshold]
    return {"exact_pairs": len(wanted), "pairs": len(found.pairs), "recall": float(np.isin(wanted, found.pairs).mean())}


def time_figures(found: Found, peer: dict[str, float]) -> dict[str, float]:
    """Seconds, and how many times as long the peer takes by the clock and by the processor."""
    return {
        "seconds": found.seconds,
        "cpu_seconds": found.cpu_seconds,
        "peer_takes_times": peer["seconds"] / found.seconds,
        "peer_takes_times_cpu": peer["cpu_seconds"] / found.cpu_seconds,
    }


def peer_figures(vectors: VectorFile, most: int, shares: tuple[float, ...]) -> dict[str, float]:
    """Seconds of the peer on shares of the vectors, and on all: measured, or as they grow from share to share."""
    sizes = [int(share * vectors.n) for share in shares]
    taken = [alone(peer_pairs, replace(vectors, n=n), min(_THRESHOLDS), most) for n in sizes]
    figures = {}
    for name in ("seconds", "cpu_seconds"):
        values = [float(getattr(found, name)) for found in taken]
        exponent = math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0]) if len(sizes) > 1 else 0.0
        figures[name] = values[-1] * (vectors.n / sizes[-1]) ** exponent
        figures |= {f"{name}_of_{n}": value for n, value in zip(sizes, values, strict=True)}
    return figures


def growth_figures(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Seconds and memory on shares of the most utterances; the cost of one grows as their number to the `exponent`."""
    texts = distinct_utterances(given.most, given.data, _SEED)
    sizes = [int(share * given.most) for share in _SHARES]
    taken = {}
    for n in sizes:
        vectors = encoded(texts[:n], given.encoder, work / "growth.f32")
        taken[n] = alone(pairs_in_process, vectors, _THRESHOLDS[0], given.neighbours)
    per_utterance = {n: found.cpu_seconds / n for n, found in taken.items()}
    return {
        **{
            f"{n}": {
                "seconds": found.seconds,
                "cpu_microseconds_per_utterance": 1e6 * per_utterance[n],
                "peak_memory_mib": found.peak_memory_mib,
                "pairs": len(found.pairs),
            }
            for n, found in taken.items()
        },
        "exponent": math.log(per_utterance[sizes[-1]] / per_utterance[sizes[0]]) / math.log(sizes[-1] / sizes[0]),
    }


def alone(find: Callable[..., tuple[Ints, npt.NDArray[np.float64]]], *arguments: Any) -> Found:
    """Run a search in a fresh process; what the peer imports is no part of its time."""
    is_peer = find is peer_pairs
    with ProcessPoolExecutor(1, get_context("spawn"), import_module if is_peer else None, _PEER * is_peer) as fresh:
        return fresh.submit(_timed, find, *arguments).result()


def _timed(find: Callable[..., tuple[Ints, npt.NDArray[np.float64]]], *arguments: Any) -> Found:
    began, cpu_began = time.perf_counter(), time.process_time()
    pairs, cosine = find(*arguments)
    return Found(pairs, cosine, time.perf_counter() - began, time.process_time() - cpu_began, peak_memory_mib())


def pairs_in_process(
    file: VectorFile, min_cosine: float, most: int, seed: int = _SEED
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Near pairs by cells: what Spark's workers run, on as many threads; every utterance has a user of its own."""
    vectors = np.empty((file.n, file.dimension), dtype=np.int16)
    for start, end in file.chunks(_ROWS_AT_ONCE):
        vectors[start:end] = whole(file.rows(start, end))[0]
    n = n_cells(file.n)
    sample = np.random.default_rng(seed).choice(file.n, min(file.n, SAMPLED_PER_CELL * n), replace=False)
    centres = learn_centres(vectors[np.sort(sample)], n, seed)
    with threadpool_limits(1), ThreadPoolExecutor(_THREADS) as threads:
        laid = threads.map(lambda part: nearest_cells(vectors[slice(*part)], centres, PROBES), file.chunks(1 << 14))
        cells = np.concatenate(list(laid))
        by_cell = np.argsort(cells, axis=None, kind="stable")
        bounds = np.searchsorted(cells.ravel()[by_cell], np.arange(n + 1))
        order = (by_cell // cells.shape[1]).astype(np.int32)

        def near(cell: int) -> tuple[Ints, Ints]:
            rows = order[bounds[cell] : bounds[cell + 1]]
            single = np.full(len(rows), 2)
            found = nearest_in_block(Block(cell, vectors[rows], cells[rows], single, single), min_cosine, most)
            return _packed(rows[found.row], found.cosine), rows[found.neighbour]

        parts = [part for part in threads.map(near, range(n)) if len(part[0])]
    return _undirected(*(np.concatenate(part) for part in zip(*parts, strict=True)), file.n, most)


def _packed(row: npt.NDArray[np.integer[Any]], cosine: npt.NDArray[np.floating[Any]]) -> Ints:
    """Row and cosine in one number that sorts by row, the nearest first."""
    return (row.astype(np.int64) << 20) | (_STEPS - np.rint(cosine.astype(np.float64) * _STEPS).astype(np.int64))


def _undirected(key: Ints, neighbour: npt.NDArray[np.int32], n: int, most: int) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Pairs of which one is among the `most` nearest of the other, of directed ones."""
    order = np.lexsort((neighbour, key))
    key, neighbour = key[order], neighbour[order]
    row = key >> 20
    first = np.flatnonzero(np.diff(row, prepend=-1))
    is_best = np.arange(len(row)) - np.repeat(first, np.diff(first, append=len(row))) < most
    row, other, key = row[is_best], neighbour[is_best].astype(np.int64), key[is_best]
    pairs, where = np.unique(np.minimum(row, other) * n + np.maximum(row, other), return_index=True)
    return pairs, (_STEPS - (key[where] & ((1 << 20) - 1))) / _STEPS


def exact_pairs(file: VectorFile, min_cosine: float, most: int, sample: int) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Near pairs of the first few utterances (they are in random order) with all, in float32."""
    vectors = file.rows(0, file.n)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def near(part: tuple[int, int]) -> tuple[Ints, npt.NDArray[np.int32]]:
        start, end = part
        products = vectors[start:end] @ vectors.T
        products[np.arange(end - start), np.arange(start, end)] = -1
        hits = np.flatnonzero(products >= min_cosine)
        row, column = np.divmod(hits, file.n)
        return _packed(start + row, products.ravel()[hits].clip(max=1)), column.astype(np.int32)

    with threadpool_limits(1), ThreadPoolExecutor(_THREADS) as threads:
        parts = list(threads.map(near, replace(file, n=min(sample, file.n)).chunks(_EXACT_ROWS_AT_ONCE)))
    return _undirected(*(np.concatenate(part) for part in zip(*parts, strict=True)), file.n, most)


def peer_pairs(file: VectorFile, min_cosine: float, most: int) -> tuple[Ints, npt.NDArray[np.float64]]:
    """What `paraphrase_mining` finds, with its own limits but for the number of neighbours."""
    import torch
    from sentence_transformers.util import paraphrase_mining_embeddings

    torch.set_num_threads(_THREADS)
    rows = paraphrase_mining_embeddings(torch.from_numpy(file.rows(0, file.n)), top_k=most)
    found = np.array([(min(i, j) * file.n + max(i, j), score) for score, i, j in rows if score >= min_cosine])
    return found[:, 0].astype(np.int64), found[:, 1]


def on_spark(file: VectorFile, limits: Limits, work: Path) -> tuple[Found, dict[str, str]]:
    """The whole job, from a Parquet file of vectors to one of pairs, in a session that has not run yet."""
    table = work / "vectors.parquet"
    _write_table(file, table)
    spark = build_session("selflearn benchmark neighbours", master=f"local[{_THREADS}]")
    began = time.perf_counter()
    with landing(Lakehouse(spark, str(work / "lake")), "neighbours") as land:
        pairs, _ = nearest_pairs(spark.read.parquet(str(table)), limits, land)
        pairs.write.parquet(str(work / "pairs"))
    seconds = time.perf_counter() - began
    written = pq.read_table(work / "pairs")
    left, right = (np.asarray(written[f"{side}_utterance"].cast(pa.int64())) for side in ("left", "right"))
    configuration = effective_configuration(spark) | {
        name: version(name) for name in ("numpy", "sentence-transformers")
    }
    spark.stop()
    return Found(left * file.n + right, np.asarray(written["cosine"]), seconds, math.nan, math.nan), configuration


def _write_table(file: VectorFile, path: Path) -> None:
    of_float = pa.list_(pa.float32())
    schema = pa.schema(
        {"locale": pa.string(), "utterance_id": pa.string(), "vector": of_float, "users": pa.list_(pa.int64())}
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start, end in file.chunks(_ROWS_AT_ONCE):
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(file.rows(start, end).ravel()), file.dimension)
            users = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(start, end)), 1)
            ids = pa.array([f"{k:09}" for k in range(start, end)])
            columns = [pa.repeat("", end - start), ids, vectors.cast(of_float), users.cast(schema.field("users").type)]
            writer.write_table(pa.table(columns, schema=schema))


if __name__ == "__main__":
    main()
