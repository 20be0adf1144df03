"""The embedded node: finds or starts its keeper, starts another when it dies, ends it in order.

The keeper runs in a session of its own and inherits nothing but its log, so that it outlives a
server that is killed; the next server on the directory finds it by pid and start time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from jobtasks.engines.local import find_keeper, start_keeper

PAUSE_SECONDS_MIN = 0.1
PAUSE_SECONDS_MAX = 10.0
STEADY_SECONDS = 10.0
"""A keeper that lived so long is started again without a growing pause."""

logger = logging.getLogger(__name__)


class EmbeddedNode:
    """Watches over the keeper of the server's own node."""

    def __init__(self, node_dir: Path, command: Sequence[str]) -> None:
        self._dir = node_dir
        self._command = command
        self._pidfd: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._ending = False
        self._trouble: OSError | None = None
        """Why no keeper can be started now."""

    async def watch(self) -> None:
        """Keep a keeper running until the node is drained or left."""
        pause_seconds = PAUSE_SECONDS_MIN
        while not self._ending:
            began = time.monotonic()
            self._pidfd = find_keeper(self._dir)
            if self._pidfd is not None:
                logger.info("found the node's keeper, left by a former server")
                await self._ended()
            elif self._try_start():
                await self._ended()
            if self._ending:
                return
            lived_seconds = time.monotonic() - began
            steady = lived_seconds >= STEADY_SECONDS
            pause_seconds = PAUSE_SECONDS_MIN if steady else pause_seconds
            if self._trouble is None:
                logger.warning("the node's keeper has ended; starting another")
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, PAUSE_SECONDS_MAX)

    def _try_start(self) -> bool:
        """Start a keeper; say once why it cannot be started."""
        try:
            self._start()
        except OSError as error:
            if self._trouble is None:
                logger.error("the node's keeper cannot be started: %s", error)
            self._trouble = error
            return False
        self._trouble = None
        return True

    def _start(self) -> None:
        self._child = start_keeper(self._dir, self._command)
        self._pidfd = os.pidfd_open(self._child.pid)

    async def _ended(self) -> None:
        """Return when the keeper has ended; forget it."""
        assert self._pidfd is not None
        await readable(self._pidfd)
        if self._child is not None:
            self._child.wait()
        self._child = None
        os.close(self._pidfd)
        self._pidfd = None

    def leave(self) -> None:
        """Leave the keeper and its tasks running for the next server."""
        self._ending = True

    async def drain(self, seconds: float) -> None:
        """Let the agent end its attempts; after so many seconds kill the keeper, which ends all."""
        self._ending = True
        for number, limit_seconds in ((signal.SIGTERM, seconds), (signal.SIGKILL, seconds)):
            if self._pidfd is None:
                return
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_seconds):
                    await self._gone()
                    return
            logger.error("the node's keeper did not end within %g s", limit_seconds)

    async def _gone(self) -> None:
        while self._pidfd is not None:
            await readable(self._pidfd)
            await asyncio.sleep(0)


async def readable(pidfd: int) -> None:
    """Return when the process has ended."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    watched = os.dup(pidfd)

    def finish() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(watched, finish)
    try:
        await ended
    finally:
        loop.remove_reader(watched)
        os.close(watched)
