"""When a job may be over, as far as it can be told from how it went so far."""

from __future__ import annotations

DONE_MIN = 3
"""Of fewer complete tasks nothing is concluded."""
ELAPSED_MIN = 2_000_000
"""Nor within the first so many microseconds."""


def expected_end(started_at: int | None, now: int, done: int, left: int) -> int | None:
    """Return when a job ends if it goes on at its pace, in Unix microseconds; None: unknown.

    `done` and `left` count tasks. Tasks may create more, so it is the earliest that can be said.
    """
    if started_at is None or not left or done < DONE_MIN or now - started_at < ELAPSED_MIN:
        return None
    return now + (now - started_at) * left // done
