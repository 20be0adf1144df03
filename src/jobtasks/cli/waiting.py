"""Waiting until a job has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jobtasks.cli.client import Client
from jobtasks.cli.problems import OF_STATE

HELD_SECONDS_MAX = 30.0
"""How long one request of a wait is held by the server."""


def wait_for_end(
    client: Client,
    job_uuid: str,
    timeout_seconds: float | None = None,
    look_every_seconds: float = HELD_SECONDS_MAX,
    look: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The job's record, final, or as it is when the time is over; calls `look` now and then."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        held = look_every_seconds
        if deadline is not None:
            held = max(0.0, min(held, deadline - time.monotonic()))
        job: dict[str, Any] = client.get(f"/jobs/{job_uuid}", wait=round(held, 3))
        look()
        is_over = deadline is not None and time.monotonic() >= deadline
        if job["state"] in OF_STATE or is_over:
            return job
