"""The code of scripts that are started again and again, so that it is not compiled in each fork.

Used by `forkserver` alone, in the interpreter of the tasks (3.8 or newer); standard library only.
"""

# pathlib would cost memory that each fork pays for:
# ruff: noqa: PTH116, PTH123

from __future__ import annotations

import marshal
import os
import time
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

    Seen = tuple[int, int, int, int, int]

LINES_MAX = 16
"""Command lines that are remembered."""
SCRIPT_BYTES_MAX = 64 * 1024
"""A longer script is compiled by who runs it: the agent may wait for us meanwhile."""
SETTLED_NS = 1_000_000_000
"""A file that was changed so lately may be changed again without another time."""
VERSION = 2
"""Of marshal, as the agent writes orders (`births.MARSHAL_VERSION`)."""
LINE_AT = 5
"""Where the command line begins in an order, which is a tuple: a type and a length are before."""


class Script:
    """A command line that was asked for, and what is known of its script."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.seen: Seen | None = None
        """What the file looked like when it was compiled; None: that was not yet."""
        self.code: CodeType | None = None
        """None: whoever runs it is to compile it, and to say what there is to say about it."""

    def is_as_seen(self) -> bool:
        """Return whether the file is the one that was compiled."""
        return self.seen is not None and look(self.path) == self.seen

    def compile(self) -> None:
        """Read and compile it, if it is not being changed just now."""
        self.seen, self.code = look(self.path), None
        if self.seen is None or not is_settled(self.seen):
            self.seen = None
            return
        try:
            with open(self.path, "rb") as file:
                text = file.read(SCRIPT_BYTES_MAX + 1)
            if len(text) <= SCRIPT_BYTES_MAX and look(self.path) == self.seen:
                self.code = quietly_compiled(text, self.path)
        except Exception:
            # Told by who runs it.
            self.code = None


class Scripts:
    """The scripts of the newest command lines."""

    def __init__(self) -> None:
        self._known: dict[bytes, Script] = {}
        """By the beginning of an order, in which the line is."""

    def code(self, order: bytes) -> CodeType | None:
        """Return the code of the script that an order names, None when it is not known."""
        script = self._find(order)
        return script.code if script is not None and script.is_as_seen() else None

    def learn(self, order: bytes) -> None:
        """Remember an order's line; of one that comes again compile the script."""
        script = self._find(order)
        if script is None:
            self._remember(order)
        elif not script.is_as_seen():
            script.compile()

    def _find(self, order: bytes) -> Script | None:
        for head, script in self._known.items():
            if order.startswith(head):
                return script
        return None

    def _remember(self, order: bytes) -> None:
        line = marshal.loads(order)[0]
        head = order[:LINE_AT] + marshal.dumps(line, VERSION)
        if line[1] in ("-c", "-m") or not order.startswith(head):
            return
        if len(self._known) >= LINES_MAX:
            del self._known[next(iter(self._known))]
        self._known[head] = Script(line[1])


def look(path: str) -> Seen | None:
    """Return what is another when a file is another, or was changed; None when there is none."""
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return None
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def is_settled(seen: Seen) -> bool:
    """Return whether the next change of a file will show in its times."""
    return time.time_ns() - max(seen[3:]) > SETTLED_NS


def quietly_compiled(text: bytes, path: str) -> CodeType:
    """Return a script's code; errors: any, also for what Python would only warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return compile(text, path, "exec", dont_inherit=True)
