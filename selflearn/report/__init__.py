"""Report: what was mined, for people; reads the lake without Spark."""

from selflearn.report.evaluation import plot_evaluation, score_table, threshold_table
from selflearn.report.explanation import explain_pair, explanation_table, plot_waterfall
from selflearn.report.label import explain_label, label_tree
from selflearn.report.labels import label_score_table, vote_table
from selflearn.report.model import model_table, read_pair_model
from selflearn.report.releases import difference_table, issues_table, releases_table, vetoes_table
from selflearn.report.summary import mined_table, sample_labels_table, stage_line
from selflearn.report.utterance import explain_utterance, utterance_table, write_graphml
from selflearn.report.variants import plot_reliability, reliability_table

__all__ = [
    "difference_table",
    "explain_label",
    "explain_pair",
    "explain_utterance",
    "explanation_table",
    "issues_table",
    "label_score_table",
    "label_tree",
    "mined_table",
    "model_table",
    "plot_evaluation",
    "plot_reliability",
    "plot_waterfall",
    "read_pair_model",
    "releases_table",
    "reliability_table",
    "sample_labels_table",
    "score_table",
    "stage_line",
    "threshold_table",
    "utterance_table",
    "vetoes_table",
    "vote_table",
    "write_graphml",
]
