"""The plain twin of the pool: dictionaries, one utterance at a time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from selflearn.graph import PoolWeights
from selflearn.graph.candidates import COINCIDENCE, LEAST, MOST_BY_VARIANTS, OTHER_PRIOR, SILENCE
from selflearn.graph.messages import _LEAST_SAME_GOAL, _MOST_CERTAIN_LINK
from selflearn.graph.weights import SOURCES
from selflearn.lakehouse.tables import OTHER_GOAL
from selflearn.settings import Graph as Settings

SETTINGS = Settings(max_candidate_goals=3)
WEIGHTS = PoolWeights(nlu=0.8, outcome=0.6, pair=0.7, variant=0.4, prior=0.3)

Candidates = dict[tuple[str, str], dict[str, float]]
MANY_PEOPLE = "abcdefghijklmnop"
Links = dict[str, tuple[float, float]]
Said = dict[str, dict[str, float]]


@dataclass
class Graph:
    """One locale's utterances with their n, readings (p_sum, n_outcomes, outcome_sum), pairs (n, p), variants (p).

    `merges` (n, p) are of an utterance and a goal.
    Every letter of `users` and `pair_users` is a person: by default one says an utterance, and sixteen a pair or merge.
    `words` are those of utterances that differ in their context alone; `strength` is what other contexts count as.
    """

    utterances: dict[str, float]
    readings: dict[tuple[str, str], tuple[float, float, float]]
    pairs: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    variants: dict[tuple[str, str], float] = field(default_factory=dict)
    merges: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    pair_users: dict[tuple[str, str], str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    strength: float = 1.0


def plain_posterior(candidates: Candidates, ids: Mapping[str, int]) -> None:
    """Softmax of the weighted evidence among each utterance's candidates, and their ranks."""
    by_utterance = defaultdict(list)
    for (utterance, goal), row in candidates.items():
        score = sum(w * row[source] for w, source in zip(WEIGHTS.as_tuple(), SOURCES, strict=True))
        by_utterance[utterance].append((-score, ids[goal], row))
    for scored in by_utterance.values():
        total = sum(math.exp(-score) for score, _, _ in scored)
        for rank, (score, _, row) in enumerate(sorted(scored, key=lambda item: item[:2]), start=1):
            row |= {"posterior": math.exp(-score) / total, "rank": rank}


def plain(graph: Graph, ids: Mapping[str, int]) -> Candidates:
    """The twin: own evidence, what each tells the others, what each answers without the one it answers, posterior.

    Ties between goals are broken by their ids.
    """
    prior = plain_prior(graph)
    own = {utterance: plain_own(graph, utterance, prior, ids) for utterance in graph.utterances}
    linked: dict[tuple[str, str], Links] = defaultdict(dict)
    rest: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for (source, target), (n, p) in graph.pairs.items():
        n_people = len(graph.pair_users.get((source, target), MANY_PEOPLE))
        rest[target, source]["after"] = rest[source, target]["before"] = 1 - 1 / n_people
        votes = min(n, n_people)
        linked[target, source]["after"] = linked[source, target]["before"] = (votes, min(p, _MOST_CERTAIN_LINK))
    for (left, right), p in graph.variants.items():
        if p >= _LEAST_SAME_GOAL:
            linked[left, right]["variant"] = linked[right, left]["variant"] = (1.0, min(p, _MOST_CERTAIN_LINK))

    def said(known: Candidates, links: Links) -> Said:
        gains: Said = {}
        for (_, goal), row in known.items():
            if goal != OTHER_GOAL and row["posterior"] > LEAST:
                ratio = row["posterior"] / max(prior[goal], COINCIDENCE)
                gains[goal] = {kind: n * math.log1p(p / (1 - p) * ratio) for kind, (n, p) in links.items()}
        return gains

    def pooled(utterance: str, told: dict[str, Said], but: str | None = None) -> Candidates:
        found = {key: dict(row) for key, row in own[utterance].items()}
        links = {of: linked[of, utterance] for of in told}
        everything = plain_heard(told, links)
        spoken_for = sorted(everything, key=lambda goal: (-sum(everything[goal][:2]), ids[goal]))
        others = plain_heard(
            {of: message for of, message in told.items() if of != but},
            {of: by for of, by in links.items() if of != but},
        )
        for goal in {*spoken_for[: SETTINGS.max_candidate_goals], *(goal for _, goal in found)}:
            pair, variant, gain = others.get(goal, (0.0, 0.0, 0.0))
            if (utterance, goal) in found or but is None or gain > SILENCE:
                row = found.setdefault((utterance, goal), plain_candidate(0.0, 0.0))
                row |= {"pair_evidence": pair, "variant_evidence": variant}
        by_others = [by for of, by in links.items() if of in graph.utterances]
        n_pairs = sum(n for by in by_others for kind, (n, _) in by.items() if kind != "variant")
        for (_, goal), row in found.items():
            row |= {"prior_evidence": math.log(prior[goal]), "n_pairs": n_pairs, "merge_evidence": 0.0}
            if (sender := f"merge {goal}") in told:
                n_links = sum(n * p for by in links.values() for kind, (n, p) in by.items() if kind != "variant")
                row["merge_evidence"] = sum(told[sender][goal].values()) / math.sqrt(max(1.0, n_links))
            if (utterance, goal) not in own[utterance]:
                unread = math.exp(own[utterance][utterance, OTHER_GOAL]["nlu_evidence"])
                row["nlu_evidence"] = math.log(max(unread * max(prior[goal], COINCIDENCE), LEAST))
        plain_posterior(found, ids)
        return found

    def with_rest(utterance: str, found: Candidates) -> Candidates:
        """Adds the posterior as it were without what one of the people behind each thing did."""

        def share(of: str, kind: str) -> float:
            return rest[of, utterance].get(kind, 1.0)

        told = second[utterance]
        fewer = {
            of: {goal: {kind: gain * share(of, kind) for kind, gain in by.items()} for goal, by in message.items()}
            for of, message in told.items()
        }
        links = {of: {kind: (n * share(of, kind), p) for kind, (n, p) in linked[of, utterance].items()} for of in told}
        others = plain_heard(fewer, links)
        n_users = len(graph.users.get(utterance, "u"))
        without = {
            key: row
            | {"outcome_evidence": row["outcome_evidence"] * math.sqrt(1 - 1 / n_users)}
            | {"pair_evidence": others.get(key[1], (0.0, 0.0, 0.0))[0]}
            for key, row in found.items()
        }
        plain_posterior(without, ids)
        return {key: row | {"posterior_without_one": without[key]["posterior"]} for key, row in found.items()}

    first: dict[str, dict[str, Said]] = {utterance: {} for utterance in own}
    for (sender, to), joined in linked.items():
        first[to][sender] = said(own[sender], joined)
    second: dict[str, dict[str, Said]] = {utterance: {} for utterance in own}
    for (sender, to), joined in linked.items():
        second[to][sender] = said(pooled(sender, first[sender], but=to), joined)
    for (utterance, goal), (n, p) in graph.merges.items():
        if goal in {read for _, read in graph.readings}:
            sender, n_people = f"merge {goal}", len(graph.pair_users.get((utterance, goal), MANY_PEOPLE))
            linked[sender, utterance]["after"] = (votes, p) = min(n, n_people), min(p, _MOST_CERTAIN_LINK)
            rest[sender, utterance]["after"] = 1 - 1 / n_people
            ratio = 1 / max(prior[goal], COINCIDENCE)
            second[utterance][sender] = {goal: {"after": votes * math.log1p(p / (1 - p) * ratio)}}
    return {
        key: row for utterance in own for key, row in with_rest(utterance, pooled(utterance, second[utterance])).items()
    }


def plain_prior(graph: Graph) -> dict[str, float]:
    mass: dict[str, float] = defaultdict(float)
    for (_, goal), (p_sum, _, _) in graph.readings.items():
        mass[goal] += p_sum
    prior = {g: max(m / sum(mass.values()) * (1 - OTHER_PRIOR), LEAST) for g, m in mass.items()}
    return prior | {OTHER_GOAL: OTHER_PRIOR}


def plain_candidate(p_nlu: float, outcome: float, p: float | None = None) -> dict[str, float]:
    known = {"p_nlu": p_nlu, "nlu_evidence": math.log(max(p_nlu if p is None else p, LEAST))}
    return known | {
        "outcome_evidence": outcome,
        "pair_evidence": 0.0,
        "variant_evidence": 0.0,
        "refit_evidence": 0.0,
        "n_pairs": 0.0,
    }


def plain_own(graph: Graph, utterance: str, prior: dict[str, float], ids: Mapping[str, int]) -> Candidates:
    n, own = graph.utterances[utterance], {goal: row for (of, goal), row in graph.readings.items() if of == utterance}
    lent, n_lent = plain_lent(graph, utterance, prior, ids)
    known = []
    for goal in {*own, *lent}:
        p_sum, times, outcome_sum = own.get(goal, (0.0, 0.0, 0.0))
        outcome = -outcome_sum / math.sqrt(max(1.0, times)) if times else 0.0
        p = min(1.0, (p_sum + lent.get(goal, 0.0)) / (n + n_lent))
        known.append((-p, ids[goal], goal, min(1.0, p_sum / n), outcome))
    known = sorted(known)[: SETTINGS.max_candidate_goals - 1]
    found = {(utterance, goal): plain_candidate(p_nlu, outcome, -p) for p, _, goal, p_nlu, outcome in known}
    unread, unknown = (max(1 - sum(p), LEAST) for p in ([row[3] for row in known], [-row[0] for row in known]))
    found[utterance, OTHER_GOAL] = plain_candidate(unread, 0.0, unknown)
    for (_, goal), row in found.items():
        row["prior_evidence"] = math.log(prior[goal])
    plain_posterior(found, ids)
    return found


def plain_lent(
    graph: Graph, utterance: str, prior: dict[str, float], ids: Mapping[str, int]
) -> tuple[dict[str, float], float]:
    """Turns of each goal that the same words' other contexts lend, and how many they lend in all."""
    same = [of for of in graph.utterances if graph.words.get(of, of) == graph.words.get(utterance, utterance)]
    n_elsewhere = sum(graph.utterances[of] for of in same if of != utterance)
    if not n_elsewhere:
        return {}, 0.0
    everywhere: dict[str, float] = defaultdict(float)
    elsewhere: dict[str, float] = defaultdict(float)
    for (of, goal), (p_sum, _, _) in graph.readings.items():
        if of in same:
            everywhere[goal] += p_sum
            elsewhere[goal] += p_sum * (of != utterance)
    best = sorted(everywhere, key=lambda goal: (-everywhere[goal], ids[goal]))[: SETTINGS.max_candidate_goals]
    turns = {goal: graph.strength * (elsewhere[goal] + prior[goal]) / (n_elsewhere + 1) for goal in best}
    least = LEAST * (graph.utterances[utterance] + graph.strength)
    return {goal: n for goal, n in turns.items() if n > least}, graph.strength


def plain_heard(told: dict[str, Said], links: dict[str, Links]) -> dict[str, tuple[float, float, float]]:
    """Pair evidence, variant evidence and undamped gain of each goal that a message names."""

    def n_links(*kinds: str) -> float:
        return sum(n * p for of in links.values() for kind, (n, p) in of.items() if kind in kinds)

    def gain(goal: str, *kinds: str) -> float:
        return sum(message[goal].get(kind, 0.0) for message in told.values() if goal in message for kind in kinds)

    def damped(goal: str, *kinds: str) -> float:
        return gain(goal, *kinds) / math.sqrt(max(1.0, n_links(*kinds)))

    def saturated(variants: float) -> float:
        return MOST_BY_VARIANTS * (1 - math.exp(-variants / MOST_BY_VARIANTS))

    return {
        goal: (
            damped(goal, "after", "before"),
            saturated(damped(goal, "variant")),
            gain(goal, "after", "before", "variant"),
        )
        for goal in {goal for message in told.values() for goal in message}
    }
