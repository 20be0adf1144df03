"""What the end of an attempt means for its task (R10, R11, R12, R39)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

ASKED_EXIT_CODES = frozenset({75, 111})
"""Exit codes that ask for another attempt (R14, R39)."""


class Verdict(Enum):
    """What an attempt's record says when its process has ended."""

    COMPLETE = "complete"
    FAILED = "failed"
    TEMPORARY = "temporary"


def judge(progress: float | None, success: bool | None) -> Verdict:
    """Return the verdict on the record as its last accepted write left it (R10, R11, R12).

    Whatever ended the process has no say: a task is complete only with progress 1.0 and success.
    """
    if success is False:
        return Verdict.FAILED
    if success is True and progress == 1.0:
        return Verdict.COMPLETE
    return Verdict.TEMPORARY


def command_record(exit_code: int | None, attempts_left: bool) -> tuple[float | None, bool | None]:
    """Return (progress, success) that the agent writes for a task that runs a command (R39).

    `exit_code` is None when a signal, a limit or a loss ended the process. `attempts_left` says
    whether task or job gave ``max_attempts`` and another attempt remains.
    """
    if exit_code is None or exit_code in ASKED_EXIT_CODES:
        return None, None
    if exit_code == 0:
        return 1.0, True
    return None, None if attempts_left else False


def with_progress(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a write's changes with the progress that success implies (R9)."""
    if changes.get("success") is True and changes.get("progress") is None:
        return {**changes, "progress": 1.0}
    return dict(changes)
