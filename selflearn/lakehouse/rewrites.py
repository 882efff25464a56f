"""The table of rewrites, as `tables` declares the others: beside them for its length."""

from __future__ import annotations

from selflearn.lakehouse.schema import DATE, DOUBLE, LONG, STRING, Table, columns, optional, probability, required

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
