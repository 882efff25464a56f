"""Upkeep of the tables of mining: days beyond their time go, files are made large, those that nothing refers to go.

spark-submit jobs/maintain_mining.py --settings settings.yaml --from 2026-01-11
"""

from selflearn.pipeline.job import main

if __name__ == "__main__":
    main("maintain_mining")
