"""Attempts of exclusive jobs: the keeper is told of each, and of each renewal (R34)."""

from __future__ import annotations

import os
import socket

from jobtasks.agent.freezer import Freezer, Held, State
from jobtasks.agent.loop import Loop, Timer


class CutOffError(Exception):
    """An exclusive attempt may not start now; the message says why."""


class Exclusive:
    """Keeps the own freezer and the keeper's in the same state.

    `keeper` is the descriptor that the keeper gave us, -1 without one. A keeper that does not
    listen (it is stopped) is told again and again; until then no exclusive attempt starts.
    """

    def __init__(self, loop: Loop, keeper: int = -1) -> None:
        self._loop = loop
        self._freezer = Freezer(os.getpid())
        self._timer: Timer | None = None
        self._keeper: socket.socket | None = None
        self._untold = False
        if keeper >= 0:
            self._keeper = socket.socket(fileno=keeper)
            self._keeper.set_inheritable(False)
            self._keeper.setblocking(False)

    def set_limits(self, freeze_seconds: float, patience_seconds: float) -> None:
        """What the server told in answer to a join."""
        state = self._freezer.state
        self._take(state._replace(freeze_seconds=freeze_seconds, patience_seconds=patience_seconds))

    def renewed(self, sent_at: float) -> None:
        """A renewal was acknowledged whose sync was sent at `sent_at` (`freezer.now`)."""
        state = self._freezer.state
        if sent_at > state.renewed_at:
            self._take(state._replace(renewed_at=sent_at))

    def is_cut_off(self) -> bool:
        """Is what is held to stand still?"""
        return self._freezer.state.left_seconds() <= 0

    def hold(self, task: str, number: int, group: str = "") -> None:
        """An attempt is about to be started, in a control group that can be frozen if it has one.

        Errors: `CutOffError`, then it must not be.
        """
        if self.is_cut_off():
            raise CutOffError("the server has not been heard for too long to start it alone")
        self._hold(Held(task, number, 0, group))
        if self._untold:
            self.drop(task, number)
            raise CutOffError("the keeper cannot be told of it")

    def started(self, task: str, number: int, leader: int, group: str = "") -> None:
        """An attempt that is held has a process."""
        self._hold(Held(task, number, leader, group))

    def _hold(self, attempt: Held) -> None:
        others = self._others(attempt.task, attempt.number)
        self._take(self._freezer.state._replace(held=(*others, attempt)))

    def drop(self, task: str, number: int) -> None:
        """An attempt was not started, or its whole tree is gone."""
        self._take(self._freezer.state._replace(held=self._others(task, number)))

    def _others(self, task: str, number: int) -> tuple[Held, ...]:
        held = self._freezer.state.held
        return tuple(one for one in held if (one.task, one.number) != (task, number))

    def _take(self, state: State) -> None:
        of_interest = bool(state.held or self._freezer.state.held)
        self._freezer.state = state
        if of_interest:
            self._tell()
            self._look()

    def _tell(self) -> None:
        self._untold = False
        if self._keeper is not None:
            try:
                self._keeper.send(self._freezer.state.encode())
            except BlockingIOError:
                self._untold = True
            except OSError:
                # The keeper is dead: we shall hear of it and end.
                self._keeper = None

    def _look(self) -> None:
        """Freeze or thaw, and again when it is time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._untold:
            self._tell()
        if (seconds := self._freezer.look()) is not None:
            self._timer = self._loop.after(seconds, self._look)
