"""What a workload hands back: figures, and rows of a table with what is wanted of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Goal:
    """One row: what was measured, and what is wanted of it."""

    what: str
    value: float
    wanted: float | None
    """None: nothing is wanted, it is told."""
    unit: str
    most: bool
    """Whether `wanted` is an upper bound."""

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.wanted is None:
            return None
        return self.value <= self.wanted if self.most else self.value >= self.wanted

    def __str__(self) -> str:
        sign = "at most" if self.most else "at least"
        wanted = "" if self.wanted is None else f", wanted {sign} {self.wanted:g}"
        verdict = {True: ": met", False: ": MISSED", None: ""}[self.is_met]
        return (
            f"{self.what}: {number(self.value)}{' ' * bool(self.unit)}{self.unit}{wanted}{verdict}"
        )


def at_least(what: str, value: float, wanted: float | None, unit: str = "") -> Goal:
    """Return a row whose value should be so much or more."""
    return Goal(what, value, wanted, unit, most=False)


def at_most(what: str, value: float, wanted: float | None, unit: str = "") -> Goal:
    """Return a row whose value should be so much or less."""
    return Goal(what, value, wanted, unit, most=True)


def number(value: float) -> str:
    """Return a figure with as many digits as say something."""
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:.{digits}f}"


@dataclass
class Outcome:
    """What a workload found."""

    figures: dict[str, Any]
    """Plain values, as they are kept in results/."""
    goals: list[Goal] = field(default_factory=list)

    def kept(self) -> dict[str, Any]:
        """Return what is kept of it."""
        return {"goals": [asdict(goal) for goal in self.goals], "figures": self.figures}
