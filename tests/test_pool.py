"""The goal posterior: Spark's joins and sums equal a plain pool, and its weights are fitted by likelihood."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from random import Random

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from selflearn.graph import (
    PoolWeights,
    Window,
    anchor_candidates,
    fit_weights,
    goal_prior,
    graph_edges,
    graph_nodes,
    own_beliefs,
    pool_evidence,
)
from selflearn.graph.candidates import LEAST, OTHER_PRIOR
from selflearn.graph.people import person, sketch
from selflearn.graph.pool import _COINCIDENCE, _MOST_CERTAIN_PAIR
from selflearn.graph.weights import MIN_ANCHORS, SOURCES
from selflearn.lakehouse import tables
from selflearn.lakehouse.tables import OTHER_GOAL
from selflearn.settings import Graph as Settings

SETTINGS = Settings(max_candidate_goals=3)
WEIGHTS = PoolWeights(nlu=0.8, outcome=0.6, pair=0.7, prior=0.3)
AS_OF = date(2025, 1, 31)

Candidates = dict[tuple[str, str], dict[str, float]]


@dataclass
class Graph:
    """One locale's utterances with their n, readings (p_sum, n_outcomes, outcome_sum) and pairs (n, p)."""

    utterances: dict[str, float]
    readings: dict[tuple[str, str], tuple[float, float, float]]
    pairs: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)


def as_window(spark: SparkSession, graphs: dict[str, Graph]) -> Window:
    said, read, linked = [], [], []
    for locale, graph in graphs.items():
        for name, n in graph.utterances.items():
            users = graph.users.get(name, "u")
            said += [(locale, f"{locale}|{name}", "", name, n, 0.25, user) for user in users]
        read += [(locale, f"{locale}|{name}", goal, *row) for (name, goal), row in graph.readings.items()]
        linked += [(locale, *(f"{locale}|{end}" for end in ends), *row, "u") for ends, row in graph.pairs.items()]
    of_locale = "locale string, utterance_id string"
    ends = "locale string, source_utterance string, target_utterance string"
    utterances = spark.createDataFrame(
        said, f"{of_locale}, context string, text string, n double, friction double, user string"
    )
    readings = spark.createDataFrame(
        read, f"{of_locale}, goal string, p_sum double, n_outcomes double, outcome_sum double"
    )
    pairs = spark.createDataFrame(linked, f"{ends}, n double, p double, user string")

    def sketched(rows: DataFrame) -> DataFrame:
        names = [name for name in rows.columns if name != "user"]
        return rows.groupBy(*names).agg(sketch(person(F.col("user"))).alias("users"))

    listed = readings.groupBy("locale", "utterance_id").agg(
        F.collect_list(F.struct("goal", "p_sum", "n_outcomes", "outcome_sum")).alias("readings")
    )
    read = sketched(utterances).join(listed, ["locale", "utterance_id"], "left")
    return Window(read.withColumn("readings", F.coalesce("readings", F.array())), sketched(pairs), readings)


def nodes_of(window: Window, settings: Settings = SETTINGS) -> tuple[DataFrame, DataFrame]:
    """Pooled evidence of a window, and the graph's nodes."""
    prior = goal_prior(window)
    beliefs = own_beliefs(window.utterances, settings, WEIGHTS, prior)
    pooled = pool_evidence(beliefs, graph_edges(window, AS_OF), settings, prior)
    return pooled, graph_nodes(pooled, WEIGHTS, AS_OF)


def found_in(spark: SparkSession, graphs: dict[str, Graph]) -> dict[str, Candidates]:
    found: dict[str, Candidates] = defaultdict(dict)
    for row in nodes_of(as_window(spark, graphs))[1].collect():
        found[row["locale"]][row["utterance_id"].partition("|")[2], row["goal"]] = row.asDict()
    return found


def plain_posterior(candidates: Candidates) -> None:
    """Softmax of the weighted evidence among each utterance's candidates, and their ranks."""
    by_utterance = defaultdict(list)
    for (utterance, goal), row in candidates.items():
        score = sum(w * row[source] for w, source in zip(WEIGHTS.as_tuple(), SOURCES, strict=True))
        by_utterance[utterance].append((-score, goal, row))
    for scored in by_utterance.values():
        total = sum(math.exp(-score) for score, _, _ in scored)
        for rank, (score, _, row) in enumerate(sorted(scored, key=lambda item: item[:2]), start=1):
            row |= {"posterior": math.exp(-score) / total, "rank": rank}


def plain(graph: Graph) -> Candidates:
    """The twin: own evidence, beliefs, one round of messages both ways, posterior."""
    mass: dict[str, float] = defaultdict(float)
    for (_, goal), (p_sum, _, _) in graph.readings.items():
        mass[goal] += p_sum
    prior = {g: max(m / sum(mass.values()) * (1 - OTHER_PRIOR), LEAST) for g, m in mass.items()}
    prior[OTHER_GOAL] = OTHER_PRIOR

    def candidate(goal: str, p_nlu: float, outcome: float) -> dict[str, float]:
        known = {"p_nlu": p_nlu, "nlu_evidence": math.log(max(p_nlu, LEAST)), "outcome_evidence": outcome}
        return known | {"pair_evidence": 0.0, "prior_evidence": math.log(prior[goal])}

    found: Candidates = {}
    for utterance, n in graph.utterances.items():
        known = sorted(
            (-min(1.0, p_sum / n), goal, -outcome_sum / math.sqrt(max(1.0, times)) if times else 0.0)
            for (of, goal), (p_sum, times, outcome_sum) in graph.readings.items()
            if of == utterance
        )[: SETTINGS.max_candidate_goals - 1]
        for p, goal, outcome in known:
            found[utterance, goal] = candidate(goal, -p, outcome)
        rest = 1 - sum(-p for p, _, _ in known)
        found[utterance, OTHER_GOAL] = candidate(OTHER_GOAL, max(rest, LEAST), 0.0)
    plain_posterior(found)

    links = [(s, t, *row) for (s, t), row in graph.pairs.items()]
    links += [(t, s, *row) for (s, t), row in graph.pairs.items()]
    gains: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    n_pairs: dict[str, float] = defaultdict(float)
    n_rephrases: dict[str, float] = defaultdict(float)
    for to, sender, n, rephrase in links:
        p = min(rephrase, _MOST_CERTAIN_PAIR)
        n_pairs[to] += n
        n_rephrases[to] += n * p
        odds = p / (1 - p)
        for (of, goal), row in found.items():
            if of == sender and goal != OTHER_GOAL and row["posterior"] > LEAST:
                gains[to][goal] += n * math.log1p(odds * row["posterior"] / max(prior[goal], _COINCIDENCE))
    for utterance, gained in gains.items():
        best = sorted(gained, key=lambda goal: (-gained[goal], goal))[: SETTINGS.max_candidate_goals]
        for goal in best:
            row = found.setdefault((utterance, goal), candidate(goal, 0.0, 0.0))
            row["pair_evidence"] = gained[goal] / math.sqrt(max(1.0, n_rephrases[utterance]))
    for (utterance, _), row in found.items():
        row["n_pairs"] = n_pairs[utterance]
    plain_posterior(found)
    return found


def random_graph(rng: Random) -> Graph:
    utterances = {f"u{k}": rng.uniform(0.1, 20) for k in range(rng.randint(1, 6))}
    readings = {
        (utterance, goal): (n * rng.random(), times, times * rng.uniform(-3, 3))
        for utterance, n in utterances.items()
        for goal in rng.sample(["g1", "g2", "g3", "g4", "g5"], rng.randint(0, 4))
        for times in [rng.choice([0.0, rng.uniform(0.1, n)])]
    }
    readings["u0", "g1"] = (0.05, 0.0, 0.0)
    pairs = {
        (source, target): (rng.uniform(0.1, 9), rng.choice([rng.random(), 1.0]))
        for source in utterances
        for target in utterances
        if source != target and rng.random() < 0.4
    }
    return Graph(utterances, readings, pairs)


def hand_made() -> dict[str, Graph]:
    """One case a locale: `u` is unsure, `v` is sure, and both have the same candidates."""
    unsure = {("u", "right"): (0.4, 0.0, 0.0), ("u", "wrong"): (0.5, 0.0, 0.0)}
    sure = {("v", "right"): (0.9, 0.0, 0.0), ("v", "wrong"): (0.05, 0.0, 0.0)}
    both = {"u": 1.0, "v": 1.0}

    def linked(p: float, n: float = 1.0) -> Graph:
        return Graph(both, unsure | sure, {("u", "v"): (n, p)})

    def failed(times: float) -> Graph:
        return Graph(both, unsure | sure | {("u", "wrong"): (0.5, times, 2.0 * times)})

    return {
        "alone": Graph(both, unsure | sure),
        "chance": linked(1e-12),
        "pair": linked(0.5),
        "surer pair": linked(0.9),
        "backwards": Graph(both, unsure | sure, {("v", "u"): (1.0, 0.9)}),
        "many pairs": linked(0.9, 16.0),
        "failed once": failed(1.0),
        "failed often": failed(16.0),
        "unread": Graph(both, sure, {("u", "v"): (1.0, 0.9)}),
    }


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    rng = Random(17)
    return {f"graph {k}": random_graph(rng) for k in range(40)} | hand_made()


@pytest.fixture(scope="module")
def found(spark: SparkSession, graphs: dict[str, Graph]) -> dict[str, Candidates]:
    return found_in(spark, graphs)


def test_posterior_equals_the_plain_pool(graphs: dict[str, Graph], found: dict[str, Candidates]) -> None:
    assert found.keys() == graphs.keys()
    for locale, graph in graphs.items():
        expected = plain(graph)
        assert found[locale].keys() == expected.keys()
        totals: dict[str, float] = defaultdict(float)
        for key, row in expected.items():
            assert {name: found[locale][key][name] for name in row} == pytest.approx(row, abs=1e-9)
            totals[key[0]] += found[locale][key]["posterior"]
        assert totals == pytest.approx(dict.fromkeys(graph.utterances, 1.0))


def test_what_a_pair_and_an_outcome_say(found: dict[str, Candidates]) -> None:
    right = {case: found[case]["u", "right"]["posterior"] for case in hand_made()}
    for key, row in found["alone"].items():
        assert found["chance"][key]["posterior"] == pytest.approx(row["posterior"], abs=1e-9)
    assert right["alone"] < right["pair"] < right["surer pair"] < right["many pairs"]
    assert right["backwards"] == pytest.approx(right["surer pair"], abs=1e-12)
    assert right["alone"] < right["failed once"] < right["failed often"]
    # n expected rephrases, and n outcomes, count as sqrt(n).
    evidence = {case: found[case]["u", "right"]["pair_evidence"] for case in ("surer pair", "many pairs")}
    assert evidence["many pairs"] == pytest.approx(16 / math.sqrt(16 * 0.9) * evidence["surer pair"])
    outcomes = [found[case]["u", "wrong"]["outcome_evidence"] for case in ("failed once", "failed often")]
    assert outcomes == pytest.approx([-2.0, -8.0])
    # A goal that the utterance's own NLU never saw comes in by its pair, as one candidate beside the unknown.
    assert {goal for of, goal in found["unread"] if of == "u"} == {"right", "wrong", OTHER_GOAL}
    assert found["unread"]["u", "right"]["p_nlu"] == 0


def test_readings_of_no_probability_stop_nothing(spark: SparkSession) -> None:
    nothing = Graph({"u": 1.0}, {("u", "g"): (0.0, 1.0, 1.0)})
    (rows,) = found_in(spark, {"en-US": nothing}).values()
    assert sum(row["posterior"] for row in rows.values()) == pytest.approx(1)
    assert rows["u", OTHER_GOAL]["rank"] == 1


def test_people_behind_a_label_are_counted_once(spark: SparkSession) -> None:
    users = {"a": "xy", "b": "yz", "other goal": "vw", "alone": "xyz", "unknown": "x"}
    means = {"other goal": "h", "unknown": OTHER_GOAL}
    ends = [("a", "b"), ("b", "a"), ("a", "other goal"), ("unknown", "b")]
    readings = {(u, means.get(u, "g")): (1.9, 0.0, 0.0) for u in users if u != "unknown"}
    graph = Graph(dict.fromkeys(users, 2.0), readings, dict.fromkeys(ends, (2.0, 0.1)), users)
    window = as_window(spark, {"en": graph})
    pooled, nodes = nodes_of(window)
    assert nodes.columns == tables.GRAPH_NODES.schema.fieldNames()
    found = {(row["text"], row["goal"]): row for row in nodes.collect()}
    assert {u: row["n_users"] for (u, _), row in found.items()} == {u: len(names) for u, names in users.items()}
    behind = {key: row["n_users_behind"] for key, row in found.items() if key[1] == "g"}
    assert behind == {("a", "g"): 3, ("b", "g"): 3, ("other goal", "g"): 4, ("alone", "g"): 3, ("unknown", "g"): 3}
    assert found["a", "h"]["n_users_behind"] == 4
    assert {u: goal for (u, goal), row in found.items() if row["rank"] == 1} == dict.fromkeys(users, "g") | means
    edges = graph_edges(window, AS_OF)
    assert edges.columns == tables.GRAPH_EDGES.schema.fieldNames()
    assert {tuple(row[f"{end}_utterance"][3:] for end in ("source", "target")) for row in edges.collect()} == set(ends)

    known = [("en|a", "g"), ("en|a", "g"), ("en|b", "g"), ("en|b", "h"), ("en|alone", "new"), ("never said", "g")]
    anchors = anchor_candidates(pooled, spark.createDataFrame(known, "utterance_id string, goal string"))
    assert dict(anchors.groupby("utterance_id")["is_right"].sum()) == {"en|a": 1, "en|alone": 0}


def anchors(n: int, seed: int = 2) -> pd.DataFrame:
    """Sentences of four candidates each, in no order; their NLU says little, and their outcomes say much."""
    rng = np.random.default_rng(seed)
    is_right = np.tile([True, False, False, False], n)
    rows = pd.DataFrame(
        {
            "utterance_id": np.repeat([f"u{k:05}" for k in range(n)], 4),
            "is_right": is_right,
            "nlu_evidence": np.log(rng.uniform(0.05, 1, 4 * n)),
            "outcome_evidence": rng.normal(0, 1, 4 * n) + 2 * is_right,
            "pair_evidence": rng.normal(0, 1, 4 * n) - 1 * is_right,
            "prior_evidence": np.log(rng.uniform(0.01, 0.1, 4 * n)),
        }
    )
    return rows.sample(frac=1, random_state=seed)


def log_likelihood(rows: pd.DataFrame, weights: PoolWeights) -> float:
    """The twin: mean log posterior of the right goals, where every second sentence hides its NLU."""
    total, groups = 0.0, sorted(rows.groupby("utterance_id"))
    for k, (_, group) in enumerate(groups):
        hidden = group.assign(nlu_evidence=0.0) if k % 2 else group
        scores = hidden[list(SOURCES)].to_numpy() @ np.array(weights.as_tuple())
        total += scores[group["is_right"]].sum() - math.log(np.exp(scores).sum())
    return total / len(groups)


def test_fitted_weights_are_likelier_and_never_negative() -> None:
    rows, default = anchors(1_000), PoolWeights(1.0, 0.5, 0.5, 0.1)
    fitted = fit_weights(rows, default)
    assert fitted.n_anchors == 1_000
    assert fitted.log_likelihood_default == pytest.approx(log_likelihood(rows, default), abs=1e-9)
    assert fitted.log_likelihood_fitted == pytest.approx(log_likelihood(rows, fitted.weights), abs=1e-9)
    assert fitted.log_likelihood_fitted > fitted.log_likelihood_default + 0.1
    assert min(fitted.weights.as_tuple()) >= 0
    # Pairs mislead here: they are left out, not turned round.
    assert fitted.weights.pair == 0
    assert fitted.weights.outcome > default.outcome
    assert fit_weights(rows.sort_values("outcome_evidence"), default).weights == fitted.weights


def test_a_few_anchors_move_the_weights_less_and_too_few_not_at_all() -> None:
    default = PoolWeights(1.0, 0.5, 0.5, 0.1)
    moves = [abs(fit_weights(anchors(n), default).weights.outcome - default.outcome) for n in (60, 1_000)]
    assert moves[0] < moves[1]
    few = fit_weights(anchors(MIN_ANCHORS - 1), default)
    assert (few.weights, few.n_anchors) == (default, MIN_ANCHORS - 1)
    unknown = fit_weights(anchors(MIN_ANCHORS).assign(is_right=False))
    assert (unknown.weights, unknown.n_anchors) == (PoolWeights(), 0)
