"""A server as a child of a command, for as long as the command needs one."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from jobtasks.cli.problems import Problem
from jobtasks.cli.state import Address, StateDirectory

READY_SECONDS_MAX = 60.0
"""The longest wait for a server that starts."""

STOP_SECONDS_MAX = 60.0
"""The longest wait for a server that ends in good order: its tasks get their grace (R21)."""

STARTS_MAX = 20
"""A server that dies more often than that during one command is not started again."""

LOG_BYTES_MAX = 1024 * 1024
"""A longer log of earlier servers is begun anew."""


class EmbeddedServer:
    """Starts a server on a state directory; starts another when it has died."""

    def __init__(self, state: StateDirectory, *options: str) -> None:
        self._state = state
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def __enter__(self) -> Self:
        self._state.make()
        if _size(self._state) > LOG_BYTES_MAX:
            self._state.server_log.unlink()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def address(self) -> Address:
        """Where it serves; starts it when it is not there. Raises `Problem` when it cannot."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        address = self._state.address()
        if address is None:
            raise Problem(f"the server left no address in {self._state.path}", self._hint())
        return address

    def stop(self) -> None:
        """End it in good order: TERM, and KILL only when that takes far too long."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _close(process)

    def _start(self) -> None:
        self._starts += 1
        if self._starts > STARTS_MAX:
            raise Problem(f"the server died {STARTS_MAX} times", self._hint())
        earlier = self._state.address()
        # Tasks that outlived an earlier server know its address only: the same port, if free.
        for port in (_port(earlier), 0) if earlier else (0,):
            self._process = self._spawn(port)
            if _is_ready(self._process):
                return
            self.stop()
        raise Problem(f"the server did not start: {_last_line(self._state)}", self._hint())

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "jobtasks.cli.main", "serve"]
        command += ["--state", str(self._state.path), "--listen", f"127.0.0.1:{port}"]
        command += ["--end-with-parent", str(os.getpid()), *self._options]
        with self._state.server_log.open("ab") as log:
            # In a session of its own, Ctrl-C reaches this command only, which then ends the server.
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def _hint(self) -> str:
        return f"see {self._state.server_log}"


def end_with_parent(parent: int) -> None:
    """Let the kernel send TERM to this process when its parent has died, however it died."""
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _is_ready(process: subprocess.Popen[bytes]) -> bool:
    """Wait for its line ``ready URL``; False when it ends, or takes too long."""
    assert process.stdout is not None
    output = select.poll()
    output.register(process.stdout, select.POLLIN)
    deadline = time.monotonic() + READY_SECONDS_MAX
    if not output.poll(max(0, deadline - time.monotonic()) * 1000):
        return False
    return process.stdout.readline().startswith(b"ready ")


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdout is not None:
        process.stdout.close()


def _port(address: Address) -> int:
    try:
        return urlsplit(address.url).port or 0
    except ValueError:
        return 0


def _size(state: StateDirectory) -> int:
    try:
        return state.server_log.stat().st_size
    except FileNotFoundError:
        return 0


def _last_line(state: StateDirectory) -> str:
    lines = state.server_log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
