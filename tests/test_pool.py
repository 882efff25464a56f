"""The goal posterior: Spark's joins and sums equal a plain pool, and its weights are fitted by likelihood."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import date
from itertools import combinations
from random import Random

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from plain_pool import MANY_PEOPLE, SETTINGS, WEIGHTS, Graph, plain
from plain_pool import Candidates as PlainCandidates
from selflearn.graph import (
    Window,
    ambiguous_utterances,
    anchor_candidates,
    by_words,
    first_messages,
    goal_masses,
    goal_names,
    goal_prior,
    graph_edges,
    graph_nodes,
    links,
    merge_messages,
    outcome_candidates,
    own_beliefs,
    pool_evidence,
)
from selflearn.graph.candidates import LEAST, OTHER
from selflearn.graph.people import person, sketch
from selflearn.graph.refit import folds
from selflearn.graph.weights import SOURCES
from selflearn.graph.window import goal_id
from selflearn.lakehouse import tables
from selflearn.lakehouse.tables import OTHER_GOAL

AS_OF = date(2025, 1, 31)
READING = ("goal", "p_sum", "n_outcomes", "outcome_sum")


def as_window(spark: SparkSession, graphs: dict[str, Graph]) -> Window:
    said, read, linked, merged = [], [], [], []
    for locale, graph in graphs.items():
        for name, n in graph.utterances.items():
            users = graph.users.get(name, "u")
            words = graph.words.get(name, name)
            said += [(locale, f"{locale}|{name}", name, words, n, 0.25, user) for user in users]
        read += [(locale, f"{locale}|{name}", goal, *row) for (name, goal), row in graph.readings.items()]
        linked += [
            (locale, *(f"{locale}|{end}" for end in ends), *row, 1.0, False, user)
            for ends, row in graph.pairs.items()
            for user in graph.pair_users.get(ends, MANY_PEOPLE)
        ]
        merged += [
            (locale, f"{locale}|{name}", goal, *row, 1.0, False, user)
            for (name, goal), row in graph.merges.items()
            for user in graph.pair_users.get((name, goal), MANY_PEOPLE)
        ]
    of_locale = "locale string, utterance_id string"
    ends = "locale string, source_utterance string, target_utterance string"
    utterances = spark.createDataFrame(
        said, f"{of_locale}, context string, text string, n double, friction double, user string"
    )
    readings = spark.createDataFrame(
        read, f"{of_locale}, goal string, p_sum double, n_outcomes double, outcome_sum double"
    )
    votes = "n double, p double, weight double, is_one_voice boolean, user string"
    pairs = spark.createDataFrame(linked, f"{ends}, {votes}")
    merges = spark.createDataFrame(merged, f"{of_locale}, goal string, {votes}")

    def sketched(rows: DataFrame) -> DataFrame:
        names = [name for name in rows.columns if name != "user"]
        return rows.groupBy(*names).agg(sketch(person(F.col("user"))).alias("users"))

    listed = readings.groupBy("locale", "utterance_id").agg(
        F.collect_list(F.struct(F.lit(AS_OF).alias("turn_date"), *READING)).alias("readings")
    )
    said_on = F.array(F.struct(F.lit(AS_OF).alias("turn_date"), F.lit(1.0).alias("weight"), "users"))
    once = sketched(utterances).withColumn("said_on", said_on)
    read = once.join(listed, ["locale", "utterance_id"], "left")
    read = read.withColumn("readings", F.coalesce("readings", F.array()))
    return Window(read, sketched(pairs), sketched(merges), readings)


def as_variants(spark: SparkSession, graphs: dict[str, Graph]) -> DataFrame:
    """The graphs' variants; whatever else is there are exact ones, which tell nothing new."""
    rows = []
    for locale, graph in graphs.items():
        for ends in combinations(sorted(graph.utterances), 2):
            kind = "semantic" if ends in graph.variants else "exact"
            rows.append((kind, *(f"{locale}|{end}" for end in ends), graph.variants.get(ends, 0.99)))
    return spark.createDataFrame(rows, "kind string, left_utterance string, right_utterance string, p_same_goal double")


def nodes_of(
    window: Window, variants: DataFrame | None = None, strengths: dict[str, float] | None = None
) -> tuple[DataFrame, DataFrame]:
    """Pooled evidence of a window, and the graph's nodes."""
    masses = goal_masses(window)
    prior = goal_prior(masses)
    beliefs = own_beliefs(by_words(window.utterances), SETTINGS, WEIGHTS, prior, strengths or {})
    messages = first_messages(links(graph_edges(window, AS_OF), variants), beliefs)
    merged = merge_messages(window.merges, masses, prior)
    pooled = pool_evidence(beliefs, messages, merged, SETTINGS, WEIGHTS, prior)
    return pooled, graph_nodes(pooled, goal_names(masses), WEIGHTS, AS_OF)


def found_in(spark: SparkSession, graphs: dict[str, Graph]) -> dict[str, PlainCandidates]:
    found: dict[str, PlainCandidates] = defaultdict(dict)
    strengths = {locale: graph.strength for locale, graph in graphs.items()}
    for row in nodes_of(as_window(spark, graphs), as_variants(spark, graphs), strengths)[1].collect():
        found[row["locale"]][row["utterance_id"].partition("|")[2], row["goal"]] = row.asDict()
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
    some = combinations(sorted(utterances), 2)
    variants = {ends: rng.uniform(0.2, 1) for ends in some if rng.random() < 0.4}
    merges = {
        (name, goal): (rng.uniform(0.1, 9), rng.choice([rng.random(), 1.0]))
        for name in utterances
        for goal in rng.sample(["g1", "g2", "g5", "never read"], rng.randint(0, 2))
    }
    words = {name: rng.choice(["yes", "no", name]) for name in utterances}
    users = {name: MANY_PEOPLE[: rng.randint(1, 16)] for name in utterances}
    pair_users = {ends: MANY_PEOPLE[: rng.randint(1, 16)] for ends in (*pairs, *merges)}
    return Graph(utterances, readings, pairs, variants, merges, users, pair_users, words, rng.uniform(0.1, 5))


def hand_made() -> dict[str, Graph]:
    """One case a locale: `u` is unsure, `v` is sure, and both have the same candidates."""
    unsure = {("u", "right"): (0.4, 0.0, 0.0), ("u", "wrong"): (0.5, 0.0, 0.0)}
    sure = {("v", "right"): (0.9, 0.0, 0.0), ("v", "wrong"): (0.05, 0.0, 0.0)}
    both = {"u": 1.0, "v": 1.0}

    def linked(p: float, n: float = 1.0) -> Graph:
        return Graph(both, unsure | sure, {("u", "v"): (n, p)})

    def failed(times: float) -> Graph:
        return Graph(both, unsure | sure | {("u", "wrong"): (0.5, times, 2.0 * times)})

    def merged(goal: str, by: str = MANY_PEOPLE) -> Graph:
        ends, read = ("u", goal), unsure | sure | {("w", "both"): (0.9, 0.0, 0.0)}
        return Graph(both | {"w": 1.0}, read, merges={ends: (1.0, 0.9)}, pair_users={ends: by})

    step, others = {("u", "v"): (1.0, 0.9)}, dict.fromkeys("vwxyz", 1.0)
    means = {(name, "right"): (0.9, 0.0, 0.0) for name in others}

    def similar(p: float, n: int = 1) -> Graph:
        near = dict(list(others.items())[:n])
        read = {key: row for key, row in means.items() if key[0] in near}
        return Graph({"u": 1.0} | near, unsure | read, variants=dict.fromkeys((("u", name) for name in near), p))

    return {
        "variant": similar(0.9),
        "less similar": similar(0.6),
        "not similar": similar(0.4),
        "five variants": similar(0.9, 5),
        "heard once": Graph({"u": 1.0, "v": 1.0}, sure, variants={("u", "v"): 0.9}),
        "one step": Graph({"u": 1.0, "v": 1.0, "w": 1.0}, unsure | means, step),
        "two steps": Graph({"u": 1.0, "v": 1.0, "w": 1.0}, unsure | means, step, {("v", "w"): 0.9}),
        "alone": Graph(both, unsure | sure),
        "chance": linked(1e-12),
        "pair": linked(0.5),
        "surer pair": linked(0.9),
        "backwards": Graph(both, unsure | sure, {("v", "u"): (1.0, 0.9)}),
        "many pairs": linked(0.9, 16.0),
        "one person's pairs": Graph(both, unsure | sure, {("u", "v"): (16.0, 0.9)}, pair_users={("u", "v"): "a"}),
        "failed once": failed(1.0),
        "failed often": failed(16.0),
        "merged with a reading": merged("right"),
        "merge of its own": merged("both"),
        "one person's merge": merged("both", "a"),
        "merge never read": merged("nobody's"),
        "unread": Graph(both, sure, {("u", "v"): (1.0, 0.9)}),
        "same words": Graph(both, unsure | sure, words={"u": "yes", "v": "yes"}),
        "unread in context": Graph({"u": 1.0, "v": 9.0}, {("v", "right"): (9.0, 0.0, 0.0)}, words={"u": "v"}),
    }


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    rng = Random(17)
    return {f"graph {k}": random_graph(rng) for k in range(40)} | hand_made()


@pytest.fixture(scope="module")
def found(spark: SparkSession, graphs: dict[str, Graph]) -> dict[str, PlainCandidates]:
    return found_in(spark, graphs)


def test_words_of_one_person_are_of_the_fold_of_all_that_they_alone_say(spark: SparkSession) -> None:
    words = {"u0": "same", "u1": "same", "u2": "shared", "u3": "shared"}
    words |= {f"v{k}": f"own {k}" for k in range(8)}
    users = {"u0": "a", "u1": "a", "u2": "a", "u3": "b"} | {f"v{k}": "a" for k in range(8)}
    graph = Graph(
        dict.fromkeys(words, 1.0), {(name, "g1"): (1.0, 0.0, 0.0) for name in words}, users=users, words=words
    )
    pooled, _ = nodes_of(as_window(spark, {"en": graph}))
    fold = {row["utterance_id"].partition("|")[2]: row["fold"] for row in pooled.collect()}
    assert len({fold[name] for name in words if name not in ("u2", "u3")}) == 1
    assert fold["u2"] == fold["u3"] == folds(["shared"], [None])[0]


def test_posterior_equals_the_plain_pool(
    spark: SparkSession, graphs: dict[str, Graph], found: dict[str, PlainCandidates]
) -> None:
    assert found.keys() == graphs.keys()
    goals = [(goal,) for goal in sorted({goal for graph in graphs.values() for _, goal in graph.readings})]
    named = spark.createDataFrame(goals, "goal string").select("goal", goal_id(F.col("goal")))
    ids = dict(named.collect()) | {OTHER_GOAL: OTHER}
    for locale, graph in graphs.items():
        expected = plain(graph, ids)
        assert found[locale].keys() == expected.keys()
        totals: dict[str, float] = defaultdict(float)
        for key, row in expected.items():
            assert {name: found[locale][key][name] for name in row} == pytest.approx(row, abs=1e-9)
            totals[key[0]] += found[locale][key]["posterior"]
        assert totals == pytest.approx(dict.fromkeys(graph.utterances, 1.0))


def test_what_a_pair_and_an_outcome_say(found: dict[str, PlainCandidates]) -> None:
    right = {case: found[case]["u", "right"]["posterior"] for case in hand_made()}
    for key, row in found["alone"].items():
        assert found["chance"][key]["posterior"] == pytest.approx(row["posterior"], abs=1e-9)
    assert right["alone"] < right["pair"] < right["surer pair"] < right["many pairs"]
    assert right["backwards"] == pytest.approx(right["surer pair"], abs=1e-12)
    assert right["alone"] < right["failed once"] < right["failed often"]
    # n expected rephrases, and n outcomes, count as sqrt(n).
    one, many = (found[case]["u", "right"]["pair_evidence"] for case in ("surer pair", "many pairs"))
    assert many == pytest.approx(16 / math.sqrt(16 * 0.9) * one)
    outcomes = [found[case]["u", "wrong"]["outcome_evidence"] for case in ("failed once", "failed often")]
    assert outcomes == pytest.approx([-2.0, -8.0])
    # A goal that the utterance's own NLU never saw comes in by its pair, as one candidate beside the unknown.
    assert {goal for of, goal in found["unread"] if of == "u"} == {"right", "wrong", OTHER_GOAL}
    assert found["unread"]["u", "right"]["p_nlu"] == 0


def test_words_in_a_context_back_off_to_their_other_contexts(found: dict[str, PlainCandidates]) -> None:
    right = {case: found[case]["u", "right"] for case in ("alone", "same words", "unread in context")}
    assert right["same words"]["posterior"] > right["alone"]["posterior"]
    # One turn of its own and one that is lent: of the words' nine turns elsewhere, all mean it.
    elsewhere = (9 + math.exp(right["unread in context"]["prior_evidence"])) / (9 + 1)
    assert math.exp(right["unread in context"]["nlu_evidence"]) == pytest.approx(elsewhere / 2)
    assert right["unread in context"]["p_nlu"] == 0


def test_what_one_person_says_again_and_again_counts_once(found: dict[str, PlainCandidates]) -> None:
    surer, of_one = (found[case]["u", "right"]["pair_evidence"] for case in ("surer pair", "one person's pairs"))
    assert of_one == pytest.approx(surer)
    # What rests on one person is gone without them, and what many say hardly changes.
    alone = found["alone"]["u", "right"]["posterior"]
    assert found["one person's pairs"]["u", "right"]["posterior_without_one"] == pytest.approx(alone)
    right = found["many pairs"]["u", "right"]
    assert alone < right["posterior_without_one"] < right["posterior"] < right["posterior_without_one"] + 0.05


def test_what_both_turns_of_a_caller_mean_together(found: dict[str, PlainCandidates]) -> None:
    with_merge, without = (found[case]["u", "right"] for case in ("merged with a reading", "merge never read"))
    assert with_merge["posterior"] > without["posterior"]
    # A goal that neither turn was read as comes in, if anybody's turn ever was; it says nothing of the other turn.
    row, alone = (found[case]["u", "both"] for case in ("merge of its own", "one person's merge"))
    assert row["merge_evidence"] == pytest.approx(math.log1p(0.9 / 0.1 / math.exp(row["prior_evidence"])))
    assert not {("u", "nobody's"), ("u", "both")} & found["merge never read"].keys()
    assert ("v", "both") not in found["merge of its own"]
    # Nobody stands behind it but who said it, and it is gone without the person whose turns they are.
    assert (row["p_nlu"], row["n_users_behind"], row["n_pairs"]) == (0, 1, 0)
    assert row["posterior_without_one"] == pytest.approx(row["posterior"], rel=0.1)
    assert alone["posterior_without_one"] < alone["posterior"] / 2


def test_what_a_variant_says(found: dict[str, PlainCandidates]) -> None:
    cases = ("alone", "not similar", "less similar", "variant", "five variants")
    right = [found[case]["u", "right"]["posterior"] for case in cases]
    assert right[0] < right[2] < right[3] < right[4]
    # Utterances that more likely mean different things are no neighbours.
    assert found["not similar"]["u", "right"]["variant_evidence"] == 0
    one, five = (found[case]["u", "right"]["variant_evidence"] for case in ("variant", "five variants"))
    assert one < five < 5 * one
    # What the NLU could not read may well mean what its neighbour means, what it read otherwise not so easily.
    unread = found["heard once"]["u", "right"]
    assert unread["p_nlu"] == 0
    assert unread["nlu_evidence"] > math.log(LEAST)
    assert unread["posterior"] > found["alone"]["u", OTHER_GOAL]["posterior"]


def test_second_round_hears_of_the_neighbours_neighbour_but_no_echo(found: dict[str, PlainCandidates]) -> None:
    """Of u, linked to v, linked to w: w's word reaches u through v, u's own word does not come back to it."""
    assert found["one step"]["u", "right"]["pair_evidence"] < found["two steps"]["u", "right"]["pair_evidence"]
    # v hears of u alone, so all it may tell u is what it meant by itself.
    by_itself = found["alone"]["v", "right"]
    told = math.log1p(0.5 / 0.5 * by_itself["posterior"] / math.exp(by_itself["prior_evidence"]))
    assert found["pair"]["u", "right"]["pair_evidence"] == pytest.approx(told, rel=1e-9)
    assert found["pair"]["v", "wrong"]["posterior"] > found["alone"]["v", "wrong"]["posterior"]


def test_readings_of_no_probability_stop_nothing(spark: SparkSession) -> None:
    nothing = Graph({"u": 1.0}, {("u", "g"): (0.0, 1.0, 1.0)})
    rows = found_in(spark, {"en-US": nothing})["en-US"]
    assert sum(row["posterior"] for row in rows.values()) == pytest.approx(1)
    assert rows["u", OTHER_GOAL]["rank"] == 1


def test_utterances_of_several_goals_are_listed(spark: SparkSession) -> None:
    of_either, of_unknown = {"g": 0.45, "h": 0.45, "rare": 0.01}, {"g": 0.001}
    read = {"either": of_either, "sure": {"g": 0.9}, "sure too": {"h": 0.9}, "unknown": of_unknown}
    readings = {(name, goal): (p, 0.0, 0.0) for name, goals in read.items() for goal, p in goals.items()}
    readings["sure", "g"] = (0.9, 1.0, -1.0)
    pooled, nodes = nodes_of(as_window(spark, {"en": Graph(dict.fromkeys(read, 1.0), readings)}))
    rows = ambiguous_utterances(nodes)
    assert rows.columns == tables.AMBIGUOUS_UTTERANCES.schema.fieldNames()
    (row,) = rows.collect()
    assert (row["text"], row["n_users"]) == ("either", 1)
    believed = {of["goal"]: of["posterior"] for of in nodes.where("text = 'either'").collect()}
    assert [(of["goal"], of["posterior"]) for of in row["goals"]] == [(goal, believed[goal]) for goal in ("g", "h")]
    seen = outcome_candidates(pooled)
    assert set(seen["utterance_id"]) == {"en|sure"}
    assert {*SOURCES, "before_evidence"} < set(seen.columns)
    assert sorted(zip(seen["goal"] == OTHER, seen["outcome_evidence"], strict=True)) == [(False, 1.0), (True, 0.0)]


def test_people_behind_a_label_are_counted_once(spark: SparkSession) -> None:
    users = {"a": "xy", "b": "yz", "other goal": "vw", "alone": "xyz", "unknown": "x"}
    means = {"other goal": "h", "unknown": OTHER_GOAL}
    ends = [("a", "b"), ("b", "a"), ("a", "other goal"), ("unknown", "b")]
    readings = {(u, means.get(u, "g")): (1.9, 0.0, 0.0) for u in users if u != "unknown"}
    graph = Graph(dict.fromkeys(users, 2.0), readings, dict.fromkeys(ends, (2.0, 0.1)), users=users)
    window = as_window(spark, {"en": graph})
    pooled, nodes = nodes_of(window)
    assert nodes.columns == tables.GRAPH_NODES.schema.fieldNames()
    found = {(row["text"], row["goal"]): row for row in nodes.collect()}
    assert {u: row["n_users"] for (u, _), row in found.items()} == {u: len(names) for u, names in users.items()}
    behind = {key: row["n_users_behind"] for key, row in found.items() if key[1] == "g"}
    assert behind == {("a", "g"): 3, ("b", "g"): 3, ("other goal", "g"): 4, ("alone", "g"): 3, ("unknown", "g"): 3}
    assert found["a", "h"]["n_users_behind"] == 4
    # Of the unknown only its pair tells anything, and it names what nearly all mean.
    top = {u: goal for (u, goal), row in found.items() if row["rank"] == 1}
    assert top == dict.fromkeys(users, "g") | {"other goal": "h"}
    edges = graph_edges(window, AS_OF)
    assert edges.columns == tables.GRAPH_EDGES.schema.fieldNames()
    assert {tuple(row[f"{end}_utterance"][3:] for end in ("source", "target")) for row in edges.collect()} == set(ends)

    known = [("en|a", "g"), ("en|a", "g"), ("en|b", "g"), ("en|b", "h"), ("en|alone", "new"), ("never said", "g")]
    anchors = anchor_candidates(pooled, spark.createDataFrame(known, "utterance_id string, goal string"))
    assert dict(anchors.groupby("utterance_id")["is_right"].sum()) == {"en|a": 1, "en|alone": 0}
