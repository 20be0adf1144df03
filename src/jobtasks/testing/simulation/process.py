"""What a task's process does: works, creates children, reports, ends in one way or another."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobtasks.protocol.messages import Assignment, EndKind
from jobtasks.testing.simulation.happenings import Happenings
from jobtasks.testing.simulation.network import Network, Receive

RETRY_SECONDS = 1.0
"""Between two tries of a call that came to nothing."""
LATE_SECONDS = 8.0
"""A process gives a call up and tries it again after so long without an answer."""
WORK_SECONDS_MAX = 3.0


@dataclass
class Misfortune:
    """How processes end that do not succeed: shares of attempts, while faults last."""

    crash: float = 0.0
    """Exit code 1 without a verdict."""
    asks: float = 0.0
    """Exit code 75: another attempt is asked for."""
    memory: float = 0.0
    """Killed for its memory."""
    gives_up: float = 0.0
    """Says that it failed for good, after it has created its children."""
    hasty: float = 0.0
    """Ends right after a report that nobody has answered yet."""


@dataclass(eq=False)
class Process:
    """One attempt's process. `ended` is called once, with how it ended."""

    assignment: Assignment
    tree: list[int]
    """How many children it creates, and how many each of them, and so on."""
    node: str
    happenings: Happenings
    random: random.Random
    network: Network
    receive: Receive
    misfortune: Misfortune
    ended: Callable[[EndKind, int | None, int | None], None]
    said_success: Callable[[int], None]
    """Called when it sends a report of success."""
    alive: bool = True
    _calls: int = 0

    def start(self) -> None:
        """Begin to work."""
        self._later(self._work)

    def kill(self) -> None:
        """It is gone, and says nothing more."""
        self.alive = False

    def _later(self, action: Callable[[], None]) -> None:
        seconds = self.random.uniform(0.01, WORK_SECONDS_MAX)
        self.happenings.after(seconds, lambda: action() if self.alive else None)

    def _end(self, kind: EndKind, exit_code: int | None = None, signal: int | None = None) -> None:
        self.alive = False
        self.ended(kind, exit_code, signal)

    def _work(self) -> None:
        """Meet with misfortune, or create the children that the parameters ask for."""
        draw, bad = self.random.random(), self.misfortune
        if draw < bad.crash:
            self._create(lambda: self._end(EndKind.EXIT, 1))
        elif draw < bad.crash + bad.asks:
            self._end(EndKind.EXIT, 75)
        elif draw < bad.crash + bad.asks + bad.memory:
            self._end(EndKind.OUT_OF_MEMORY, None, 9)
        elif draw > 1 - bad.gives_up:
            self._create(self._give_up)
        else:
            self._create(self._report)

    def _create(self, then: Callable[[], None]) -> None:
        """Create children in one call or two, each with a key, then go on."""
        if not self.tree:
            self._later(then)
            return
        count, rest = self.tree[0], self.tree[1:]
        first = self.random.randrange(count + 1)
        down = self.assignment.sequence + 1
        items = [
            {"parameters": {"tree": rest}, "sequence": self.random.choice((down, down, down - 1))}
            for _ in range(count)
        ]
        self._create_parts([part for part in (items[:first], items[first:]) if part], then)

    def _create_parts(self, parts: list[list[dict[str, Any]]], then: Callable[[], None]) -> None:
        if not parts:
            then()
            return
        body = {"key": f"{len(parts)} to go", "items": parts[0]}
        self._post("/create", body, lambda: self._create_parts(parts[1:], then))

    def _give_up(self) -> None:
        body = {"uuid": self.assignment.task, "values": {"success": False}}
        self._post("/update", body, lambda: self._end(EndKind.EXIT, 1))

    def _report(self) -> None:
        values = {"success": True, "output": str(self.assignment.attempt)}
        self.said_success(self.assignment.attempt)
        body = {"uuid": self.assignment.task, "values": values}
        if self.random.random() < self.misfortune.hasty:
            self._post("/update", body, lambda: None)
            self._end(EndKind.EXIT, 0)
        else:
            self._post("/update", body, lambda: self._end(EndKind.EXIT, 0))

    def _post(self, path: str, body: dict[str, Any], then: Callable[[], None]) -> None:
        """Call until an answer comes; a refusal ends the process."""
        self._calls += 1
        call = self._calls

        def is_current() -> bool:
            return self.alive and self._calls == call

        def answered(status: int, answer: bytes) -> None:
            if not is_current():
                return
            if status == 200:
                then()
            elif status >= 500:
                again("unavailable")
            else:
                self._end(EndKind.EXIT, 2)

        def again(reason: str) -> None:
            if is_current():
                self._calls += 1
                self.happenings.after(
                    RETRY_SECONDS, lambda: self._post(path, body, then) if self.alive else None
                )

        encoded = json.dumps(body).encode()
        self.network.call(
            self.node,
            lambda respond, fail: self.receive(path, self.assignment.token, encoded, respond, fail),
            answered,
            again,
        )
        self.happenings.after(LATE_SECONDS, lambda: again("no answer in time"))
