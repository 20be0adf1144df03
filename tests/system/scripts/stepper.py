#!/usr/bin/env -S python3 -S -E
"""A task that takes steps, and notes each as ``TASK ATTEMPT`` in a file, until another file exists.

Each step is one write to the end of the file: its order is the order of the steps.
"""

import json
import os
import sys
import time

places = json.loads(os.environ["JOB_PARAMETER_PLACES"])
step = f"{os.environ['TASK_UUID']} {os.environ['TASK_ATTEMPT']}\n".encode()
with open(places["steps"], "ab", buffering=0) as steps:
    while not os.path.exists(places["end"]):
        steps.write(step)
        time.sleep(0.01)
sys.exit(0)
