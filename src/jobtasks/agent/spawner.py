"""Starts processes in control groups for the agent: `python -I -S spawner.py`, a program by itself.

A process that is moved into its group after its start has a moment in which it may have started
others, and each move waits for all processors. The kernel can start a process in a group (clone3),
but only as a fork, and the agent is too large to fork. So it is this small process that forks, and
it gives the child to its own parent, the agent. Standard library only, nothing of ours imported.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import gc
import marshal
import os
import signal
import socket
import struct
import sys

CLONE3 = 435
"""The same on all machines."""
CLONE_VFORK, CLONE_PARENT, CLONE_INTO_CGROUP = 0x4000, 0x8000, 0x200000000
PR_SET_PDEATHSIG = 1
FDS = 5
"""Sent with each order: stdin, stdout, stderr, the working directory, the control group."""

ORDER = struct.Struct("=I")
"""The size of an order: ``(path to look in, program, command line, environment)``."""
ANSWER = struct.Struct("=ii")
"""The pid, or -1; and an error number, `NO_COMMAND` for what no command line can be."""
NO_COMMAND = -1


class CloneArguments(ctypes.Structure):
    """As the kernel wants them."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size",
            "tls", "set_tid", "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


def execute(order: tuple[str, bytes, list[bytes], dict[bytes, bytes]], fds: list[int]) -> int:
    """Become the program; return an error number when that cannot be."""
    path, program, command, variables = order
    try:
        os.setsid()
        for number, fd in enumerate(fds[:3]):
            os.dup2(fd, number)
        os.fchdir(fds[3])
        if b"/" in program:
            os.execve(program, command, variables)
        return search(path, program, command, variables)
    except OSError as error:
        return error.errno or NO_COMMAND
    except ValueError:
        return NO_COMMAND


def search(path: str, program: bytes, command: list[bytes], variables: dict[bytes, bytes]) -> int:
    """Become the first program of that name on `path` that can be executed, as execvp(3)."""
    found = 0
    for directory in path.split(":"):
        try:
            os.execve(os.fsencode(directory or ".") + b"/" + program, command, variables)
        except (FileNotFoundError, NotADirectoryError):
            found = found or errno.ENOENT
        except PermissionError:
            found = errno.EACCES
    return found


def take(asked: socket.socket) -> tuple[bytes, list[int]] | None:
    """Return the next order, marshalled, and the descriptors that came with it.

    None when there is no agent any more.
    """
    fds = array.array("i")
    room = socket.CMSG_LEN(FDS * fds.itemsize)
    # Not socket.recv_fds: it forgets the flag, and each child would have them all.
    data, came, _, _ = asked.recvmsg(1 << 16, room, socket.MSG_CMSG_CLOEXEC)
    for _, _, packed in came:
        fds.frombytes(packed)
    while len(data) < ORDER.size or len(data) < ORDER.size + ORDER.unpack_from(data)[0]:
        more = asked.recv(1 << 20)
        if not more:
            return None
        data += more
    return data[ORDER.size :], fds.tolist()


def main(agent: int) -> None:
    """Carry out orders from stdin until the agent is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    # An order that waits must not be carried out when nobody is there to end what it starts.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != agent:
        return
    # Python's own choices, which children would inherit.
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    asked = socket.socket(fileno=os.dup(0))
    asked.set_inheritable(False)
    failed, fails = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    arguments = CloneArguments(flags=CLONE_INTO_CGROUP | CLONE_PARENT | CLONE_VFORK)
    gc.disable()
    while taken := take(asked):
        order, fds = taken
        arguments.cgroup = fds[4]
        pid = libc.syscall(CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
        if pid == 0:
            os.write(fails, ORDER.pack(execute(marshal.loads(order), fds) & 0xFFFFFFFF))
            os._exit(127)
        error = ctypes.get_errno() if pid < 0 else 0
        for fd in fds:
            os.close(fd)
        with contextlib.suppress(BlockingIOError):
            # The child has become its program by now, or is dead.
            error = struct.unpack("=i", os.read(failed, ORDER.size))[0]
        asked.sendall(ANSWER.pack(pid, error))


if __name__ == "__main__":
    main(int(sys.argv[1]))
