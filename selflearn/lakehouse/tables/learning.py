"""Tables that learning writes, as of a day."""

from __future__ import annotations

from pyspark.sql.types import ArrayType

from selflearn.lakehouse.schema import (
    BELIEVED_GOAL,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTEGER,
    LONG,
    SPAN,
    STRING,
    Table,
    columns,
    optional,
    probability,
    required,
)

GOAL_VARIANTS = Table(
    "goal_variants",
    columns(
        required("as_of", DATE),
        required("left_locale", STRING),
        required("right_locale", STRING),
        required("left_utterance", STRING),
        required("right_utterance", STRING),
        required("kind", STRING),
        optional("cosine", DOUBLE),
        required("p_same_goal", DOUBLE),
    ),
    key=("as_of", "left_utterance", "right_utterance"),
    partition=("as_of",),
    checks={
        **probability("p_same_goal"),
        "kind_is_known": "kind IN ('exact', 'semantic')",
        "ends_are_in_order": "left_utterance < right_utterance",
    },
)

VARIANT_MODELS = Table(
    "variant_models",
    columns(
        required("as_of", DATE),
        required("encoder_id", STRING),
        required("content", STRING),
    ),
    key=("as_of",),
    partition=("as_of",),
)

GRAPH_NODES = Table(
    "graph_nodes",
    columns(
        required("as_of", DATE),
        required("locale", STRING),
        required("utterance_id", STRING),
        required("context", STRING),
        required("text", STRING),
        required("goal", STRING),
        required("rank", INTEGER),
        required("posterior", DOUBLE),
        required("posterior_without_one", DOUBLE),
        required("nlu_evidence", DOUBLE),
        required("outcome_evidence", DOUBLE),
        required("pair_evidence", DOUBLE),
        required("variant_evidence", DOUBLE),
        required("prior_evidence", DOUBLE),
        required("p_nlu", DOUBLE),
        required("n_turns", DOUBLE),
        required("n_pairs", DOUBLE),
        required("friction", DOUBLE),
        required("n_users", LONG),
        required("n_users_behind", LONG),
    ),
    key=("as_of", "utterance_id", "goal"),
    partition=("as_of",),
    checks=probability("posterior", "posterior_without_one", "p_nlu"),
)

GRAPH_EDGES = Table(
    "graph_edges",
    columns(
        required("as_of", DATE),
        required("locale", STRING),
        required("source_utterance", STRING),
        required("target_utterance", STRING),
        required("n_pairs", DOUBLE),
        required("p_rephrase", DOUBLE),
        required("n_users", LONG),
        required("n_votes", DOUBLE),
        required("chance_z", DOUBLE),
    ),
    key=("as_of", "source_utterance", "target_utterance"),
    partition=("as_of",),
    checks=probability("p_rephrase"),
)

AMBIGUOUS_UTTERANCES = Table(
    "ambiguous_utterances",
    columns(
        required("as_of", DATE),
        required("locale", STRING),
        required("utterance_id", STRING),
        required("context", STRING),
        required("text", STRING),
        required("goals", ArrayType(BELIEVED_GOAL)),
        required("n_users", LONG),
    ),
    key=("as_of", "utterance_id"),
    partition=("as_of",),
)

REWRITES = Table(
    "rewrites",
    columns(
        required("as_of", DATE),
        required("rewrite_id", STRING),
        required("state", STRING),
        optional("retired_on", DATE),
        required("locale", STRING),
        required("context", STRING),
        required("utterance_id", STRING),
        required("text", STRING),
        required("target_utterance", STRING),
        required("target_text", STRING),
        required("goal", STRING),
        required("p_goal", DOUBLE),
        required("p_success", DOUBLE),
        required("p_success_lb", DOUBLE),
        required("target_p_success", DOUBLE),
        required("target_p_success_lb", DOUBLE),
        required("p_better", DOUBLE),
        required("chain_p_success", DOUBLE),
        required("chain_p_abandoned", DOUBLE),
        required("n_users", LONG),
        required("n_days", LONG),
        required("max_user_share", DOUBLE),
        required("n_organic", DOUBLE),
        required("n_organic_worked", DOUBLE),
        required("n_treated", DOUBLE),
        required("n_treated_worked", DOUBLE),
        required("p_treated_better", DOUBLE),
    ),
    key=("as_of", "rewrite_id"),
    partition=("as_of",),
    checks={
        **probability(
            "p_goal",
            "p_success",
            "p_success_lb",
            "target_p_success",
            "target_p_success_lb",
            "p_better",
            "chain_p_success",
            "chain_p_abandoned",
            "max_user_share",
            "p_treated_better",
        ),
        "state_is_known": "state IN ('trying', 'kept', 'retired')",
        "target_is_another": "utterance_id <> target_utterance",
        "retired_has_its_day": "(state = 'retired') = (retired_on IS NOT NULL)",
    },
    published=True,
)

WEAK_LABELS = Table(
    "weak_labels",
    columns(
        required("as_of", DATE),
        required("locale", STRING),
        required("utterance_id", STRING),
        required("context", STRING),
        required("text", STRING),
        required("goal", STRING),
        required("intent", STRING),
        required("slots", ArrayType(SPAN)),
        required("is_intent_only", BOOLEAN),
        required("annotated_utterance", STRING),
        required("p_correct", DOUBLE),
        required("p_correct_lb", DOUBLE),
        optional("nlu_goal", STRING),
        required("is_new", BOOLEAN),
        required("n_turns", DOUBLE),
        required("n_pairs", DOUBLE),
        required("n_users", LONG),
        required("n_users_behind", LONG),
        required("friction", DOUBLE),
        required("reason", STRING),
    ),
    key=("as_of", "utterance_id"),
    partition=("as_of",),
    checks=probability("p_correct", "p_correct_lb"),
    published=True,
)
