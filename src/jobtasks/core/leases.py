"""When leases must be given anew: time in which no renewal could be taken does not count (R33)."""

from __future__ import annotations

from dataclasses import dataclass

from jobtasks.core.settings import Settings

MICROSECONDS = 1_000_000

FREEZE_SHARE = 5 / 6
"""Of a lease: the rest is for the freezing."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks, read together, and what the database had refused until then."""

    wall: int
    """Unix time in microseconds; may be stepped."""
    monotonic_seconds: float
    failures: int = 0
    """Writes that failed so far: renewals may have been among them."""


def is_gap(previous: Reading | None, now: Reading, settings: Settings) -> bool:
    """Return whether leases must be renewed before any is found to have run out.

    True at start and take-over (`previous` None), after a pause of the store however short, when
    the manager was not at work for too long, and when the wall clock was stepped, in either
    direction.
    """
    if previous is None or previous.failures != now.failures:
        return True
    elapsed_seconds = now.monotonic_seconds - previous.monotonic_seconds
    stepped_seconds = (now.wall - previous.wall) / MICROSECONDS - elapsed_seconds
    limit = settings.clock_gap_seconds
    return elapsed_seconds > limit or abs(stepped_seconds) > limit


def freeze_seconds(settings: Settings) -> float:
    """Return how long an exclusive attempt goes on without an acknowledged renewal (R34).

    Never so long as its lease, whatever the settings say: the holder stops before another begins.
    """
    return min(settings.freeze_seconds, settings.lease_seconds * FREEZE_SHARE)
