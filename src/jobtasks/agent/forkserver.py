"""Starts Python programs for the agent by forking a Python that has imported what they need.

`PYTHON forkserver.py AGENT MODULE... ROOM`, a program by itself, run by the interpreter that the
tasks name (3.8 or newer), with the agent on descriptor `SOCKET`. A task's process is a fork of this
one: the agent's child, as those that the spawner starts, and to the program in it a new process of
Python. Standard library only; of ours what stands beside it.
"""

# pathlib would cost memory that each fork pays for:
# ruff: noqa: PTH100, PTH115, PTH120, PTH208

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import socket
import sys
import time

TYPE_CHECKING = False  # as in typing, which costs memory that each fork would pay for
if TYPE_CHECKING:
    from jobtasks.agent import becoming, codes, spawner
else:
    # Found by its place, for this interpreter may not know the package; and not left where a
    # task's own modules are looked for.
    _here = os.path.dirname(os.path.abspath(__file__))
    _path, _writes = [place for place in sys.path if place != _here], sys.dont_write_bytecode
    sys.path[:], sys.dont_write_bytecode = [_here, *_path], True
    import becoming
    import codes
    import spawner

    sys.path[:], sys.dont_write_bytecode = _path, _writes
    for _name in ("becoming", "codes", "spawner"):
        del sys.modules[_name]

SOCKET = 3
"""The descriptor on which the agent speaks."""
ROOM = "JOBTASKS_ROOM"
"""A variable that, as the last argument, only makes room for what /proc is to show of tasks."""
BIND = "LD_BIND_NOW"
"""A variable that has the system's loader look for all functions at once: each fork would look for
those that it is the first to call, and copy the pages where that is noted."""
GONE_SECONDS = 1.0
"""How long a thread that has ended may be seen."""
CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x200000, 0x1000000
PR_GET_TID_ADDRESS = 40


class Refusal(Exception):
    """Tasks cannot be started from here; the message says why, in a line."""


class Forks:
    """Forks of this process that are children of its parent."""

    def __init__(self) -> None:
        # The interpreter stays locked during the calls: in the child nobody could unlock it.
        self._libc = ctypes.PyDLL(None, use_errno=True)
        self._plain = spawner.CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID
        self._arguments = spawner.CloneArguments(flags=self._plain, child_tid=self._tid_address())
        self._call = (
            spawner.CLONE3,
            ctypes.byref(self._arguments),
            ctypes.sizeof(self._arguments),
        )
        # Looked up here: in a child it would be each child's work.
        python = ctypes.pythonapi
        self._before, self._after = python.PyOS_BeforeFork, python.PyOS_AfterFork_Parent
        self._after_in_child = python.PyOS_AfterFork_Child

    def _tid_address(self) -> int:
        """Return where the C library keeps the number of this thread: it must know the child's."""
        found = ctypes.c_void_p()
        self._libc.prctl(PR_GET_TID_ADDRESS, ctypes.byref(found), 0, 0, 0)
        if not found.value or ctypes.c_int.from_address(found.value).value != os.getpid():
            raise Refusal("this system's C library cannot be forked by others")
        return found.value

    def fork(self, group: int) -> tuple[int, int]:
        """Fork into the control group that `group` is open on, -1: into our own.

        Return the pid, 0 in the child, -1 for none; and an error number.
        """
        arguments = self._arguments
        arguments.flags = self._plain | (spawner.CLONE_INTO_CGROUP if group >= 0 else 0)
        arguments.cgroup = max(group, 0)
        self._before()
        pid = self._libc.syscall(*self._call)
        if pid == 0:
            self._after_in_child()
            return 0, 0
        error = ctypes.get_errno() if pid < 0 else 0
        self._after()
        return pid, error


def load(modules: list[str]) -> None:
    """Import what tasks need; errors: `Refusal` when they could not be forked with that."""
    before = descriptors()
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            raise Refusal(f"cannot import {name}: {type(error).__name__}: {error}") from None
    if found := descriptors() - before:
        raise Refusal(f"{', '.join(modules)}: importing opens {', '.join(sorted(found))}")
    settle_threads()
    if len(os.listdir("/proc/self/task")) > 1:
        raise Refusal(f"{', '.join(modules)}: importing starts threads, which no fork has")


def settle_threads() -> None:
    """Let libraries that know of forks (OpenBLAS does) end their threads until they need them."""
    if len(os.listdir("/proc/self/task")) > 1:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        # Whoever has joined a thread goes on a moment before the kernel has removed it.
        until = time.monotonic() + GONE_SECONDS
        while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < until:
            time.sleep(0.001)


def descriptors() -> set[str]:
    """Return what is open here, but for the list itself."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return found


def serve(asked: socket.socket, agent: int, modules: list[str]) -> becoming.Task | None:
    """Carry out orders until the agent is gone. In each child: return its task.

    Errors: `Refusal` before the first order.
    """
    libc = ctypes.CDLL(None)
    # As the spawner: nobody would end what is started after the agent's death.
    libc.prctl(spawner.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != agent:
        return None
    os.chdir("/")
    os.environ.pop(BIND, None)
    appearance = becoming.Appearance(ROOM)
    line = "\0".join([sys.executable, __file__, *modules])
    appearance.show(b"forkserver", os.fsencode(line), b"")
    load(modules)
    sys.stdout.flush()
    sys.stderr.flush()
    forks = Forks()
    scripts = codes.Scripts()
    known = becoming.Known()
    gc.collect()
    # What there is now is never looked at again by the collector, which would copy it all.
    gc.freeze()
    asked.sendall(spawner.ANSWER.pack(0, 0))
    while taken := spawner.take(asked):
        order, fds = taken
        code = scripts.code(order)
        waits, goes = os.pipe()
        pid, error = forks.fork(fds[4] if len(fds) > 4 else -1)
        if pid == 0:
            os.close(goes)
            asked.close()
            return becoming.Task(order, fds, waits, appearance, known, code)
        for fd in fds:
            os.close(fd)
        asked.sendall(spawner.ANSWER.pack(pid, error))
        # Only now: what the agent has not been told of does not begin.
        os.write(goes, b"1")
        os.close(waits)
        os.close(goes)
        if code is None:
            scripts.learn(order)
    return None


if __name__ == "__main__":
    # Open until the end: the agent takes its closing for that.
    _asked = socket.socket(fileno=SOCKET)
    _asked.set_inheritable(False)
    try:
        _task = serve(_asked, int(sys.argv[1]), sys.argv[2:-1])
    except Refusal as refusal:
        sys.exit(str(refusal))
    if _task is not None:
        becoming.run(_task)
