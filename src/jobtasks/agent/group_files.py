"""Control groups (version 2) as files: found, ended, frozen, removed.

Keeper and freezer use it, too: standard library only. In the node's group, named by the node's
lasting id, each slot has one; keeper and agent are never in a slot's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

RECORD = "cgroup.path"
"""The file in the node's directory that says where its group is, for whoever comes after a crash;
below it stands what the group is used for."""

NODE_PREFIX, SLOT_PREFIX, OWN = "jobtasks-", "slot-", "own"

END_SECONDS_MAX = 10.0
"""How long a group is given to get empty; what hangs in the kernel longer is left in it."""

ROUND_SECONDS = 0.002


def write(path: str | Path, text: str) -> bool:
    """Write to a file that the kernel made; False when it is not there or does not want that."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def read(path: str | Path) -> str:
    """Return what such a file says; "" when it is not there."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def field(path: str | Path, name: str) -> int:
    """Return the number that a file gives after a name; 0 when it gives none."""
    for line in read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def below(directory: Path) -> Iterator[Path]:
    """Yield a group and the groups in it, the innermost first: tasks may have made some."""
    with contextlib.suppress(OSError):
        for path in list(directory.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield from below(path)
    yield directory


def processes(directory: Path) -> set[int]:
    """Return who is in a group, or in one within it; the dead that nobody has reaped are not."""
    words = (read(path / "cgroup.procs").split() for path in below(directory))
    # 0 is somebody of another pid namespace.
    return {int(word) for found in words for word in found} - {0}


def slot_of(pid: int, directory: Path) -> str:
    """Return the group in a node's that a process is in, or in whose groups; "" when in none."""
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        name = line.partition(f"/{directory.name}/")[2].partition("/")[0]
        if line.startswith("0::") and name.startswith(SLOT_PREFIX):
            return str(directory / name)
    return ""


def kill(directory: Path) -> None:
    """Kill everybody in a group at once, so that no storm of forks runs ahead of it."""
    if write(directory / "cgroup.kill", "1"):
        return
    for pid in processes(directory):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def remove(directory: Path) -> bool:
    """Remove a group and what is in it; False when somebody still lives there."""
    for path in below(directory):
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def clear(directory: Path) -> None:
    """Kill until a group is empty, and remove it."""
    limit = time.monotonic() + END_SECONDS_MAX
    while not remove(directory) and time.monotonic() < limit:
        kill(directory)
        time.sleep(ROUND_SECONDS)


def lock(directory: Path) -> int:
    """Take the node's group for the life of the descriptor; errors: BlockingIOError, OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def recorded(node: Path) -> Path | None:
    """Return the group that an agent of this node had, if there is one."""
    directory = Path(read(node / RECORD).partition("\n")[0] or "/")
    is_ours = directory.name.startswith(NODE_PREFIX)
    return directory if is_ours and (directory / "cgroup.procs").exists() else None


def end(node: Path) -> int:
    """Kill what is left in the slots of a node, remove its groups; return how many were killed.

    A group that an agent has taken is left alone: a copy of a node's directory names it, too.
    """
    directory = recorded(node)
    if directory is None:
        return 0
    try:
        taken = lock(directory)
    except OSError:
        return 0
    try:
        found = [path for path in below(directory) if path.parent == directory]
        slots = [path for path in found if path.name.startswith(SLOT_PREFIX)]
        killed = sum(len(processes(path)) for path in slots)
        for do in (kill, clear):
            for path in slots:
                do(path)
        dissolve(directory)
    finally:
        os.close(taken)
    return killed


def dissolve(directory: Path) -> None:
    """Remove a node's group when its slots are gone; who was moved into it goes back."""
    if (directory / OWN).is_dir():
        move_back(directory)
    remove(directory)


def move_back(directory: Path) -> None:
    """Move who had to leave the group above the node's back into it."""
    own = directory / OWN
    # Nobody can be where a controller is shared.
    for group in (directory, directory.parent):
        write(group / "cgroup.subtree_control", "-memory")
    for pid in processes(own):
        write(directory.parent / "cgroup.procs", str(pid))
    remove(own)
