"""The floor: bare processes, spawned by a loop in C with as many in flight."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("floor.c")
TRUE = ("/bin/true",)


class Floor:
    """The compiled program."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / "floor"
        subprocess.run(["cc", "-O2", "-o", str(self._program), str(SOURCE)], check=True)

    def per_second(self, count: int, in_flight: int, command: Sequence[str] = TRUE) -> float:
        """Run `count` processes of a command; return how many a second."""
        words = [str(self._program), str(count), str(in_flight), *command]
        ended = subprocess.run(words, check=True, capture_output=True, text=True)
        return count / float(ended.stdout)
