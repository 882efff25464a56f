"""Utterances of the days' turns to vectors.

spark-submit jobs/embed.py --settings settings.yaml --from 2026-01-05 --to 2026-01-11
"""

from selflearn.pipeline.job import main

if __name__ == "__main__":
    main("embed")
