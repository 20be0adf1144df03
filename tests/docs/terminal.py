"""A terminal as a reader has it: bash on a pseudo-terminal, and what its screen shows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ROWS, COLUMNS = 50, 120
END_SECONDS_MAX = 30.0
"""For what still runs when a terminal is closed."""
PROMPT = re.compile("\x1d(\\d+)\x1e")
"""What the shell prints when it waits for the next command: the last one's exit code."""

_PART = re.compile(
    r"\x1b\[(?P<numbers>[\d;?]*)(?P<letter>[A-Za-z])|\x1b\][^\x07]*\x07|\x1b.|(?P<one>[\r\n\b\x07])"
)


class Screen:
    """Lines of text as they are read in the end: what was written over is gone."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = self._column = 0

    @property
    def text(self) -> str:
        """Everything, without spaces at the ends of lines and empty lines at the end."""
        return "\n".join(line.rstrip() for line in self.lines).rstrip()

    def write(self, text: str) -> None:
        """Show text as it comes from a program; an escape sequence must be whole."""
        place = 0
        for part in _PART.finditer(text):
            self._put(text[place : part.start()])
            place = part.end()
            if part["one"]:
                self._control(part["one"])
            elif part["letter"]:
                self._command(part["letter"], part["numbers"])
        self._put(text[place:])

    def _put(self, text: str) -> None:
        line = self.lines[self._row].ljust(self._column)
        end = self._column + len(text)
        self.lines[self._row] = line[: self._column] + text + line[end:]
        self._column = end

    def _control(self, one: str) -> None:
        if one == "\n":
            self._row += 1
            if self._row == len(self.lines):
                self.lines.append("")
        if one in "\r\n":
            self._column = 0
        elif one == "\b":
            self._column = max(0, self._column - 1)

    def _command(self, letter: str, numbers: str) -> None:
        if letter == "A":
            self._row = max(0, self._row - int(numbers or 1))
        elif letter == "K":
            keep = "" if numbers == "2" else self.lines[self._row][: self._column]
            self.lines[self._row] = keep
        elif letter == "J":
            del self.lines[self._row + 1 :]
            self.lines[self._row] = self.lines[self._row][: self._column]


class Terminal:
    """An interactive bash; `screen` shows what it printed since the last command was typed."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        settings = termios.tcgetattr(slave)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        self._shell = subprocess.Popen(
            # It makes the terminal the one that Ctrl-C is pressed on.
            ["setsid", "--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**environment, "TERM": "xterm", "PS1": "\x1d$?\x1e", "PS2": ""},
        )
        os.close(slave)
        self._rest = b""
        self.screen = Screen()
        self.exit_code: int | None = None
        self.read_until_prompt(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what still runs in it, in good order, and then the shell."""
        limit = time.monotonic() + END_SECONDS_MAX
        while left := self._others():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM if time.monotonic() < limit else signal.SIGKILL)
            select.select([self._master], [], [], 0.2)
            self._drain()
        self._shell.kill()
        self._shell.wait()
        os.close(self._master)

    def _others(self) -> list[int]:
        """The processes of this session but for the shell."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                is_dead = fields[0] == "Z"
                if int(fields[3]) == self._shell.pid and not is_dead:
                    found.append(int(stat.parent.name))
        return [pid for pid in found if pid != self._shell.pid]

    def _drain(self) -> None:
        while select.select([self._master], [], [], 0)[0]:
            try:
                if not os.read(self._master, 65536):
                    return
            except OSError:
                return

    def type(self, text: str) -> None:
        """Type a command, with an Enter after each line, on an empty screen."""
        self.screen = Screen()
        self.exit_code = None
        os.write(self._master, text.encode() + b"\n")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._master, b"\x03")

    def read_until_prompt(self, seconds: float) -> bool:
        """Read until the command has ended; False when it has not after so long."""
        limit = time.monotonic() + seconds
        while self.exit_code is None and time.monotonic() < limit:
            self.read(limit - time.monotonic())
        return self.exit_code is not None

    def read(self, seconds: float) -> None:
        """Read what comes within so long, at least once."""
        if not select.select([self._master], [], [], max(0.0, seconds))[0]:
            return
        try:
            self._rest += os.read(self._master, 65536)
        except OSError as error:
            raise AssertionError(f"the shell has gone: {error}") from None
        whole, self._rest = _whole(self._rest)
        for place, part in enumerate(PROMPT.split(whole)):
            if place % 2:
                self.exit_code = int(part)
            else:
                self.screen.write(part)


def _whole(data: bytes) -> tuple[str, bytes]:
    """Divide into text and what is the begin of a letter, an escape sequence or a prompt."""
    open_part = re.search(rb"(\x1b(\[[\d;?]*|\][^\x07]*)?|\x1d\d*)$", data)
    end = open_part.start() if open_part else len(data)
    for cut in range(4):
        try:
            return data[: end - cut].decode(), data[end - cut :]
        except UnicodeDecodeError:
            continue
    return data[:end].decode(errors="replace"), data[end:]
