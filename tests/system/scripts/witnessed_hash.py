#!/usr/bin/env -S python3 -S
"""The example parallel_hash, as it stands, with a witness around it.

Without the ``site`` module: a thousand tasks start in half the time.
"""

from __future__ import annotations

import os
import runpy

from note import note  # type: ignore[import-not-found]
from witnessed import WitnessedTask  # type: ignore[import-not-found]

import jobtasks_sdk

note("start")
task = WitnessedTask(os.environ["TASK_UUID"], {"sequence": int(os.environ["TASK_SEQUENCE"])}, False)
jobtasks_sdk.current_task = lambda: task
runpy.run_path(os.environ["JOB_PARAMETER_EXAMPLE"], run_name="__main__")
