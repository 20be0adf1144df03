"""A network that loses, delays, doubles and reorders, and parts nodes from the server."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from jobtasks.testing.simulation.happenings import Happenings

Answered = Callable[[int, bytes], None]
Failed = Callable[[str], None]
Respond = Callable[[int, bytes], None]
Receive = Callable[[str, str, bytes, Respond, Failed], None]
"""How the server takes a call: path, token, body; exactly one of the two is called, or none."""


@dataclass
class Faults:
    """How bad the network is: shares of messages."""

    lost: float = 0.0
    """No answer at all."""
    reset: float = 0.0
    """The connection breaks, which the caller sees soon."""
    doubled: float = 0.0
    slow: float = 0.0
    """Late by up to `slow_seconds` instead of milliseconds."""
    slow_seconds: float = 30.0


@dataclass
class Network:
    """Carries calls to the server and answers back; a call may come to nothing at any point."""

    happenings: Happenings
    random: random.Random
    faults: Faults = field(default_factory=Faults)
    parted: set[str] = field(default_factory=set)
    """Nodes that reach nobody."""

    def call(
        self, source: str, send: Callable[[Respond, Failed], None], answered: Answered, fail: Failed
    ) -> None:
        """Carry a call from `source`: `send` is run where it arrives, as often as it does."""

        def respond(status: int, body: bytes) -> None:
            self._carry(source, lambda: answered(status, body), fail)

        def broken(reason: str) -> None:
            self._carry(source, lambda: fail(reason), fail)

        self._carry(source, lambda: send(respond, broken), fail)
        if self.random.random() < self.faults.doubled:
            self._carry(source, lambda: send(lambda status, body: None, lambda reason: None), fail)

    def _carry(self, source: str, arrive: Callable[[], None], fail: Failed) -> None:
        chance = self.random.random()
        if source in self.parted or chance < self.faults.lost:
            return
        if chance < self.faults.lost + self.faults.reset:
            self.happenings.after(self.random.uniform(0, 0.2), lambda: fail("connection reset"))
            return
        is_slow = self.random.random() < self.faults.slow
        seconds = self.random.uniform(0, self.faults.slow_seconds if is_slow else 0.01)
        self.happenings.after(seconds, lambda: self._arrive(source, arrive))

    def _arrive(self, source: str, arrive: Callable[[], None]) -> None:
        if source not in self.parted:
            arrive()
