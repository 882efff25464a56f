"""Turns to rephrase pairs and turn outcomes.

spark-submit jobs/detect.py --settings settings.yaml --from 2026-01-05 --to 2026-01-11
"""

from selflearn.pipeline.job import main

if __name__ == "__main__":
    main("detect")
