"""GNU parallel: no daemon, no records."""

from __future__ import annotations

import shlex
import subprocess

from bench.peers.base import Adapter, program


class Peer(Adapter):
    """A tree of tasks is beyond it."""

    setting = "`parallel -j SLOTS`: no records of anything"
    has_tree = False
    share = 1 / 3

    def version(self) -> str:
        found = subprocess.check_output([self._program, "--version"], text=True)
        return found.splitlines()[0].split()[-1]

    def start(self, slots: int) -> None:
        self._program = program("parallel", package="parallel")
        self._slots = slots

    def run_commands(self, count: int, command: list[str]) -> None:
        words = [self._program, f"-j{self._slots}", "-n0", shlex.join(command)]
        given = b"x\n" * count
        subprocess.run(words, input=given, check=True, stdout=subprocess.DEVNULL)
