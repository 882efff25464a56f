"""A weak label explained from the lake's tables, without Spark: a tree from its goal down to masked turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.text import Text
from rich.tree import Tree

from selflearn.detect.items import Item, goal_values
from selflearn.errors import DataError
from selflearn.graph import window_days
from selflearn.report.utterance import newest_day, read_rows, short_goal
from selflearn.settings import Graph

_SHOWN = 5
_SHOWN_POSTERIOR = 0.01

Row = dict[str, Any]


@dataclass(frozen=True)
class LabelExplanation:
    """One label, and what stands behind it.

    Attributes:
        label: its row of `tables.WEAK_LABELS`.
        goals: rows of `tables.GRAPH_NODES`, the most probable first.
        links: rows of `tables.GRAPH_EDGES` at either end, most pairs first, with the `other` utterance's node, and
            `pairs`, rows of `tables.REPHRASE_PAIRS` with both turns.
        merges: rows of `tables.REPHRASE_PAIRS` with both turns, whose readings together are the label's goal; surest
            first.
        neighbours: rows of `tables.GOAL_VARIANTS` with the `other` utterance's node, the likeliest first.
        turns: rows of `tables.TURNS` in which it was said, the newest first, with `p_friction`.
    """

    label: Row
    goals: Sequence[Row]
    links: Sequence[Row]
    merges: Sequence[Row]
    neighbours: Sequence[Row]
    turns: Sequence[Row]


def explain_label(lake: str, text: str, settings: Graph, as_of: date | None = None) -> list[LabelExplanation]:
    """Explain the labels of these words, one for each locale and context.

    Raises:
        DataError: the lake holds no graph of that day, or no label of these words.
    """
    day = as_of or newest_day(lake)
    is_day = pc.field("as_of") == pc.scalar(day)
    labels = read_rows(lake, "weak_labels", is_day & (pc.field("text") == text)).to_pylist()
    if not labels:
        raise DataError(
            f"{lake} holds no label of {text!r} as of {day}",
            "give the words as they stand in table weak_labels; `selflearn explain utterance` tells of any others",
        )
    labels.sort(key=lambda label: label["utterance_id"])
    return [_explained(lake, label, is_day, window_days(day, settings), settings) for label in labels]


def label_tree(explanation: LabelExplanation) -> Tree:
    """The label, its support and votes, the goals it was chosen from, links, neighbours, and the turns themselves."""
    label = explanation.label
    where = ", ".join(part for part in (label["locale"], label["context"]) if part)
    goal = short_goal(label["goal"]) if label["goal"] else f"{label['intent']}, the intent alone"
    tree = Tree(Text(f"{label['annotated_utterance']!r} ({where}) as of {label['as_of']}: {goal}", style="bold"))
    slots = "" if label["p_slots"] is None else f", its values, were the intent right, with {label['p_slots']:.2f}"
    tree.add(
        f"{'new' if label['is_new'] else 'confirms the NLU'}; right with {label['p_correct']:.2f} (at least "
        f"{label['p_correct_lb']:.2f}), its intent with {label['p_intent']:.2f}{slots}"
    )
    tree.add(Text(label["reason"]))
    tree.add(
        f"support: {label['n_users']} people on {label['n_days']} days, {label['n_users_behind']} behind the goal; "
        f"{label['n_turns']:.1f} turns, {label['n_pairs']:.1f} pairs with {label['n_edges']} other wordings"
    )
    votes = tree.add("votes, by how much log evidence")
    for vote in label["votes"]:
        way = "for it" if vote["lead"] > 0 else "against it"
        votes.add(f"{vote['signal']}: {way}, {vote['lead']:+.2f}" if vote["lead"] else f"{vote['signal']}: none")
    goals = tree.add("goals it was chosen from")
    for row in explanation.goals:
        goals.add(Text(f"{row['posterior']:.2f} {short_goal(row['goal'])}, the NLU {row['p_nlu']:.2f}"))
    _add_merges(tree, explanation)
    _add_links(tree, explanation)
    said = tree.add(f"said in {len(explanation.turns)} turns of the window")
    for turn in explanation.turns[:_SHOWN]:
        said.add(Text(_turn(turn)))
    return tree


def _add_merges(tree: Tree, explanation: LabelExplanation) -> None:
    """Which pairs of turns the goal was put together from, and what of it each turn's reading gave."""
    if not explanation.merges:
        return
    goal = explanation.goals[0]
    branch = tree.add(
        f"merged of two readings in pairs of turns: {len(explanation.merges)}; {goal['merge_evidence']:+.2f} of the "
        f"{goal['pair_evidence']:+.2f} log evidence of pairs for it"
    )
    for pair in explanation.merges[:_SHOWN]:
        kept, new = _parts(pair)
        chances = f"p_rephrase {pair['p_rephrase']:.2f}, then meant with {pair['p_merged']:.2f}"
        turns = branch.add(Text(f"{_listed(kept)} kept of the first, {_listed(new)} of the second; {chances}"))
        for end in ("source", "target"):
            turns.add(Text(_turn(pair[end])))


def _parts(pair: Row) -> tuple[list[Item], list[Item]]:
    """The merged goal's values that the second turn's reading does not have, and those that it has."""
    again = set(goal_values(pair["target"].get("goal") or pair["merged_goal"]))
    merged = goal_values(pair["merged_goal"])
    return [item for item in merged if item not in again], [item for item in merged if item in again]


def _listed(items: Sequence[Item]) -> str:
    return ", ".join(f"{slot} {value}" for slot, value in sorted(items)) or "nothing"


def _add_links(tree: Tree, explanation: LabelExplanation) -> None:
    own = explanation.label["utterance_id"]
    for title, links in (("said again", explanation.links), ("wordings like it", explanation.neighbours)):
        branch = tree.add(f"{title}: {len(links)}")
        for link in links[:_SHOWN]:
            other = link["other"]
            of = f"{other.get('text', '?')!r}, {short_goal(other.get('goal'))} with {other.get('posterior', 0):.2f}"
            if "p_same_goal" in link:
                branch.add(Text(f"one goal with {link['p_same_goal']:.2f}: {of}"))
                continue
            way = "as" if link["source_utterance"] == own else "after"
            people = f"{link['n_users']} people, p {link['p_rephrase']:.2f}"
            leaf = branch.add(Text(f"{link['n_pairs']:.1f} times {way} {of}; {people}"))
            for pair in link["pairs"][:_SHOWN]:
                turns = leaf.add(f"p_rephrase {pair['p_rephrase']:.2f}")
                for end in ("source", "target"):
                    turns.add(Text(_turn(pair[end])))


def _explained(lake: str, label: Row, is_day: pc.Expression, days: Sequence[date], settings: Graph) -> LabelExplanation:
    own = label["utterance_id"]
    goals = read_rows(lake, "graph_nodes", is_day & (pc.field("utterance_id") == own)).to_pylist()
    links = _at_either_end(lake, "graph_edges", is_day, own, ("source_utterance", "target_utterance"))
    variants = _at_either_end(lake, "goal_variants", is_day, own, ("left_utterance", "right_utterance"))
    links.sort(key=lambda link: (-link["n_pairs"], link["other_id"]))
    variants.sort(key=lambda link: (-link["p_same_goal"], link["other_id"]))
    shown = [*links[:_SHOWN], *variants[:_SHOWN]]
    others = _tops(lake, is_day, [link["other_id"] for link in shown])
    for link in [*links, *variants]:
        link["other"] = others.get(link["other_id"], {})
    is_in_window = pc.field("turn_date").isin(list(days))
    is_probable = pc.field("p_rephrase") >= settings.min_pair_probability
    for link in links[:_SHOWN]:
        ends = (pc.field(end) == link[end] for end in ("source_utterance", "target_utterance"))
        found = read_rows(lake, "rephrase_pairs", is_in_window & next(ends) & next(ends)).to_pylist()
        link["pairs"] = sorted(found, key=lambda pair: -pair["p_rephrase"])[:_SHOWN]
    goal = label["goal"] or next((row["goal"] for row in goals if row["rank"] == 1), None)
    merges = _merges(lake, is_in_window & is_probable, own, goal)
    _with_turns(lake, is_in_window, [*merges[:_SHOWN], *(pair for link in links[:_SHOWN] for pair in link["pairs"])])
    turns = _turns(lake, is_in_window & (pc.field("utterance_id") == own))
    kept = [row for row in goals if row["posterior"] >= _SHOWN_POSTERIOR]
    return LabelExplanation(label, sorted(kept, key=lambda row: row["rank"]), links, merges, variants, turns)


def _merges(lake: str, condition: pc.Expression, own: str, goal: str | None) -> list[Row]:
    """Pairs of which the utterance is the first turn and the goal what both readings make together."""
    is_merge = (pc.field("source_utterance") == own) & (pc.field("merged_goal") == goal) & (pc.field("p_merged") > 0)
    pairs: list[Row] = read_rows(lake, "rephrase_pairs", condition & is_merge).to_pylist()
    return sorted(pairs, key=lambda pair: (-pair["p_rephrase"] * pair["p_merged"], pair["source_turn_id"]))


def _at_either_end(lake: str, table: str, is_day: pc.Expression, own: str, ends: tuple[str, str]) -> list[Row]:
    left, right = ends
    is_own = (pc.field(left) == own) | (pc.field(right) == own)
    rows: list[Row] = read_rows(lake, table, is_day & is_own).to_pylist()
    for row in rows:
        row["other_id"] = row[right] if row[left] == own else row[left]
        row["pairs"] = []
    return rows


def _tops(lake: str, is_day: pc.Expression, utterances: Sequence[str]) -> dict[str, Row]:
    is_top = is_day & (pc.field("rank") == 1) & _is_in("utterance_id", utterances)
    return {row["utterance_id"]: row for row in read_rows(lake, "graph_nodes", is_top).to_pylist()}


def _with_turns(lake: str, is_in_window: pc.Expression, pairs: Sequence[Row]) -> None:
    ids = [pair[f"{end}_turn_id"] for pair in pairs for end in ("source", "target")]
    found = {turn["turn_id"]: turn for turn in _turns(lake, is_in_window & _is_in("turn_id", ids))}
    for pair in pairs:
        for end in ("source", "target"):
            pair[end] = found.get(pair[f"{end}_turn_id"], {"turn_id": pair[f"{end}_turn_id"]})


def _turns(lake: str, condition: pc.Expression) -> list[Row]:
    columns = ["turn_id", "ts", "text", "goal", "response"]
    turns: list[Row] = read_rows(lake, "turns", condition, columns).to_pylist()
    ids = _is_in("turn_id", [turn["turn_id"] for turn in turns])
    outcomes = read_rows(lake, "turn_outcomes", ids, ["turn_id", "p_friction"]).to_pylist()
    friction = {row["turn_id"]: row["p_friction"] for row in outcomes}
    for turn in turns:
        turn["p_friction"] = friction.get(turn["turn_id"])
    return sorted(turns, key=lambda turn: (turn["ts"], turn["turn_id"]), reverse=True)


def _is_in(name: str, values: Sequence[str]) -> pc.Expression:
    return pc.field(name).isin(pa.array(values, pa.string()))


def _turn(turn: Row) -> str:
    if "text" not in turn:
        return f"{turn['turn_id']}, beyond the window"
    failed = "" if turn["p_friction"] is None else f", failed with {turn['p_friction']:.2f}"
    answer = f" -> {turn['response']!r}" if turn["response"] else ""
    return f"{turn['turn_id']}: {turn['text']!r} read as {short_goal(turn['goal'])}{failed}{answer}"
