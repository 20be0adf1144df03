"""What a task measures of calls through the Python client of Arvados; run by ``python -m bench``.

Prints one JSON object: for each kind of call, its milliseconds in each round.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict

import arvados


def main(rounds: int) -> None:
    """Create a task, report the own one's progress, read the new one; so many times."""
    tasks = arvados.api("v1", cache=False).job_tasks()
    own = os.environ["TASK_UUID"]
    times: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        begin = time.perf_counter()
        child = tasks.create(body={"parameters": {"number": number}}).execute()
        created = time.perf_counter()
        tasks.update(uuid=own, body={"progress": number / rounds}).execute()
        updated = time.perf_counter()
        assert tasks.get(uuid=child["uuid"]).execute()["qsequence"] == number + 1
        end = time.perf_counter()
        for name, seconds in (
            ("create", created - begin),
            ("update", updated - created),
            ("get", end - updated),
            ("together", end - begin),
        ):
            times[name].append(seconds * 1000)
        tasks.delete(uuid=child["uuid"]).execute()
    print(json.dumps(times))


main(int(sys.argv[1]))
