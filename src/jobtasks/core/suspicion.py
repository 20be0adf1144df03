"""When a node is suspected of spoiling what runs on it, and for how long it is held then (R16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jobtasks.core.retry import Cause
from jobtasks.core.settings import Settings

TELLING = frozenset({Cause.EXIT, Cause.TIME_LIMIT, Cause.UNABLE_TO_START})
"""Causes of temporary failures that may be the node's doing. What asked for another attempt or ran
out of its own memory speaks for itself; what was lost with its node is told by the lease."""


class Loss(NamedTuple):
    """An attempt that ended in a temporary failure."""

    attempt: int
    job: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What is remembered of a node's attempts since one last completed there."""

    streak: tuple[Loss, ...] = ()
    """Failures in a row, the newest last; no more than make it suspected."""
    is_witnessed: bool = False
    """Whether another node completed a task of the streak's only job since the streak began."""

    @property
    def only_job(self) -> int | None:
        """The job of all failures; None when there are several, or no failures."""
        jobs = {loss.job for loss in self.streak}
        return jobs.pop() if len(jobs) == 1 else None


def streak_length(slots: int, settings: Settings) -> int:
    """Return how many failures in a row make a node of so many slots suspected."""
    return settings.suspect_attempts + slots


def after_loss(standing: Standing, loss: Loss, slots: int, settings: Settings) -> Standing:
    """Return the standing of a node after one more failure there."""
    longer = Standing((*standing.streak, loss)[-streak_length(slots, settings) :])
    is_same_job = longer.only_job is not None and longer.only_job == standing.only_job
    return Standing(longer.streak, is_same_job and standing.is_witnessed)


def is_suspected(standing: Standing, slots: int, settings: Settings) -> bool:
    """Return whether the node, rather than a job, is the likely cause of the failures."""
    if len(standing.streak) < streak_length(slots, settings):
        return False
    return standing.only_job is None or standing.is_witnessed


def hold_seconds(before: float, settings: Settings) -> float:
    """Return how long a node is held whose last hold lasted `before` seconds, 0 when none did."""
    return min(2 * before, settings.hold_seconds_max) if before else settings.hold_seconds
