"""What the project is measured against: ways to learn from a deployment's log, each from the whole log so far.

Those that need to know which turns failed and which say them again get the project's own detector.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from selflearn.detect import learn_daily
from selflearn.detect.comparison import compare_sessions
from selflearn.detect.detection import MAX_SAMPLED_PER_DAY
from selflearn.detect.detector import scored_turns
from selflearn.encoding import Encoder
from selflearn.labels.spans import annotate
from selflearn.lakehouse import tables
from selflearn.nlu import Example, IntentReader, LatentSentences, Tagged
from selflearn.ragged import Floats
from selflearn.rewrites.chain import ABANDONED, OTHER_GOALS, Chain, absorb
from selflearn.settings import Detect
from selflearn.simulate.deployment import Rewrite, Told
from selflearn.turns import frame_goal, normalise_text
from simulated_turns import frame_of, observed_turns

_CONFIDENT = 0.9
_LIKELY = 0.5
_MOST_MEAN = 0.5
_CHAIN_PEOPLE = 2
Row = dict[str, Any]


@dataclass(frozen=True)
class Label:
    """What a system holds an utterance to mean, with the probability that it gives it."""

    text: str
    goal: str
    probability: float = 1.0


@dataclass(frozen=True)
class Learnt:
    """What a system learnt up to a day; `examples` is what the NLU is trained on next, None where it stays.

    `rewrites` are by normalised text, `seconds` by stage where there are stages.
    """

    labels: Sequence[Label] = ()
    examples: Sequence[Example] | None = None
    rewrites: Mapping[str, Rewrite] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


class System(Protocol):
    """A way to learn."""

    def learn(self, day: date, rows: Sequence[Row], told: Sequence[Told]) -> Learnt:
        """Learn from a day's rows in view of all before; `told` is for the oracle alone."""


def example_of(text: str, goal: str, weight: float = 1.0) -> Example:
    """A sentence with a canonical goal, its values on the words where they stand there."""
    found = annotate(text, goal)
    items = frozenset((slot["name"], slot["value"]) for slot in json.loads(goal)["slots"])
    spans = None if found.is_intent_only else tuple(Tagged(span.name, span.start, span.end) for span in found.spans)
    return Example(text, "", found.intent, items if spans is not None else frozenset(), spans, weight)


class Nothing:
    """The NLU stays as it was launched."""

    def learn(self, day: date, rows: Sequence[Row], told: Sequence[Told]) -> Learnt:
        return Learnt()


class Labeller:
    """A system that labels utterances, and trains on them beside the launch set."""

    def __init__(self, launch: Sequence[Example]) -> None:
        self._launch = launch

    def trained_on(
        self, labels: Mapping[str, tuple[str, float]], rewrites: Mapping[str, Rewrite] | None = None
    ) -> Learnt:
        """Launch sentences win over labels of the same words."""
        known = {example.text.casefold() for example in self._launch}
        found = [Label(text, *label) for text, label in sorted(labels.items()) if text.casefold() not in known]
        examples = [example_of(label.text, label.goal) for label in found]
        return Learnt(found, [*self._launch, *examples], rewrites or {})


class SelfTraining(Labeller):
    """What the NLU is sure of is right: its newest reading of each utterance, where it is confident."""

    def __init__(self, launch: Sequence[Example]) -> None:
        super().__init__(launch)
        self._read: dict[str, tuple[str, float]] = {}

    def learn(self, day: date, rows: Sequence[Row], told: Sequence[Told]) -> Learnt:
        for row in rows:
            goal = frame_of(row)
            if goal is not None:
                self._read[row["text"]] = (goal, row["nlu_score"])
        return self.trained_on({text: read for text, read in self._read.items() if read[1] >= _CONFIDENT})


class Distilled(Labeller):
    """What an NLU means that reads by a pretrained encoder's vectors, too, and learnt the launch set alone.

    It tells what the encoder brings by itself: no turn is looked at but for its words.
    """

    def __init__(self, launch: Sequence[Example], encoder: Encoder) -> None:
        super().__init__(launch)
        self._encoder = encoder
        texts = [example.text for example in launch]
        sentences = LatentSentences(texts, [example.context for example in launch], self._vectors(texts))
        self._teacher = IntentReader(
            sentences, np.arange(len(launch)), [example.intent for example in launch], [1.0] * len(launch)
        )
        self._read: dict[str, tuple[str, float]] = {}

    def learn(self, day: date, rows: Sequence[Row], told: Sequence[Told]) -> Learnt:
        new = sorted({row["text"] for row in rows} - set(self._read))
        p = self._teacher.probabilities(new, [""] * len(new), self._vectors(new))
        for text, of_intents in zip(new, p, strict=True):
            best = int(of_intents.argmax())
            self._read[text] = (self._teacher.intents[best], float(of_intents[best]))
        known = {example.text.casefold() for example in self._launch}
        likely = [
            (text, *read) for text, read in self._read.items() if read[1] >= _LIKELY and text.casefold() not in known
        ]
        found = [Label(text, frame_goal(intent, ()), p) for text, intent, p in likely]
        return Learnt(found, [*self._launch, *(Example(text, "", intent) for text, intent, _ in likely)])

    def _vectors(self, texts: Sequence[str]) -> Floats:
        return self._encoder.encode(texts).astype(np.float64)


class Oracle(Labeller):
    """Gold for every turn: of each utterance what people mostly meant by it, if the assistant has an intent for it.

    Nobody who plants is asked.
    """

    def __init__(self, launch: Sequence[Example]) -> None:
        super().__init__(launch)
        self._intents = {example.intent for example in launch}
        self._meant: dict[str, Counter[str]] = defaultdict(Counter)

    def learn(self, day: date, rows: Sequence[Row], told: Sequence[Told]) -> Learnt:
        for one in told:
            if not one.is_planted and one.goal.intent in self._intents:
                self._meant[one.heard][frame_goal(*one.goal)] += 1
        return self.trained_on({text: (counts.most_common(1)[0][0], 1.0) for text, counts in self._meant.items()})


class Miner(Labeller):
    """A system that learns from what the project's detector finds, without Spark.

    Attributes:
        turns: of the log so far `turn_id, text, user_id, goal, p_friction, p_gave_up`.
        pairs: `source, target` (turn ids), `distance, p_rephrase`.
    """

    def __init__(self, launch: Sequence[Example]) -> None:
        super().__init__(launch)
        self._patterns = pd.DataFrame(columns=tables.LEVEL_PATTERNS.schema.fieldNames())
        self.turns, self.pairs = pd.DataFrame(), pd.DataFrame()

    def learn(self, day: date, rows: Sequence[Row], told: Sequence[Told]) -> Learnt:
        organic = [row for row in rows if row["rewrite_id"] is None]
        turns, pairs, self._patterns = detected(organic, day, self._patterns)
        self.turns = pd.concat([self.turns, turns], ignore_index=True)
        self.pairs = pd.concat([self.pairs, pairs], ignore_index=True)
        return self.conclude()

    def conclude(self) -> Learnt:
        """Learn from the turns and pairs so far."""
        raise NotImplementedError

    def joined(self) -> pd.DataFrame:
        """The pairs with both turns' columns, `source_` and `target_` before their names."""
        ends = [
            self.turns.add_prefix(f"{end}_").rename(columns={f"{end}_turn_id": end}) for end in ("source", "target")
        ]
        return self.pairs.merge(ends[0], on="source").merge(ends[1], on="target")


class PairCounts(Miner):
    """Each utterance means what was read of the turns that most often say it again."""

    def conclude(self) -> Learnt:
        pairs = self.joined().query("p_rephrase >= @_LIKELY and target_goal.notna()")
        return self.trained_on(_majority(pairs.groupby(["source_text", "target_goal"]).size()))


class Marupa(Miner):
    """Friction and paraphrase detection, projection of the target's reading, majority (after Falke et al. 2020).

    The target must not have failed itself; a person counts once for each utterance and reading.
    """

    def conclude(self) -> Learnt:
        pairs = self.joined().query(
            "p_rephrase >= @_LIKELY and source_p_friction >= @_LIKELY and target_p_friction < @_LIKELY "
            "and target_goal.notna()"
        )
        return self.trained_on(_majority(pairs.groupby(["source_text", "target_goal"])["source_user_id"].nunique()))


class SuccessChain(Miner):
    """An absorbing chain over the sessions, ending at success (after Ponnusamy et al. 2019).

    An utterance means the goal that most of those reach who begin with it; failing ones are rewritten to the wording
    that most of them went on to and that is read so.
    """

    def conclude(self) -> Learnt:
        pairs = self.joined().query("distance == 1")
        texts = sorted(set(self.turns["text"]))
        goals = sorted(set(self.turns["goal"].dropna()))
        row = {text: at for at, text in enumerate(texts)}
        column = {goal: at + OTHER_GOALS + 1 for at, goal in enumerate(goals)}
        acted = self.turns.dropna(subset="goal")
        source, target = (pairs[f"{end}_text"].map(row).to_numpy() for end in ("source", "target"))
        exits = sparse.coo_array(
            (
                np.concatenate([1 - acted["p_friction"], self.turns["p_gave_up"]]),
                (
                    np.concatenate([acted["text"].map(row), self.turns["text"].map(row)]),
                    np.concatenate([acted["goal"].map(column), np.full(len(self.turns), ABANDONED)]),
                ),
            ),
            (len(texts), len(goals) + OTHER_GOALS + 1),
        )
        links = sparse.coo_array((pairs["p_rephrase"].to_numpy(), (source, target)), (len(texts), len(texts)))
        chances = absorb(Chain.of_masses(links, exits), connected_components(links)[1]).chances
        return self._concluded(pairs, texts, goals, sparse.csr_array(chances[:, OTHER_GOALS + 1 :]))

    def _concluded(self, pairs: pd.DataFrame, texts: list[str], goals: list[str], chances: sparse.csr_array) -> Learnt:
        n_people = self.turns.groupby("text")["user_id"].nunique()
        labels = {}
        for at, text in enumerate(texts):
            start, end = chances.indptr[at : at + 2]
            found = chances.data[start:end]
            if len(found) and n_people[text] >= _CHAIN_PEOPLE and found.max() > _MOST_MEAN * found.sum():
                labels[text] = (goals[chances.indices[start + int(found.argmax())]], float(found.max() / found.sum()))
        return self.trained_on(labels, self._rewrites(pairs, labels))

    def _rewrites(self, pairs: pd.DataFrame, labels: Mapping[str, tuple[str, float]]) -> dict[str, Rewrite]:
        friction = self.turns.groupby("text")["p_friction"].mean()
        meant = pairs["source_text"].map(lambda text: labels.get(text, ("", 0))[0])
        ways = pairs[(meant == pairs["target_goal"]) & (pairs["source_text"] != pairs["target_text"])]
        counted = ways.groupby(["source_text", "target_text"]).agg(
            mass=("p_rephrase", "sum"), people=("source_user_id", "nunique")
        )
        best = counted[counted["people"] >= _CHAIN_PEOPLE].sort_values("mass").groupby("source_text").tail(1)
        return {
            normalise_text(source): Rewrite(f"{source} -> {target}", target)
            for source, target in best.index
            if friction[source] >= _LIKELY > friction[target]
        }


def detected(rows: Sequence[Row], day: date, earlier: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A day's turns and pairs as the project's detection scores them, and the level patterns with this day's."""
    settings = Detect()
    turns = observed_turns(rows, day)
    learnt = learn_daily([(day, _sample(turns))], earlier, settings)
    compared = compare_sessions(turns, settings)
    scored = scored_turns(turns, compared, learnt.detectors[day].score(compared))
    own = scored.select(["turn_id", "p_friction", "p_gave_up"]).to_pandas()
    said = pd.DataFrame(
        [(row["turn_id"], row["text"], row["user_id"], frame_of(row)) for row in rows],
        columns=["turn_id", "text", "user_id", "goal"],
    )
    of_source = pc.list_parent_indices(scored["pairs"])
    flat = pc.list_flatten(scored["pairs"]).combine_chunks()
    pairs = pd.DataFrame(
        {
            "source": scored["turn_id"].take(of_source).to_pandas(),
            "target": flat.field("target_turn_id").to_pandas(),
            "distance": flat.field("target_turn_index").to_numpy() - scored["turn_index"].take(of_source).to_numpy(),
            "p_rephrase": flat.field("p_rephrase").to_numpy(),
        }
    )
    patterns = learnt.patterns if earlier.empty else pd.concat([earlier, learnt.patterns], ignore_index=True)
    return said.merge(own, on="turn_id"), pairs, patterns


def _sample(turns: pa.Table) -> pa.Table:
    """Every so manieth session, so that about as many turns are learnt from as in the pipeline."""
    one_in = -(-len(turns) // MAX_SAMPLED_PER_DAY)
    session = turns["session_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    return turns.filter(pa.array(session % one_in == 0)).combine_chunks()


def _majority(votes: pd.Series[int]) -> dict[str, tuple[str, float]]:
    """Of each text, the first level, the goal with more than half of its votes."""
    share = votes / votes.groupby(level=0).transform("sum")
    return {text: (goal, float(p)) for (text, goal), p in share[share > _MOST_MEAN].items()}
