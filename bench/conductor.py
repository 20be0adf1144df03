"""Runs contenders in turn, each between two runs of the floor, and takes ratios within a round.

Machines are noisy: a rate alone says little, so every run is set against the floor's rate just
before and just after it. One round is floor, A, floor, B, …, floor.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

OURS = "JobTasks"


@dataclass
class Contender:
    """Something that runs tasks: `run` runs `count` of them and returns the seconds it took."""

    name: str
    count: int
    run: Callable[[int], float]


@dataclass
class Run:
    """One run of a contender within a round."""

    tasks: int
    seconds: float
    floor_per_second: float
    """Of the two floor runs around it, the mean."""

    @property
    def per_second(self) -> float:
        """Tasks a second."""
        return self.tasks / self.seconds

    @property
    def ratio(self) -> float:
        """Its rate over the floor's."""
        return self.per_second / self.floor_per_second


@dataclass
class Rounds:
    """All runs of a workload, by contender, in the order of rounds."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Why a contender was left out of the further rounds."""

    def ratio(self, name: str) -> float:
        """Return the median ratio of a contender to the floor."""
        return statistics.median(run.ratio for run in self.runs[name])

    def against(self, name: str, other: str) -> float:
        """Return the median over rounds of one contender's ratio over another's."""
        pairs = zip(self.runs[name], self.runs[other], strict=True)
        return statistics.median(mine.ratio / theirs.ratio for mine, theirs in pairs)

    def figures(self) -> dict[str, Any]:
        """Return everything as plain values: for each contender medians, and each run."""
        found: dict[str, Any] = {name: summary(runs) for name, runs in self.runs.items() if runs}
        found.update({name: {"failed": why} for name, why in self.failures.items()})
        return found


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the medians of runs, how far they lie apart, and the runs themselves."""
    ratios = [run.ratio for run in runs]
    return {
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "per_second": statistics.median(run.per_second for run in runs),
        "floor_per_second": statistics.median(run.floor_per_second for run in runs),
        "rounds": [asdict(run) for run in runs],
    }


def alternate(
    floor: Callable[[], float],
    contenders: Sequence[Contender],
    rounds: int,
    say: Callable[[str], None],
) -> Rounds:
    """Run so many rounds; `floor` returns its rate in tasks a second.

    The last floor of a round is the first one of the next. A contender that fails is left out from
    then on, and of its rounds nothing is kept.
    """
    found = Rounds({contender.name: [] for contender in contenders})
    before = floor()
    for number in range(rounds):
        told = []
        for contender in contenders:
            if contender.name in found.failures:
                continue
            try:
                seconds = contender.run(contender.count)
            except Exception as error:
                found.failures[contender.name] = f"{type(error).__name__}: {error}"[:300]
                found.runs[contender.name] = []
                say(f"  {contender.name} failed: {found.failures[contender.name]}")
                continue
            after = floor()
            run = Run(contender.count, seconds, (before + after) / 2)
            found.runs[contender.name].append(run)
            before = after
            told.append(f"{contender.name} {run.per_second:,.0f}/s = {run.ratio:.3f}")
        say(f"  round {number + 1}: floor {before:,.0f}/s, {', '.join(told)}")
    return found
