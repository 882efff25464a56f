"""Report: what was mined, for people; reads the lake without Spark."""

from selflearn.report.summary import mined_table, sample_labels_table, stage_line

__all__ = ["mined_table", "sample_labels_table", "stage_line"]
