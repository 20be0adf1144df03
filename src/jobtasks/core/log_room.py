"""How much of its output an attempt may keep (R38, R40)."""

from __future__ import annotations

from jobtasks.core.settings import Settings

LAST_WORDS_BYTES = 64 * 1024
"""What every attempt may keep, however much its job has written: it may be the one that fails."""


def log_bytes_allowed(settings: Settings, written: int) -> int:
    """Return the cap of one attempt's log in bytes, both streams.

    `written` is what the logs of its job's attempts that have ended came to, in bytes.
    """
    left = max(settings.job_log_bytes_max - written, LAST_WORDS_BYTES)
    return min(settings.log_bytes_max, left)
