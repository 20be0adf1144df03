"""xargs: no daemon, no records."""

from __future__ import annotations

import subprocess

from bench.peers.base import Adapter, program


class Peer(Adapter):
    """A tree of tasks is beyond it."""

    setting = "`xargs -P SLOTS -n 1`: no records of anything"
    has_tree = False

    def version(self) -> str:
        found = subprocess.check_output(["xargs", "--version"], text=True)
        return found.splitlines()[0].split()[-1]

    def start(self, slots: int) -> None:
        self._command = [program("xargs", package="findutils"), f"-P{slots}", "-n1"]

    def run_commands(self, count: int, command: list[str]) -> None:
        subprocess.run([*self._command, *command], input=b"x\n" * count, check=True)
