"""A clock that stands still until a test moves it."""

from __future__ import annotations

from dataclasses import dataclass

MICROSECONDS = 1_000_000


@dataclass(slots=True)
class ManualClock:
    """Unix time in microseconds, as the service reads it."""

    now: int = 1_700_000_000 * MICROSECONDS

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; negative: the clock is set back."""
        self.now += round(seconds * MICROSECONDS)
