"""What is done ahead, and what goes together, by how long tasks take.

A task that takes a millisecond is over before the server can be asked for the next one. While tasks
are that short, and none fails, the agent takes a few more than it has slots: so few that the last
of them starts a moment later, and what does not is given back.
"""

from __future__ import annotations

import math

WAIT_SECONDS = 0.02
"""What is taken should start within this time, by what tasks took lately."""

ONE_SECONDS = 0.05
"""One waits behind each slot while tasks are no longer than this, half the time after which it is
given back; longer ones need no start ahead of time."""

WAITING_MAX = 32
"""Attempts that wait on a node, or one for each slot where there are more slots."""

GIVE_BACK_SECONDS = 0.1
"""What could not start within this time is given back: another node may have room."""

GATHER_SECONDS = 0.002
"""While something runs an end waits so long for others to go along with it ..."""

GATHER_SHARE = 2
"""... but, of short tasks, no longer than until this part of the slots has ended."""

WEIGHT = 0.2
"""Of the newest task in the mean."""


class Pace:
    """What tasks took here lately, of those that completed since one failed."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._mean_seconds = math.inf

    def note(self, run_seconds: float, is_success: bool) -> None:
        """Note a task that has ended."""
        if not is_success:
            # What fails at once must not draw more to this node than to others.
            self._mean_seconds = math.inf
        elif math.isinf(self._mean_seconds):
            self._mean_seconds = run_seconds
        else:
            self._mean_seconds += WEIGHT * (run_seconds - self._mean_seconds)

    def places(self, longest_seconds: float) -> int:
        """Return how many attempts a slot may have, of which one runs.

        `longest_seconds`: for how long one has been running now.
        """
        seconds = max(self._mean_seconds, longest_seconds)
        if seconds > ONE_SECONDS:
            return 1
        most = max(WAITING_MAX // self._slots, 1)
        return 1 + min(most, math.ceil(WAIT_SECONDS / max(seconds, 1e-3)))

    def gather_seconds(self, told: int, *, is_busy: bool) -> float:
        """Return how long an end waits for others, of which `told` are there and may go along.

        What a sync costs the server is shared by all that it carries. Tasks that were started
        together often end together, and to long ones a moment is nothing.

        `is_busy`: whether something runs, or is about to.
        """
        is_long = ONE_SECONDS < self._mean_seconds < math.inf
        waits = is_busy and (is_long or told < self._slots // GATHER_SHARE)
        return GATHER_SECONDS if waits else 0.0
