"""Stages as they run: from tables to tables, with manifests. The same code serves the CLI and `jobs/`."""

from selflearn.pipeline.days import day_range
from selflearn.pipeline.run import LEARNING, MINING, STAGES, run_pipeline
from selflearn.pipeline.stage import Stage, run_stage

__all__ = ["LEARNING", "MINING", "STAGES", "Stage", "day_range", "run_pipeline", "run_stage"]
