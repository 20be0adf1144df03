"""Running an engine's commands: each with a time limit, none through a shell of ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jobtasks.engines.base import Unclear

CLOSED = "the server ends"


class Answer(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


class Commands:
    """Runs commands, in any thread, until it is closed."""

    def __init__(self, seconds: float) -> None:
        """`seconds` is how long each may take."""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._is_closed = False

    def run(
        self, words: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> Answer:
        """Run a command to its end.

        Raises:
            Unclear: it did not end in time, or before this was closed, and was killed with all it
                had started; or there is no such program.
        """
        with self._started(words, env) as process:
            try:
                out, err = process.communicate(stdin, timeout=self._seconds)
            except subprocess.TimeoutExpired:
                _kill(process)
                seconds = f"{self._seconds:g} s"
                raise Unclear(f"{words[0]} did not answer within {seconds}") from None
            finally:
                with self._lock:
                    self._running.discard(process)
        if self._is_closed and process.returncode == -signal.SIGKILL:
            raise Unclear(f"{words[0]}: {CLOSED}")
        return Answer(process.returncode, out, err)

    def close(self) -> None:
        """Kill what runs; nothing is started any more."""
        with self._lock:
            self._is_closed = True
            for process in self._running:
                _kill(process)

    def _started(
        self, words: Sequence[str], env: Mapping[str, str] | None
    ) -> subprocess.Popen[str]:
        with self._lock:
            if self._is_closed:
                raise Unclear(f"{words[0]}: {CLOSED}")
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    env=None if env is None else dict(env),
                    start_new_session=True,
                )
            except OSError as error:
                raise Unclear(f"{words[0]}: {error.strerror}") from None
            self._running.add(process)
            return process


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
