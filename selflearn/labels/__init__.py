"""Labels: goals that can be trusted, on the utterance's own words."""

from selflearn.labels.annotation import with_annotation
from selflearn.labels.calibration import (
    MAX_UTTERANCES,
    Calibration,
    FittedCalibration,
    fit_calibration,
    launch_error,
    with_outcomes,
)
from selflearn.labels.labelling import chosen_labels, unsure_intents, weak_labels, with_support
from selflearn.labels.projection import project
from selflearn.labels.spans import Annotation, Span, annotate, bio_tags
from selflearn.labels.tagged import learn_tags
from selflearn.labels.tagging import TagModel, Untagged, Weighed, fit_tags

__all__ = [
    "MAX_UTTERANCES",
    "Annotation",
    "Calibration",
    "FittedCalibration",
    "Span",
    "TagModel",
    "Untagged",
    "Weighed",
    "annotate",
    "bio_tags",
    "chosen_labels",
    "fit_calibration",
    "fit_tags",
    "launch_error",
    "learn_tags",
    "project",
    "unsure_intents",
    "weak_labels",
    "with_annotation",
    "with_outcomes",
    "with_support",
]
