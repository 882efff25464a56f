"""A simulated deployment with a real NLU in the loop: people say what others wrote, and say it again where it fails."""

from selflearn.simulate.deployment.conversation import LEAST_SURE, is_right
from selflearn.simulate.deployment.traffic import Asked, Assistant, Deployment, Rewrite, Told, World
from selflearn.simulate.deployment.wordings import (
    Division,
    Wording,
    divide,
    read_wordings,
    sample_wordings,
    wordings_of,
)

__all__ = [
    "LEAST_SURE",
    "Asked",
    "Assistant",
    "Deployment",
    "Division",
    "Rewrite",
    "Told",
    "Wording",
    "World",
    "divide",
    "is_right",
    "read_wordings",
    "sample_wordings",
    "wordings_of",
]
