"""Erasure of the users who asked for it (`maintenance.erasure_requests`), unless they were erased before.

spark-submit jobs/forget.py --settings settings.yaml --from 2026-01-11
"""

from selflearn.pipeline.job import forget_main

if __name__ == "__main__":
    forget_main()
