"""Threads that start processes, so that the agent goes on while one becomes its program.

A process is started by vfork: who starts it stands still until it has become its program, and with
many short tasks that was most of the agent's time. Python's own `os.posix_spawn` makes the whole
interpreter stand still; the C library's, called from outside of it, only its thread. See ADR 0032.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from jobtasks.agent.launcher import DEFAULT_SIGNALS, Birth
from jobtasks.agent.loop import Loop
from jobtasks.agent.slots import Slot

logger = logging.getLogger(__name__)

THREADS = 2
"""While one stands still the other starts the next; with more none is faster."""

OBJECT_BYTES = 1024
"""Room for what C keeps of attributes, actions or signals: at most 336 bytes on 64 bits."""

SETSIGDEF, SETSIGMASK, SETSID = 0x04, 0x08, 0x80
"""Flags of posix_spawn, the same in every C library of Linux."""


class Started(NamedTuple):
    """What came of a start."""

    pid: int
    error: int
    """What kept it from starting; 0: nothing, and `pid` is its process."""
    at: float
    """When, by the loop's clock."""


Heard = Callable[[Started], None]


class _Order(NamedTuple):
    program: bytes
    command: ctypes.Array[ctypes.c_char_p]
    variables: ctypes.Array[ctypes.c_char_p]
    actions: ctypes.Array[ctypes.c_char]
    note: Callable[[int], None]
    heard: Heard


def encoded(texts: list[str]) -> list[bytes] | None:
    """Return texts as C has them; None when one has a NUL."""
    found = os.fsencode("\0".join(texts)).split(b"\0") if texts else []
    return found if len(found) == len(texts) else None


def c_strings(texts: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    """Return an array of strings with a null pointer at its end."""
    return (ctypes.c_char_p * (len(texts) + 1))(*texts, None)


class Starters:
    """Starts processes one beside the other; who wanted one hears of it in the loop's thread.

    The children are filed with the threads (`Trees.elsewhere`), what they leave behind with the
    first thread. The threads begin with the first start and end with the process.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._libc = ctypes.CDLL(None)
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._started: deque[tuple[Heard, Started]] = deque()
        self._bell = -1
        self._threads = 0
        self._change = threading.Condition()
        self._actions: dict[int, tuple[object, int, ctypes.Array[ctypes.c_char]]] = {}
        self._attributes = ctypes.create_string_buffer(OBJECT_BYTES)
        self.under_way = 0
        """Starts of which nobody has heard."""

    @staticmethod
    def are_there() -> bool:
        """Return whether the C library can start a process in a directory (glibc since 2.29)."""
        return hasattr(ctypes.CDLL(None), "posix_spawn_file_actions_addfchdir_np")

    def start(self, birth: Birth, note: Callable[[int], None], heard: Heard) -> bool:
        """Have a process started, not in a control group; return whether it will be.

        `note` is called with its pid at once, in the thread that has started it; `heard` from
        `tell`. False: the command line is none that C could take, or there can be no thread.
        """
        command = encoded(birth.command)
        variables = encoded([f"{name}={value}" for name, value in birth.variables.items()])
        if command is None or variables is None:
            return False
        if not self._threads and not self._begin():
            return False
        order = _Order(
            command[0],
            c_strings(command),
            c_strings(variables),
            self._actions_of(birth.slot),
            note,
            heard,
        )
        self.under_way += 1
        self._orders.put(order)
        return True

    def tell(self) -> None:
        """Let those hear whose processes have been started; to be called in the loop's thread."""
        while self._started:
            heard, started = self._started.popleft()
            self.under_way -= 1
            heard(started)

    def finish(self) -> None:
        """Wait until nothing is under way."""
        while self.under_way:
            with self._change:
                self._change.wait_for(lambda: self._started)
            self.tell()

    def _begin(self) -> bool:
        """Start the threads; return whether there is one."""
        try:
            if self._bell < 0:
                self._prepare()
            for number in range(THREADS):
                threading.Thread(target=self._work, name=f"starter {number}", daemon=True).start()
                self._threads += 1
        except (OSError, RuntimeError) as error:
            # Python's word for a thread that there is no room for.
            logger.warning("%d threads that start processes: %s", self._threads, error)
        return self._threads > 0

    def _prepare(self) -> None:
        libc, attributes = self._libc, self._attributes
        libc.posix_spawnattr_init(attributes)
        signals = ctypes.create_string_buffer(OBJECT_BYTES)
        libc.sigemptyset(signals)
        libc.posix_spawnattr_setsigmask(attributes, signals)
        for known in DEFAULT_SIGNALS:
            libc.sigaddset(signals, int(known))
        libc.posix_spawnattr_setsigdefault(attributes, signals)
        flags = SETSIGDEF | SETSIGMASK | SETSID
        libc.posix_spawnattr_setflags(attributes, ctypes.c_short(flags))
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._loop.watch(self._bell, lambda events: self._heard_bell())

    def _heard_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        self.tell()

    def _actions_of(self, slot: Slot) -> ctypes.Array[ctypes.c_char]:
        """Return what is done in a child before it becomes its program, as C wants it."""
        kept = self._actions.get(slot.number)
        if kept is not None:
            if kept[0] is slot.actions and kept[1] == slot.directory:
                return kept[2]
            self._libc.posix_spawn_file_actions_destroy(kept[2])
        made = ctypes.create_string_buffer(OBJECT_BYTES)
        self._libc.posix_spawn_file_actions_init(made)
        for _, source, number in slot.actions:
            self._libc.posix_spawn_file_actions_adddup2(made, source, number)
        self._libc.posix_spawn_file_actions_addfchdir_np(made, slot.directory)
        self._actions[slot.number] = slot.actions, slot.directory, made
        return made

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = ctypes.c_int()
        place, attributes = ctypes.byref(pid), self._attributes
        by_path, by_name = self._libc.posix_spawn, self._libc.posix_spawnp
        while True:
            order = self._orders.get()
            start = by_path if b"/" in order.program else by_name
            error = start(
                place, order.program, order.actions, attributes, order.command, order.variables
            )
            if not error:
                order.note(pid.value)
            started = Started(pid.value, error, time.monotonic())
            with self._change:
                self._started.append((order.heard, started))
                is_first = len(self._started) == 1
                self._change.notify()
            if is_first:
                os.eventfd_write(self._bell, 1)
