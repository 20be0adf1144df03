"""kill -9 of the server, the agent and the keeper at random moments of a job.

`KILL_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable

from .conftest import Served, Start, agent_of, keeper_of, process_identity, wait_until
from .witness import Witness

SEED = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))


class Killer:
    """Kills processes of one system when the witness has so many lines; starts servers again."""

    def __init__(self, start: Start, served: Served, witness: Witness) -> None:
        self.served = served
        self._start = start
        self._witness = witness

    def kill_when(self, starts: int, whom: str) -> None:
        """Wait until so many processes have started, then kill."""
        wait_until(f"{starts} processes", lambda: self._witness.count() >= starts, 200)
        kills: dict[str, Callable[[], None]] = {
            "server": self.kill_server,
            "agent": lambda: self._kill(agent_of),
            "keeper": lambda: self._kill(keeper_of),
            "everything": self.kill_everything,
        }
        kills[whom]()

    def kill_server(self) -> None:
        """kill -9, and another one at the same address."""
        served = self.served
        served.kill()
        self.served = self._start(listen=served.address, state=served.state)

    def kill_everything(self) -> None:
        """All three at once: nobody is left to end the tasks' processes."""
        for find in (agent_of, keeper_of):
            if (pid := find(self.served.state)) is not None:
                os.kill(pid, signal.SIGKILL)
        self.kill_server()

    def _kill(self, find: Callable[..., int | None]) -> None:
        pid = wait_until("whom to kill", lambda: find(self.served.state))
        identity = process_identity(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until("its end", lambda: process_identity(pid) != identity)


def moments(chance: random.Random, kills: int, starts: int) -> list[int]:
    """Return at how many started processes each kill comes, in order."""
    return sorted(chance.randrange(1, starts) for _ in range(kills))
