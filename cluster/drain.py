"""Stop every job of the Ray cluster on this node and wait until each has finished its running shards.

The head's preStop hook; by hand before maintenance: python cluster/drain.py [http://HEAD:8265]. Each job gets SIGTERM;
Ray kills it after RAY_JOB_STOP_WAIT_TIME_S (3 s unless set), so set that above --drain-seconds.
"""

import sys
import time

from ray.job_submission import JobSubmissionClient


def main(address: str = "http://127.0.0.1:8265") -> int:
    """0 when no job runs any more."""
    client = JobSubmissionClient(address)
    ids = [job.submission_id for job in client.list_jobs() if job.submission_id and not job.status.is_terminal()]
    for submission_id in ids:
        client.stop_job(submission_id)
    while any(not client.get_job_status(submission_id).is_terminal() for submission_id in ids):
        time.sleep(1)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
