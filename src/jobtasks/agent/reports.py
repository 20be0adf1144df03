"""What is told of an attempt's end: how it ended, by whose doing, and what it took."""

from __future__ import annotations

import os
import signal

from jobtasks.agent.attempt import Attempt
from jobtasks.protocol.messages import Ended, EndKind

MEMORY_SHARE = 0.95
"""Killed by a signal that we did not send, with a peak of this share of its reservation: out of
memory."""

KILLED_CODES = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Killed itself, or a shell whose command was."""


def take_figures(attempt: Attempt) -> None:
    """Take what the kernel says about an attempt's memory, where it has counted that."""
    group = attempt.group
    if group is None or not group.limits:
        return
    attempt.peak_memory_kib = group.peak_kib() or attempt.peak_memory_kib
    assert attempt.status is not None
    killed = os.waitstatus_to_exitcode(attempt.status) in KILLED_CODES
    if attempt.kind is EndKind.EXIT and killed and group.out_of_memory():
        attempt.kind = EndKind.OUT_OF_MEMORY
        reserved = attempt.assignment.memory_kib
        limit = f"{reserved} KiB are reserved for it" if reserved else "the machine had no more"
        attempt.reason = f"the kernel ended it when it wanted more memory: {limit}"


def ended(attempt: Attempt, now: float) -> Ended:
    """Return the report of an attempt whose status is known."""
    assert attempt.status is not None
    code = os.waitstatus_to_exitcode(attempt.status)
    return Ended(
        attempt.id,
        _kind(attempt, code),
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        peak_memory_kib=attempt.peak_memory_kib,
        run_seconds=now - attempt.started,
        stderr_tail=attempt.log.tail,
        reason=attempt.reason,
        log_bytes=attempt.log.kept,
        log_dropped_bytes=attempt.log.dropped,
    )


def _kind(attempt: Attempt, code: int) -> EndKind:
    reserved = attempt.assignment.memory_kib
    if (
        attempt.kind is EndKind.EXIT
        and code in KILLED_CODES
        and 0 < reserved * MEMORY_SHARE <= attempt.peak_memory_kib
    ):
        return EndKind.OUT_OF_MEMORY
    return attempt.kind
