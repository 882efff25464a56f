"""Labels: goals that can be trusted, on the utterance's own words."""

from selflearn.labels.annotation import with_annotation
from selflearn.labels.labelling import weak_labels
from selflearn.labels.projection import project
from selflearn.labels.spans import Annotation, Span, annotate, bio_tags

__all__ = ["Annotation", "Span", "annotate", "bio_tags", "project", "weak_labels", "with_annotation"]
