"""Graph: daily evidence per edge, and what each utterance means in view of all of it."""

from selflearn.graph.context import by_words, fit_strengths
from selflearn.graph.evidence import cap_users, evidence
from selflearn.graph.inference import (
    ambiguous_utterances,
    anchor_candidates,
    graph_edges,
    graph_nodes,
    outcome_candidates,
)
from selflearn.graph.messages import first_messages, links, merge_messages
from selflearn.graph.pool import own_beliefs, pool_evidence
from selflearn.graph.refit import GoalIntents, Refit, Said, Vectors, goal_intents, with_refit
from selflearn.graph.rounds import fit_refit
from selflearn.graph.significance import significant
from selflearn.graph.weights import (
    FIRST,
    FittedWeights,
    PoolWeights,
    fit_to_outcomes,
    fit_weights,
    launch_calibration_error,
)
from selflearn.graph.window import Window, goal_masses, goal_names, goal_prior, sum_window, weighted, window_days

__all__ = [
    "FIRST",
    "FittedWeights",
    "GoalIntents",
    "PoolWeights",
    "Refit",
    "Said",
    "Vectors",
    "Window",
    "ambiguous_utterances",
    "anchor_candidates",
    "by_words",
    "cap_users",
    "evidence",
    "first_messages",
    "fit_refit",
    "fit_strengths",
    "fit_to_outcomes",
    "fit_weights",
    "goal_intents",
    "goal_masses",
    "goal_names",
    "goal_prior",
    "graph_edges",
    "graph_nodes",
    "launch_calibration_error",
    "links",
    "merge_messages",
    "outcome_candidates",
    "own_beliefs",
    "pool_evidence",
    "significant",
    "sum_window",
    "weighted",
    "window_days",
    "with_refit",
]
