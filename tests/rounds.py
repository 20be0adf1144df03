"""How far a rig goes: a little in `make test`, as long as it is given under `make torture`.

A rig asks for `rounds(row, small, large)`, or for `seconds(small, large)`, and says what it has
reached with `note(row, ...)`; rounds are noted by themselves. A row is a line of the table on
docs/explanation/promises.md; its name is written where it is asked for, so that the table finds it.
The environment says whether this is torture:

- `TORTURE_SECONDS`: how long a row may take; without it everything is small.
- `TORTURE_RESULTS`: the file to which what was reached is appended, one JSON object a line:
  ``{"row": ..., "figures": {name: number, ...}}``. Figures of one name are added up, those that
  end in ``_max`` or begin with ``longest_`` are compared (tests/promises.py).
- `TORTURE_PART`: ``1/2`` takes the odd rounds only, another process takes the even ones.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

LIMIT_SECONDS = float(os.environ.get("TORTURE_SECONDS", "0"))
IS_TORTURE = LIMIT_SECONDS > 0
PART, PARTS = map(int, os.environ.get("TORTURE_PART", "0/1").split("/"))


def seconds(small: float, large: float) -> float:
    """Return for how long a rig runs whose load is measured in time."""
    return min(large, LIMIT_SECONDS) if IS_TORTURE else small


def rounds(row: str, small: int, large: int) -> Iterator[int]:
    """Yield 0, 1, ...: `small` of them; in torture `large`, or as many as there is time for.

    How many were completed is noted when the last one is over; when one fails, nothing is.
    """
    began = time.monotonic()
    numbers = range(PART, large, PARTS) if IS_TORTURE else range(small)
    reached = 0
    for number in numbers:
        if IS_TORTURE and reached and time.monotonic() - began > LIMIT_SECONDS:
            break
        yield number
        reached += 1
    note(row, rounds=reached, wanted=len(numbers))


def note(row: str, **figures: float) -> None:
    """Say what a row has reached; printed, and kept where `TORTURE_RESULTS` says."""
    print(f"{row}: {figures}")
    if IS_TORTURE and (path := os.environ.get("TORTURE_RESULTS")):
        with Path(path).open("a") as results:
            results.write(json.dumps({"row": row, "figures": figures}) + "\n")
