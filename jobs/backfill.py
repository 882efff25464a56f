"""All that was not mined yet, oldest day first, then learning as of the last day; killed, it goes on when run again.

spark-submit jobs/backfill.py --settings settings.yaml --from 2026-01-05 --to 2026-03-31
"""

from selflearn.pipeline.job import backfill_main

if __name__ == "__main__":
    backfill_main()
