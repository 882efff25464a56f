"""Rewrites: what is found in a log, what is chosen among it, and what it says of itself."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from random import Random
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from selflearn.graph import weighted
from selflearn.graph.people import person
from selflearn.lakehouse import tables
from selflearn.lakehouse.schema import Table
from selflearn.rewrites import candidates, chances, exits, judged, priors, select_rewrites, transitions
from selflearn.rewrites.judgement import CONFIDENCE
from selflearn.settings import Graph
from selflearn.settings import Rewrites as Settings

AS_OF = date(2026, 2, 1)
SETTINGS = Settings(protected_intents=("cancel",))
Row = dict[str, Any]


class Log:
    """Hand-made evidence, nodes and edges; every case has a context of its own."""

    def __init__(self) -> None:
        self.evidence: list[Row] = []
        self.nodes: list[Row] = []
        self.edges: list[Row] = []

    def said(self, utterance: str, people: str, works: float, goal: str = "alarm", days: int = 5, **node: Any) -> None:
        """Each of the people says it each day; a share of it works, as the goal."""
        frame = f'{{"intent":"{goal}","slots":[]}}'
        case = utterance.partition(":")[0]
        n = float(len(people))
        for age in range(days):
            of_day = {"turn_date": AS_OF - timedelta(days=age), "locale": "en-GB", "source_utterance": utterance}
            sums = {"n": n, "p_sum": n, "friction_sum": n * (1 - works), "n_outcomes": 0.0, "outcome_sum": 0.0}
            gave_up = {"gave_up_sum": n * (1 - works) / 4}
            words = {"context": case, "text": utterance, "users": list(people)}
            self.evidence.append(of_day | sums | gave_up | words | {"kind": "utterance", "target": ""})
            acted = {"n_outcomes": n, "gave_up_sum": 0.0, "users": None}
            self.evidence.append(of_day | sums | acted | {"kind": "reading", "target": frame})
        known = {"as_of": AS_OF, "locale": "en-GB", "utterance_id": utterance, "context": case, "text": utterance}
        counts = {"n_turns": n * days, "n_pairs": 1.0, "n_users": len(set(people)), "n_users_behind": 9}
        sources = [name for name in tables.GRAPH_NODES.schema.fieldNames() if name.endswith("_evidence")]
        best = {
            "goal": frame,
            "rank": 1,
            "posterior": 0.95,
            "posterior_without_one": 0.9,
            "p_nlu": 0.9,
            "friction": 1 - works,
        }
        self.nodes.append(known | counts | dict.fromkeys(sources, 0.0) | best | node)

    def linked(self, source: str, target: str, people: str, p: float = 0.9, days: int = 5) -> None:
        n = float(len(people))
        for age in range(days):
            of_day = {"turn_date": AS_OF - timedelta(days=age), "locale": "en-GB", "kind": "pair"}
            ends = {"source_utterance": source, "target": target, "users": list(people)}
            sums = {
                "n": n,
                "p_sum": n * p,
                "friction_sum": n,
                "gave_up_sum": 0.0,
                "n_outcomes": 0.0,
                "outcome_sum": 0.0,
            }
            self.evidence.append(of_day | ends | sums)
        ends = {"source_utterance": source, "target_utterance": target, "locale": "en-GB", "as_of": AS_OF}
        counts = {"n_pairs": n * days, "p_rephrase": p, "n_users": len(set(people)), "n_votes": n, "chance_z": 9.0}
        self.edges.append(ends | counts)

    def pair(self, case: str, people: str = "abcd", fails: float = 0.1, works: float = 0.9, **target: Any) -> None:
        self.said(f"{case}:fails", people, fails)
        self.said(f"{case}:works", people, works, **target)
        self.linked(f"{case}:fails", f"{case}:works", people)

    def served(self, rewrite: str, utterance: str, worked: float, n: float) -> None:
        of_day = {"turn_date": AS_OF, "locale": "en-GB", "kind": "rewrite"}
        ends = {"source_utterance": utterance, "target": rewrite, "users": [f"u{k}" for k in range(int(n))]}
        sums = {
            "n": n,
            "p_sum": n,
            "friction_sum": n - worked,
            "gave_up_sum": 0.0,
            "n_outcomes": 0.0,
            "outcome_sum": 0.0,
        }
        self.evidence.append(of_day | ends | sums)


def rewrite_of(spark: SparkSession, source: str, target: str) -> str:
    row = spark.range(1).select(F.md5(F.lit(f"{source}\x1f{target}")).alias("id")).first()
    assert row is not None
    return str(row["id"])


def frame(spark: SparkSession, table: Table, rows: list[Row]) -> DataFrame:
    return spark.createDataFrame([tuple(map(row.get, table.schema.fieldNames())) for row in rows], table.schema)


def mined(spark: SparkSession, log: Log, earlier: list[Row]) -> list[Row]:
    """What the stage does, from hand-made rows."""

    def landed(rows: DataFrame) -> DataFrame:
        return spark.createDataFrame(rows.collect(), rows.schema)

    people = {name for row in log.evidence for name in row["users"] or ()}
    hashed = spark.createDataFrame([(name,) for name in people], "name string").select("name", person(F.col("name")))
    of_name = dict(map(tuple, hashed.collect()))
    rows = [row | {"users": row["users"] and sorted({of_name[name] for name in row["users"]})} for row in log.evidence]
    evidence = landed(weighted(frame(spark, tables.EVIDENCE, rows), AS_OF, Graph()))
    nodes, edges = frame(spark, tables.GRAPH_NODES, log.nodes), frame(spark, tables.GRAPH_EDGES, log.edges)
    left = landed(exits(evidence))
    chained = landed(chances(transitions(edges, left), 10_000, landed))
    found = landed(
        judged(candidates(evidence, nodes, edges, left, chained, SETTINGS), evidence, priors(nodes), SETTINGS)
    )
    chosen = select_rewrites(found, frame(spark, tables.REWRITES, earlier), AS_OF, SETTINGS)
    assert chosen.columns == tables.REWRITES.schema.fieldNames()
    return [row.asDict() for row in chosen.collect()]


def cases(spark: SparkSession) -> Log:
    log = Log()
    log.pair("plain")
    log.pair("one user", people="a")
    log.pair("another goal", goal="light")
    log.pair("protected", goal="cancel")
    log.pair("read as protected")
    read = {"goal": '{"intent":"cancel","slots":[]}', "rank": 2, "posterior": 0.05, "p_nlu": 0.95}
    log.nodes.append(log.nodes[-2] | read)
    log.pair("works already", fails=0.6)
    log.pair("unsure", posterior=0.5)
    # Whoever says it means an alarm, but most end by calling off what they asked.
    log.pair("chain disagrees")
    log.said("chain disagrees:never mind", "efghijkl", 1.0, goal="cancel")
    log.linked("chain disagrees:fails", "chain disagrees:never mind", "efghijkl")
    # The middle one fails too, less often; the best of all is what it is rewritten to.
    log.pair("chained", people="abcdef", fails=0.05)
    log.said("chained:middle", "abcdef", 0.4)
    log.linked("chained:fails", "chained:middle", "abcdef")
    log.linked("chained:middle", "chained:works", "abcdef")
    log.pair("two targets", people="abcdef")
    log.said("two targets:better", "abcdef", 1.0)
    log.linked("two targets:fails", "two targets:better", "abcd")
    # Each went on to a wording of their own; all of them mean the same.
    log.said("each to another:fails", "abcd", 0.1)
    for who, works in zip("abcd", (0.9, 1.0, 0.9, 0.9), strict=True):
        log.said(f"each to another:{who}", "abcd", works)
        log.linked("each to another:fails", f"each to another:{who}", who)
    log.pair("elsewhere")
    log.nodes[-1]["context"] = "another question"
    for case in ("kept", "turned out bad", "cooling"):
        log.pair(case)
    log.served(rewrite_of(spark, "kept:fails", "kept:works"), "kept:fails", 19.0, 20.0)
    bad = rewrite_of(spark, "turned out bad:fails", "turned out bad:works")
    log.served(bad, "turned out bad:fails", 0.0, 20.0)
    # On and off are known to mean different things, and few say that they do not here; warm and hot are not.
    for room in ("hall", "attic"):
        for word, goal in (("on", "on"), ("off", "off"), ("warm", "heat"), ("hot", "heat")):
            log.said(f"known:{room} {word}", "abcd", 0.9, goal=goal, text=f"{room} {word}")
    for case, fails, works in (("decides", "lamp on", "lamp off"), ("does not decide", "room warm", "room hot")):
        log.said(f"{case}:fails", "abcdef", 0.1, text=fails)
        log.said(f"{case}:works", "abcdef", 0.9, text=works)
        log.linked(f"{case}:fails", f"{case}:works", "abcd")
        for other in ("light", "music"):
            log.said(f"{case}:{other}", "abcdef", 0.9, goal=other)
            log.linked(f"{case}:fails", f"{case}:{other}", "efg")
    # One person pushes a rewrite with a thousand turns on each of twenty days; others say the words now and then.
    log.said("attack:play jazz", "abcdz", 0.3)
    log.said("attack:buy gold", "z", 1.0, days=20)
    log.linked("attack:play jazz", "attack:buy gold", "z", days=20)
    return log


def earlier_rows(spark: SparkSession) -> list[Row]:
    """A rewrite that was retired lately, and one that was retired long ago."""
    rows = []
    for case, days_ago in (("cooling", 10), ("plain", 31)):
        ends = f"{case}:fails", f"{case}:works"
        row = dict.fromkeys(tables.REWRITES.schema.fieldNames(), 0.5) | {
            "as_of": AS_OF - timedelta(days=1),
            "rewrite_id": rewrite_of(spark, *ends),
            "state": "retired",
            "retired_on": AS_OF - timedelta(days=days_ago),
            "n_users": 3,
            "n_days": 2,
        }
        words = ("locale", "context", "text", "target_text", "goal")
        rows.append(row | dict.fromkeys(words, "") | {"utterance_id": ends[0], "target_utterance": ends[1]})
    return rows


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> dict[tuple[str, str], Row]:
    rows = mined(spark, cases(spark), earlier_rows(spark))
    return {(row["utterance_id"], row["target_utterance"]): row for row in rows}


def test_what_is_rewritten_and_what_is_not(found: dict[tuple[str, str], Row]) -> None:
    states = {ends: row["state"] for ends, row in found.items()}
    assert states == {
        ("plain:fails", "plain:works"): "trying",
        ("chained:fails", "chained:works"): "trying",
        ("chained:middle", "chained:works"): "trying",
        ("two targets:fails", "two targets:better"): "trying",
        ("each to another:fails", "each to another:b"): "trying",
        ("does not decide:fails", "does not decide:works"): "trying",
        ("kept:fails", "kept:works"): "kept",
        ("turned out bad:fails", "turned out bad:works"): "retired",
        ("cooling:fails", "cooling:works"): "retired",
    }
    assert found["turned out bad:fails", "turned out bad:works"]["retired_on"] == AS_OF
    assert found["cooling:fails", "cooling:works"]["retired_on"] == AS_OF - timedelta(days=10)


def test_a_rewrite_says_what_stands_behind_it(found: dict[tuple[str, str], Row]) -> None:
    row, kept = found["plain:fails", "plain:works"], found["kept:fails", "kept:works"]
    assert (row["n_users"], row["n_days"], row["max_user_share"]) == (4, 5, 0.25)
    assert row["p_success_lb"] < row["p_success"] < row["target_p_success_lb"] < row["target_p_success"]
    assert 0 < row["chain_p_abandoned"] < row["chain_p_success"] < 1
    assert row["p_better"] > CONFIDENCE
    # What happened to treated turns moves the treated arm, and nothing else.
    moved = {name for name in row if row[name] != kept[name]} - {"rewrite_id", "context"}
    assert moved == {
        *("state", "n_treated", "n_treated_worked", "p_treated_better"),
        *("utterance_id", "text", "target_utterance", "target_text"),
    }
    assert (kept["n_treated"], kept["n_treated_worked"]) == (20, 19)


def random_log(log: Log, case: str, rng: Random) -> None:
    """Wordings of one goal, some of which fail, linked as it falls."""
    names = [f"{case}:{k}" for k in range(rng.randint(2, 6))]
    for name in names:
        log.said(name, "abcdefgh", rng.choice([0.0, 0.1, 0.3, 0.45, 0.8, 1.0]), days=8)
    for source in names:
        for target in names:
            if source != target and rng.random() < 0.6:
                log.linked(source, target, "abcdef", days=3)


def test_no_target_is_rewritten_and_each_wording_once(spark: SparkSession) -> None:
    log, rng = Log(), Random(8)
    for number in range(40):
        random_log(log, f"case {number}", rng)
    rows = mined(spark, log, [])
    assert len(rows) > 20
    targets: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        targets[row["utterance_id"]].append(row["target_utterance"])
    assert all(len(of_source) == 1 for of_source in targets.values())
    assert not targets.keys() & {target for of_source in targets.values() for target in of_source}
    people_went = {(edge["source_utterance"], edge["target_utterance"]) for edge in log.edges}
    assert {(source, target) for source, of_source in targets.items() for target in of_source} <= people_went
