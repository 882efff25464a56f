"""Goal variants on real sentences and recordings: `--data DIR --out DIR [--train | --encoder NAME]`.

DIR holds `hwu64`, `slurp_text` and `slurp_asr`. Each sentence counts as one person's, its frame as its goal.

- *Probability.* Candidates are each sentence's nearest neighbours. Goals are dealt into folds; a pair is scored by a
  model fitted without any sentence of the goal of one of its ends, drawn at random. Reported: calibration error, and
  the precision of pairs above .9.
- *Recordings.* Several people's recordings of sentences, through a real recogniser and a real NLU. Its frames of the
  other recordings are the goals; what was said and meant is read to score alone. Reported, over the recordings that
  the NLU got wrong: how often the goal that the neighbours vote for with `p_same_goal` is right, beside the nearest
  neighbour's and the NLU's own. Nothing tells which frames were acted on with success, so none is taken for known: the
  shipped model serves, and no encoder is trained on them. It was fitted on `hwu64`, which has some of the sentences.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.metrics import average_precision_score

from common import print_figures, write_scores
from dstc2_log import read_rows
from selflearn import __version__
from selflearn.encoding.encoder import Encoder, load_encoder
from selflearn.evaluate import expected_calibration_error
from selflearn.settings import Variants
from selflearn.turns import frame_goal, normalise_text
from selflearn.variants import calibration
from selflearn.variants.calibration import (
    N_FOLDS,
    SHIPPED,
    KnownPairs,
    SameGoalModel,
    fit_same_goal,
    fold_of,
    is_left_out,
    shipped_model,
)
from selflearn.variants.comparison import Lexicon, WordsApart, empty_lexicon, own_signals, text_signals, words_apart
from selflearn.variants.corpus import SEVERAL, Corpus
from selflearn.variants.known_pairs import COSINE_BINS, Density, known_pairs
from selflearn.variants.training import train_encoder

_LOCALE = "en"
_N_FOLDS = 4
_SEED = 7
_SURE = 0.9
_ROWS_AT_ONCE = 1_000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Said:
    """Utterances: what was heard, and the goal that is taken for known."""

    texts: list[str]
    goals: list[str]


def main() -> None:
    """Run the benchmark and write `scores.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with hwu64, slurp_text and slurp_asr")
    parser.add_argument("--encoder", help="as the setting variants.encoder; the untrained one where left out")
    parser.add_argument("--train", action="store_true", help="train the default encoder, on goals not scored")
    parser.add_argument("--out", type=Path, required=True, help="folder for scores.json")
    parser.add_argument("--ship", action="store_true", help="also write the model that comes with the package")
    given = parser.parse_args()
    encoder = None if given.train else load_encoder(given.encoder)
    if given.ship:
        ship(sentences(given.data, "hwu64"))
    figures: dict[str, Any] = {"seed": _SEED, "folds": _N_FOLDS}
    for name in ("hwu64", "slurp_text"):
        figures[name] = probability_figures(sentences(given.data, name), encoder)
        print_figures(f"{name}: pairs of sentences, goals held out", figures[name])
    figures["sure_of_both"] = sure_figures([figures["hwu64"], figures["slurp_text"]])
    figures["slurp_asr"] = recording_figures(given.data, load_encoder(given.encoder))
    print_figures("slurp_asr: misunderstood recordings", figures["slurp_asr"])
    configuration = {"selflearn": __version__, "encoder": encoder.encoder_id if encoder else "trained"}
    configuration |= {f"variants.{name}": str(value) for name, value in Variants().model_dump().items()}
    write_scores(given.out, figures, configuration)


def ship(said: Said) -> None:
    """Write the model that serves where a log knows too few goals: no words, no values, the untrained encoder."""
    left, right, cosine = candidates(load_encoder(None).encode(said.texts))
    pairs, goals = described(said, left, right, cosine), np.array(said.goals, dtype=object)
    of_left, of_right = (pairs[f"{side}_text"].combine_chunks() for side in ("left", "right"))
    of_words, apart = words_apart(of_left, of_right, empty_lexicon())
    is_left_tested = np.arange(len(left)) % 2 == 0
    known = KnownPairs(
        own_signals(pairs) | text_signals(of_left, of_right) | of_words,
        WordsApart(np.zeros_like(apart.offsets), np.empty(0, dtype=np.int64)),
        goals[left] == goals[right],
        *(np.array([fold_of(goal, N_FOLDS) for goal in goals[rows]]) for rows in (left, right)),
        is_left_tested,
        np.unique(np.where(is_left_tested, goals[left], goals[right]).astype(str), return_inverse=True)[1],
        pairs["left_locale"].to_numpy(),
        np.ones(len(left)),
    )
    # A log that has shown nothing yet has no sure pairs.
    model = replace(fit_same_goal(known), locale_curves={}, sure_from=1.0, metrics={})
    Path(calibration.__file__).with_name(SHIPPED).write_text(model.to_json() + "\n", encoding="utf-8")


def sentences(folder: Path, name: str) -> Said:
    """Distinct sentences with their frames; those without slots are left out where they lack them altogether."""
    said: dict[str, str] = {}
    for row in read_rows(folder, name):
        if row["slots"] is not None:
            said.setdefault(normalise_text(row["text"]), _goal(row["intent"], row["slots"]))
    return Said(list(said), list(said.values()))


def probability_figures(said: Said, encoder: Encoder | None) -> dict[str, Any]:
    """Calibration and precision of `p_same_goal`, each candidate scored without a goal of its own."""
    fold = np.array([fold_of(goal, _N_FOLDS) for goal in said.goals])
    goals = np.array(said.goals, dtype=object)
    draw = np.random.default_rng(_SEED)
    found_p, found_same = [], []
    for held in range(_N_FOLDS):
        left, right, cosine = candidates((encoder or trained(said, fold != held)).encode(said.texts))
        pairs, is_same = described(said, left, right, cosine), goals[left] == goals[right]
        is_known = (fold[left] != held) & (fold[right] != held)
        # Leaving goals out costs the pairs of two goals more of their number than those of one.
        is_known &= ~is_same | (draw.random(len(left)) >= 1 / _N_FOLDS)
        is_held = np.where(draw.random(len(left)) < 0.5, fold[left], fold[right]) == held
        model = fitted(pairs.filter(is_known), density_of(cosine), encoder is None)
        found_p.append(probability(pairs.filter(is_held), *model))
        found_same.append(is_same[is_held])
    p, is_same = np.concatenate(found_p), np.concatenate(found_same)
    sure = p >= _SURE
    return {
        "n_sentences": len(said.texts),
        "n_goals": len(set(said.goals)),
        "n_candidates": len(p),
        "share_same_goal": float(is_same.mean()),
        "calibration_error": expected_calibration_error(is_same, p),
        "average_precision": float(average_precision_score(is_same, p)),
        "n_sure": int(sure.sum()),
        "precision_sure": float(is_same[sure].mean()) if sure.any() else float("nan"),
        "share_of_same_goal_sure": float((sure & is_same).sum() / is_same.sum()),
    }


def sure_figures(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Pairs above .9 of several sets together, and how many of them are right."""
    n = sum(figures["n_sure"] for figures in found)
    n_right = sum(figures["n_sure"] * figures["precision_sure"] for figures in found if figures["n_sure"])
    return {"n_sure": n, "precision_sure": n_right / n if n else float("nan")}


def trained(said: Said, chosen: npt.NDArray[np.bool_]) -> Encoder:
    """The default encoder, trained on the sentences chosen, without the goals that are always left out."""
    kept = [row for row in np.flatnonzero(chosen).tolist() if not is_left_out(said.goals[row])]
    texts, goals = [said.texts[row] for row in kept], [said.goals[row] for row in kept]
    return train_encoder(Corpus(said.texts, texts, goals, np.full(len(kept), SEVERAL))).encoder()


def recording_figures(folder: Path, encoder: Encoder) -> dict[str, Any]:
    """How often the right goal is the neighbours' first, over recordings that the NLU got wrong."""
    rows = list(read_rows(folder, "slurp_asr"))
    heard = [normalise_text(row["asr"]) for row in rows]
    read = [_frame(row["nlu"]) for row in rows]
    # Two microphones heard one person say it once.
    speech = [row["file"].removesuffix(".flac").removesuffix("-headset") for row in rows]
    by_text: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for text, goal, spoken in zip(heard, read, speech, strict=True):
        by_text[text][goal].add(spoken)
    texts = list(by_text)
    left, right, cosine = candidates(encoder.encode(texts))
    p = probability(described(Said(texts, [""] * len(texts)), left, right, cosine), shipped_model(), empty_lexicon())
    near: dict[int, list[tuple[int, float, float]]] = defaultdict(list)
    for ends in zip(left.tolist(), right.tolist(), p.tolist(), cosine.tolist(), strict=True):
        for start, end in (ends[:2], ends[1::-1]):
            near[start].append((end, *ends[2:]))
    place, readings = {text: row for row, text in enumerate(texts)}, list(by_text.values())
    votes = [_votes(near[place[text]], readings, spoken) for text, spoken in zip(heard, speech, strict=True)]
    gold = [_frame(row["gold"]) for row in rows]
    figures: dict[str, Any] = {"n_recordings": len(rows)}
    for name, key in (
        ("frame", lambda goal: goal),
        ("intent", lambda goal: json.loads(goal)["intent"] if goal else ""),
    ):
        wrong = [row for row, known in enumerate(rows) if not known[f"{name}_ok"]]
        answers = {
            "neighbours_vote": [_first(by_vote) for by_vote, _ in votes],
            "nearest_neighbour": [_first(by_nearness) for _, by_nearness in votes],
            "nlu_itself": read,
        }
        figures[name] = {
            "n_misunderstood": len(wrong),
            "among_neighbours": _share(any(key(goal) == key(gold[row]) for goal in votes[row][0]) for row in wrong),
            **{who: _share(key(goals[row]) == key(gold[row]) for row in wrong) for who, goals in answers.items()},
        }
    return figures


def _votes(
    neighbours: list[tuple[int, float, float]], readings: list[dict[str, set[str]]], spoken: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Votes of other people's recordings for their goals, n of them as sqrt(n); and each goal's nearest cosine."""
    by_vote: dict[str, float] = defaultdict(float)
    by_nearness: dict[str, float] = defaultdict(float)
    for text, p, cosine in neighbours:
        for goal, said_by in readings[text].items():
            others = len(said_by - {spoken})
            if others:
                by_vote[goal] += p * others**0.5
                by_nearness[goal] = max(by_nearness[goal], cosine)
    return by_vote, by_nearness


def _intent(goal: str) -> str:
    return str(json.loads(goal)["intent"]) if goal else ""


def _share(hits: Iterable[bool]) -> float:
    return float(np.mean(list(hits)))


def candidates(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Pairs of which one is among the other's nearest, with their cosine, by the defaults of the settings: exact."""
    limits = Variants()
    found = []
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        cosine = vectors[start : start + _ROWS_AT_ONCE] @ vectors.T
        row = np.arange(start, start + len(cosine))
        cosine[row - start, row] = -1.0
        nearest = np.argpartition(-cosine, limits.max_neighbours, axis=1)[:, : limits.max_neighbours]
        near = np.take_along_axis(cosine, nearest, axis=1)
        kept = near >= limits.min_cosine
        pair = np.column_stack([np.repeat(row, kept.sum(axis=1)), nearest[kept]])
        found.append(np.column_stack([pair.min(axis=1), pair.max(axis=1), near[kept]]))
    _, first = np.unique(np.concatenate(found)[:, :2], axis=0, return_index=True)
    pairs = np.concatenate(found)[first]
    return pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64), pairs[:, 2]


def fitted(known: pa.Table, density: Density, is_trained: bool) -> tuple[SameGoalModel, Lexicon]:
    """The model that is fitted to the known pairs, and the lexicon that it reads words with."""
    of_known, lexicon = known_pairs(known, density, is_trained)
    return fit_same_goal(of_known), lexicon


def probability(pairs: pa.Table, model: SameGoalModel, lexicon: Lexicon) -> Floats:
    """`p_same_goal` of the pairs."""
    left, right = (pairs[f"{side}_text"].combine_chunks() for side in ("left", "right"))
    of_words, apart = words_apart(left, right, lexicon)
    signals = own_signals(pairs) | text_signals(left, right) | of_words
    return model.probability(signals, apart, pairs["left_locale"].to_pylist())


def described(said: Said, left: Sequence[int], right: Sequence[int], cosine: Floats) -> pa.Table:
    """The pairs in columns of `same_goal.DESCRIBED`."""
    columns: dict[str, Any] = {"cosine": cosine}
    for side, rows in (("left", left), ("right", right)):
        columns[f"{side}_locale"] = pa.repeat(pa.scalar(_LOCALE), len(cosine))
        columns[f"{side}_context"] = pa.repeat(pa.scalar(""), len(cosine))
        columns[f"{side}_text"] = pa.array(said.texts).take(pa.array(rows))
        columns[f"{side}_goal"] = pa.array(said.goals).take(pa.array(rows))
    return pa.table(columns)


def density_of(cosine: Floats) -> Density:
    """Candidates by bin of cosine."""
    bins, counts = np.unique(np.floor(cosine * COSINE_BINS).astype(int), return_counts=True)
    return {(_LOCALE, int(place)): int(n) for place, n in zip(bins, counts, strict=True)}


def _goal(intent: str, slots: Sequence[Sequence[str]]) -> str:
    return frame_goal(intent, [(name, normalise_text(value)) for name, value in slots])


def _frame(frame: dict[str, Any]) -> str:
    return _goal(f"{frame['domain']}_{frame['action']}", frame["slots"])


def _first(votes: dict[str, float]) -> str:
    return max(votes, key=lambda goal: (votes[goal], goal), default="")


if __name__ == "__main__":
    main()
