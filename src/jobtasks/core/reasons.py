"""What an explanation is made of: one reason why something does not run, and its wording (R31)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobtasks.core.timestamps import render_time

NAMED_MAX = 5
"""Names in one sentence; of the others only their number is told."""
LISTED_MAX = 20
"""Items in one list of `Reason.details`."""
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a task or a job does not run, or that it does."""

    code: str
    """Stable: what programs look at; docs/reference/api.md lists all of them."""
    text: str
    """One sentence with names: UUIDs, hostnames, numbers with units."""
    lift: str | None = None
    """What would change it; None where nothing is to be changed."""
    details: dict[str, Any] = field(default_factory=dict)
    """The same for programs: sizes in KiB or MiB as the name says, times as text in UTC."""


def counted(number: int, thing: str) -> str:
    """Return ``1 task``, ``12 tasks``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def named(names: Sequence[str], total: int | None = None) -> str:
    """Return ``a, b and c``; of more than `NAMED_MAX` the first, and how many more there are."""
    shown = list(names[:NAMED_MAX])
    left = (len(names) if total is None else total) - len(shown)
    if left > 0:
        shown.append(f"{left} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def sentence(parts: Iterable[str]) -> str:
    """Return the parts as one sentence, set apart by semicolons."""
    return "; ".join(parts) + "."


def moment(at: int) -> str:
    """Return Unix microseconds as a person reads them, to the second."""
    return render_time(at)[:19].replace("T", " ") + " UTC"


def until(at: int, now: int) -> str:
    """Return a time to come, and how far away it is."""
    seconds = max(0, at - now) / MICROSECONDS
    return f"{moment(at)} (in {seconds:.0f} s)" if seconds >= 1 else f"{moment(at)} (in under 1 s)"
