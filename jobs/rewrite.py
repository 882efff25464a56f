"""Graph and evidence of a window to rewrites, as of the last day.

spark-submit jobs/rewrite.py --settings settings.yaml --from 2026-01-05 --to 2026-01-11
"""

from selflearn.pipeline.job import main

if __name__ == "__main__":
    main("rewrite")
