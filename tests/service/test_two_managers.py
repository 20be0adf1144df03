"""Two processes on one database that both believe to be the manager: the older changes nothing."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as TooLate
from functools import partial
from pathlib import Path

import pytest
from tests.rounds import rounds

from jobtasks.service import tick
from jobtasks.service.soundness import contradictions
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

LIMIT_SECONDS = 60.0
PROGRAM = Path(__file__).with_name("programs") / "ticking.py"


def wait_until(what: str, look: Callable[[], object]) -> None:
    """Wait for a true value, within a limit."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what}; last seen: {seen!r}"


def is_running(service: LocalService, job: str) -> bool:
    return service.job(job).state == "Running"


class Rival:
    """The manager in another process."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def take_over(self) -> int:
        """Let it become the manager; return its term."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return int(self.heard("term")[0])

    def heard(self, word: str) -> list[str]:
        """Return the next line, which begins with `word`, without it."""
        assert self.process.stdout is not None
        first, *rest = self.process.stdout.readline().split()
        assert first == word
        return rest

    def end(self) -> None:
        """Let it end in good order."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        assert self.process.wait(LIMIT_SECONDS) == 0
        self.process.stdout.close()


@pytest.mark.timeout(200)
@pytest.mark.rule("R37")
def test_a_manager_that_was_paused_changes_nothing(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """It is stopped anywhere, also within a transaction; another takes over; it goes on."""
    service = LocalService(tmp_path / "shared.db")
    SimulatedAgent(service)
    rival = Rival(tmp_path / "shared.db")
    request.addfinalizer(rival.process.kill)
    draw = random.Random(1)
    for _ in rounds("two managers", 20, 500):
        ours = service.term
        theirs = rival.take_over()
        assert theirs > ours
        with pytest.raises(tick.LostManager):
            service.run(tick.tick, ours)
        job = service.new_job().uuid
        wait_until("the rival starts the job", partial(is_running, service, job))
        for _ in range(draw.randrange(20)):
            service.job(job)
        rival.process.send_signal(signal.SIGSTOP)
        taken = service.store.write(lambda tx: tick.take_over(service.context(tx), "we"))
        # It may have been stopped with the database in its hands.
        with contextlib.suppress(TooLate):
            taken.result(0.2)
        rival.process.send_signal(signal.SIGCONT)
        service.term = taken.result(LIMIT_SECONDS)
        term, ticks, wrong, changes = map(int, rival.heard("lost"))
        assert (term, wrong, changes) == (theirs, 0, 0)
        assert ticks > 0
        service.tick()
        assert service.write(contradictions) == {}
    rival.end()
    service.close()
