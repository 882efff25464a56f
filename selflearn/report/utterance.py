"""An utterance explained from the lake's tables, without Spark: its component, where its chain ends, its rewrite."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from rich.table import Table

from selflearn.errors import DataError
from selflearn.graph import window_days
from selflearn.rewrites.components import components
from selflearn.rewrites.transitions import solve
from selflearn.settings import Graph

_SHOWN = 12
_LINKS = ("source_utterance", "target_utterance")
_SAID = ("locale", "context", "text", "goal", "posterior", "friction", "n_turns")

Row = dict[str, Any]


@dataclass(frozen=True)
class UtteranceExplanation:
    """One utterance in its component.

    Attributes:
        component: every utterance of it with `_SAID` columns and its `community`, links with
            `mass, p_rephrase, n_users`. Communities are more linked within than with the rest (Louvain; the largest
            is 1).
        chain: goal (or None), `p_success` and `p_abandoned` of people who begin with it.
        rewrites: its rows of `tables.REWRITES`.
    """

    utterance_id: str
    as_of: date
    component: nx.DiGraph[str]
    chain: Mapping[str, Any]
    rewrites: Sequence[Row]


def explain_utterance(lake: str, text: str, settings: Graph, as_of: date | None = None) -> list[UtteranceExplanation]:
    """Explain the utterance of these words, once for each locale and context in which it is linked.

    Raises:
        DataError: the lake holds no graph of that day, or nobody's words are these.
    """
    day = as_of or newest_day(lake)
    is_day = pc.field("as_of") == pc.scalar(day)
    is_best = is_day & (pc.field("rank") == 1)
    found = read_rows(lake, "graph_nodes", is_best & (pc.field("text") == text), ["utterance_id"])
    if not len(found):
        raise DataError(
            f"{lake} holds no utterance {text!r} as of {day}", "give its words as they stand in table graph_nodes"
        )
    links = read_rows(lake, "graph_edges", is_day, [*_LINKS, "n_pairs", "p_rephrase", "n_users"])
    coded = pa.concat_arrays([links[end].combine_chunks() for end in _LINKS]).dictionary_encode()
    source, target = np.split(coded.indices.to_numpy().astype(np.int64), 2)
    vertices, component = components(source, target)
    place = {name: k for k, name in enumerate(coded.dictionary.to_pylist())}
    explained = []
    for utterance in sorted(found["utterance_id"].to_pylist()):
        is_own = np.zeros(len(links), dtype=bool)
        if utterance in place:
            of_vertex = dict(zip(vertices.tolist(), component.tolist(), strict=True))
            is_own = component[np.searchsorted(vertices, source)] == of_vertex[place[utterance]]
        graph = _graph(lake, utterance, is_best, links.filter(pa.array(is_own)).to_pylist())
        chain = _chain(lake, graph, window_days(day, settings), settings).get(utterance, {})
        rewrites = read_rows(lake, "rewrites", is_day & (pc.field("utterance_id") == utterance)).to_pylist()
        explained.append(UtteranceExplanation(utterance, day, graph, chain, rewrites))
    return explained


def utterance_table(explanation: UtteranceExplanation) -> Table:
    """The wordings that people went on to, most of them first; the title tells the rest."""
    graph = explanation.component
    own = graph.nodes[explanation.utterance_id]
    table = Table(title=_title(explanation, own), title_justify="left", box=None)
    for name in ("went on to", "goal", "times", "p rephrase", "people", "fails", "community"):
        table.add_column(name, justify="left" if name in ("went on to", "goal") else "right", overflow="fold")
    out = sorted(graph.out_edges(explanation.utterance_id, data=True), key=lambda edge: (-edge[2]["mass"], edge[1]))
    for _, to, link in out[:_SHOWN]:
        other = graph.nodes[to]
        numbers = (f"{link['mass']:.1f}", f"{link['p_rephrase']:.2f}", str(link["n_users"]))
        about = (_percent(other.get("friction")), str(other["community"]))
        table.add_row(other.get("text", to), short_goal(other.get("goal")), *numbers, *about)
    return table


def write_graphml(explanation: UtteranceExplanation, file: Path) -> None:
    """Write the component as GraphML, which Gephi, yEd and Cytoscape read."""
    nx.write_graphml(explanation.component, file)


def _title(explanation: UtteranceExplanation, own: Mapping[str, Any]) -> str:
    graph, chain = explanation.component, explanation.chain
    where = f"{own['locale']}, context {own['context']!r}" if own["context"] else own["locale"]
    lines = [
        f"{own['text']!r} ({where}) as of {explanation.as_of}: {short_goal(own['goal'])} with {own['posterior']:.2f}, "
        f"fails {_percent(own['friction'])} of {own['n_turns']:.1f} times",
        f"component: {len(graph):,} wordings, {graph.number_of_edges():,} links, "
        f"{max(graph.nodes[of]['community'] for of in graph):,} communities; this one is in {own['community']}",
    ]
    if chain:
        ends = f"{short_goal(chain['goal'])} {_percent(chain['p_success'])}, " if chain["goal"] else ""
        lines.append(f"who begins with it ends: {ends}giving up {_percent(chain['p_abandoned'])}")
    lines += [
        f"rewrite {row['state']}: {row['target_text']!r} works {_percent(row['target_p_success'])} of the time "
        f"(at least {_percent(row['target_p_success_lb'])}), the wording itself {_percent(row['p_success'])}; "
        f"{row['n_users']} people on {row['n_days']} days; treated {row['n_treated']:.1f} times, better with "
        f"{row['p_treated_better']:.2f}"
        for row in explanation.rewrites
    ]
    return "\n".join(lines if explanation.rewrites else [*lines, "no rewrite"])


def _graph(lake: str, utterance: str, is_best: pc.Expression, links: Sequence[Row]) -> nx.DiGraph[str]:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node(utterance)
    for link in links:
        numbers = {"p_rephrase": link["p_rephrase"], "n_users": link["n_users"]}
        graph.add_edge(*(link[end] for end in _LINKS), mass=link["n_pairs"] * link["p_rephrase"], **numbers)
    is_member = pc.field("utterance_id").isin(list(graph))
    for row in read_rows(lake, "graph_nodes", is_best & is_member, ["utterance_id", *_SAID]).to_pylist():
        graph.nodes[row.pop("utterance_id")].update(row)
    found = nx.community.louvain_communities(graph.to_undirected(), weight="mass", seed=1)
    for number, members in enumerate(sorted(found, key=lambda of: (-len(of), min(of))), start=1):
        nx.set_node_attributes(graph, dict.fromkeys(members, number), "community")
    return graph


def _chain(lake: str, graph: nx.DiGraph[str], days: Sequence[date], settings: Graph) -> dict[str, Row]:
    """Where people end who begin with each of the component's utterances, from the window's evidence."""
    names = sorted(graph)
    if len(names) < 2:
        return {}
    place = {name: k for k, name in enumerate(names)}
    rows: list[tuple[int, int | None, int | None, float]] = [
        (place[source], place[target], None, link["mass"]) for source, target, link in graph.edges(data=True)
    ]
    is_said = pc.field("kind").isin(["reading", "utterance"]) & pc.field("source_utterance").isin(names)
    is_in_window = pc.field("turn_date").isin(list(days))
    goals: dict[str, int] = {}
    said = read_rows(lake, "evidence", is_said & is_in_window).to_pylist()
    half_lives = _half_lives(said, settings)
    for row in said:
        is_reading = row["kind"] == "reading"
        mass = max(0.0, row["n_outcomes"] - row["friction_sum"]) if is_reading else row["gave_up_sum"]
        goal = goals.setdefault(row["target"], len(goals)) if is_reading else None
        age = (days[-1] - row["turn_date"]).days
        weight = 0.5 ** (age / half_lives.get(row["source_utterance"], settings.half_life_days))
        rows.append((place[row["source_utterance"]], None, goal, weight * mass))
    columns = zip(*rows, strict=True)
    kinds = {"source": pa.int64(), "target": pa.int64(), "goal": pa.int64(), "mass": pa.float64()}
    masses = pa.table({name: pa.array(column, kinds[name]) for name, column in zip(kinds, columns, strict=True)})
    goal_names = list(goals)
    return {
        names[row["utterance"]]: row | {"goal": None if row["goal"] is None else goal_names[row["goal"]]}
        for row in solve(masses).to_pylist()
    }


def _half_lives(said: Sequence[Row], settings: Graph) -> dict[str, float]:
    """Half-life of each utterance, by its likeliest reading of any day, as windows have it."""
    likeliest: dict[str, tuple[float, str]] = {}
    for row in said:
        if row["kind"] == "reading":
            known = likeliest.get(row["source_utterance"], (-1.0, ""))
            likeliest[row["source_utterance"]] = max(known, (row["p_sum"], row["target"]))
    return {
        utterance: settings.half_life_of(str(json.loads(goal)["intent"])) for utterance, (_, goal) in likeliest.items()
    }


def newest_day(lake: str) -> date:
    """The newest day that the lake holds a graph of."""
    try:
        days = [date.fromisoformat(part["as_of"]) for part in DeltaTable(f"{lake}/graph_nodes").partitions()]
    except TableNotFoundError:
        days = []
    if not days:
        raise DataError(f"{lake} holds no graph", "run the stage graph, then explain again")
    return max(days)


def read_rows(lake: str, name: str, condition: pc.Expression, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of one of the lake's tables."""
    try:
        dataset = DeltaTable(f"{lake}/{name}").to_pyarrow_dataset()
    except TableNotFoundError:
        raise DataError(f"{lake} has no table {name}", "run all stages (`selflearn run`), then explain again") from None
    return dataset.to_table(filter=condition, columns=None if columns is None else list(columns))


def short_goal(goal: str | None) -> str:
    """A goal in few words: its intent, and its values."""
    if goal is None or not goal.startswith("{"):
        return goal or "?"
    frame = json.loads(goal)
    values = ", ".join(f"{slot['name']} {slot['value']}" for slot in frame["slots"])
    return f"{frame['intent']} ({values})" if values else str(frame["intent"])


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{share:.0%}"
