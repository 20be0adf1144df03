"""The node's control groups: one for each slot, where the machine lets us (R28, R34, R36).

What can be had of them is found out by trying, each ability by itself.
`python -m jobtasks.agent.cgroups WHERE` says what that is, without leaving anything behind.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jobtasks.agent import group_files
from jobtasks.agent.births import Births, Starter

logger = logging.getLogger(__name__)

AUTO, ALL, OFF = "auto", "all", "off"
"""In the agent's own group, for attempts that need one, or for all; or none."""
PROC = Path("/proc")
MOUNT_TYPE = "cgroup2"
PROBE_SECONDS = 10.0
LINKS = 2
RENEW_MAX = 1000
"""Names that are tried for a slot's group while what hangs in the kernel keeps the old ones."""


class GroupsError(Exception):
    """No control group can be used; the message says why."""


class Abilities(NamedTuple):
    """What control groups are used for: "" when they are, else why not."""

    kill: str
    freeze: str
    memory: str

    def describe(self) -> str:
        """Return it as a line."""
        uses = {"ends tasks": self.kill, "freezes tasks": self.freeze, "limits memory": self.memory}
        return "; ".join(f"{use}: {f'no, {why}' if why else 'yes'}" for use, why in uses.items())


class Group:
    """The control group of one slot."""

    def __init__(self, directory: Path, name: str, abilities: Abilities, births: Births) -> None:
        self._directory = directory
        self._name = name
        self._births = births
        self._renewals = 0
        self._limit_kib = 0
        self._fd = -1
        self.kills = not abilities.kill
        self.freezes = not abilities.freeze
        self.limits = not abilities.memory
        self.path = directory / name
        self._open()

    def _open(self) -> None:
        """Make it, empty: with the next name when somebody cannot be got out of the old one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        while not group_files.remove(self.path):
            group_files.kill(self.path)
            self._renewals += 1
            self.path = self._directory / f"{self._name}.{self._renewals % RENEW_MAX}"
        make(self.path)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._limit_kib = 0
        if self.limits:
            group_files.write(self.path / "memory.oom.group", "1")
            # Else who is over the limit would wear out the disk, and its neighbours.
            group_files.write(self.path / "memory.swap.max", "0")

    def start(
        self,
        command: list[str],
        variables: dict[str, str],
        fds: tuple[int, ...],
        memory_kib: int,
        starter: Starter | None = None,
    ) -> int:
        """Start a process in it, with `memory_kib` (0: any) for all that it becomes.

        By `starter`, or the spawner. Errors: as `Starter.start`.
        """
        if self._fd < 0:
            self.renew()
        if self.limits and memory_kib != self._limit_kib:
            limit = str(memory_kib * 1024) if memory_kib else "max"
            if not group_files.write(self.path / "memory.max", limit):
                raise BlockingIOError(errno.EAGAIN, f"no limit for memory in {self.path}")
            self._limit_kib = memory_kib
        try:
            return (starter or self._births).start(command, variables, fds, self._fd)
        except BlockingIOError:
            # Something may run in it, or a task has made groups in it that it left.
            self.kill()
            self.renew()
            raise

    def kill(self) -> None:
        """Kill everybody in it."""
        if self.kills:
            group_files.kill(self.path)

    def processes(self) -> set[int]:
        """Return who is in it."""
        return group_files.processes(self.path)

    def is_empty(self) -> bool:
        """Whether nobody is in it, not even one who is dying."""
        return group_files.field(self.path / "cgroup.events", "populated") == 0

    def peak_kib(self) -> int:
        """Return the most memory that was in use in it, 0 when the kernel does not say."""
        text = group_files.read(self.path / "memory.peak").strip() if self.limits else ""
        return int(text) // 1024 if text.isdigit() else 0

    def out_of_memory(self) -> bool:
        """Whether the kernel has ended somebody in it for want of memory."""
        return self.limits and group_files.field(self.path / "memory.events", "oom_kill") > 0

    def release(self, stained: bool) -> None:
        """Make it ready for the next attempt: figures and limits of the old one end with it."""
        # More than itself and its parent name it: the task has made groups in it.
        if stained or self.limits or self._fd < 0 or os.fstat(self._fd).st_nlink > LINKS:
            self.renew()

    def renew(self) -> None:
        """Replace it by an empty one; when that cannot be had, the next start tries again."""
        try:
            self._open()
        except OSError as error:
            logger.warning("no control group can be made: %s", error)


def make(directory: Path) -> None:
    """Make a group; no error when it is there."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir()


class NodeGroups:
    """The groups of this node, from the agent's start to its end."""

    def __init__(self, directory: Path, lock: int, abilities: Abilities, prefix: str) -> None:
        self.directory = directory
        self.abilities = abilities
        self.prefix = prefix
        """How /proc/PID/cgroup calls the directory."""
        self.births = Births()
        self._lock = lock

    def slot(self, number: int) -> Group:
        """Return the group of a slot."""
        name = f"{group_files.SLOT_PREFIX}{number}"
        return Group(self.directory, name, self.abilities, self.births)

    def close(self, node: Path) -> None:
        """Kill what is left, and remove what was made."""
        self.births.close()
        os.close(self._lock)
        group_files.end(node)


def mount(proc: Path = PROC) -> tuple[Path, str]:
    """Return where control groups of version 2 are mounted, and which of them is seen there."""
    for line in group_files.read(proc / "self/mountinfo").splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.split(" ", 1)[0] == MOUNT_TYPE:
            root, point = fields.split()[3:5]
            return Path(point.encode().decode("unicode_escape")), root
    raise GroupsError("no control groups of version 2 are mounted")


def own_name(proc: Path = PROC) -> str:
    """Return which group this process is in."""
    for line in group_files.read(proc / "self/cgroup").splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::")
    raise GroupsError("this process is in no control group of version 2")


def own_directory(proc: Path = PROC) -> Path:
    """Return this process's group as a directory; errors: `GroupsError`."""
    point, root = mount(proc)
    name = own_name(proc)
    inside = os.path.relpath(name, root)
    if ".." in (*Path(name).parts, *Path(inside).parts):
        raise GroupsError(f"the group {name} of this process is not mounted here")
    return point / inside


def base(where: str, name: str, proc: Path = PROC) -> Path:
    """Return the directory in which the node's group `name` is to be; errors: `GroupsError`."""
    if where == OFF:
        raise GroupsError("turned off (--cgroups off)")
    if where not in (AUTO, ALL):
        return Path(where).resolve()
    own = own_directory(proc)
    # An earlier agent of the node has moved the keeper, of which we are.
    return own.parents[1] if own.name == group_files.OWN and own.parent.name == name else own


def open_groups(where: str, node_id: str, node: Path, proc: Path = PROC) -> NodeGroups:
    """Make the node's group and find out what it is good for; errors: `GroupsError`."""
    name = group_files.NODE_PREFIX + node_id
    parent = base(where, name, proc)
    directory = parent / name
    try:
        make(directory)
        lock = group_files.lock(directory)
    except BlockingIOError:
        raise GroupsError(f"another agent with this node's id uses {directory}") from None
    except OSError as error:
        raise GroupsError(f"{parent}: {error.strerror}") from None
    try:
        if not (directory / "cgroup.procs").exists():
            raise GroupsError(f"{parent} is not a control group of version 2")
        (node / group_files.RECORD).write_text(f"{directory}\n")
        memory = share_memory(directory)
        prefix = try_start(directory)
        abilities = Abilities(
            kill=lacks(directory, "cgroup.kill", "this kernel has no cgroup.kill (5.14 has)"),
            freeze=lacks(directory, "cgroup.freeze", "this kernel has no cgroup.freeze (5.2 has)"),
            memory=memory,
        )
    except (GroupsError, OSError) as error:
        os.close(lock)
        group_files.dissolve(directory)
        raise GroupsError(str(error)) from None
    (node / group_files.RECORD).write_text(f"{directory}\n{abilities.describe()}\n")
    return NodeGroups(directory, lock, abilities, prefix)


def lacks(directory: Path, file: str, why: str) -> str:
    """Return `why` when a group has no such file, or we may not write it."""
    path = directory / file
    if not path.exists():
        return why
    return "" if os.access(path, os.W_OK) else f"{path} cannot be written"


def has_memory(directory: Path, file: str) -> bool:
    """Whether a group's list of controllers names memory."""
    return "memory" in group_files.read(directory / file).split()


def share_memory(directory: Path) -> str:
    """Let the groups below the node's limit memory; return why that cannot be, else ""."""
    parent = directory.parent
    if not has_memory(parent, "cgroup.controllers"):
        return f"{parent} has no memory controller"
    if not has_memory(directory, "cgroup.controllers"):
        # Only the root may have both processes and groups that share a controller; it has no type.
        moved = (parent / "cgroup.type").exists()
        why = make_room(directory) if moved else ""
        if not why and not group_files.write(parent / "cgroup.subtree_control", "+memory"):
            why = f"{parent} does not share its memory controller"
        if why:
            group_files.move_back(directory)
            return why
    if not group_files.write(directory / "cgroup.subtree_control", "+memory"):
        return f"{directory} does not share its memory controller"
    return ""


def make_room(directory: Path) -> str:
    """Move ourselves, keeper and server out of the group above the node's, into a leaf."""
    parent, own = directory.parent, directory / group_files.OWN
    make(own)
    here = own_processes(parent)
    for pid in kin(here):
        group_files.write(own / "cgroup.procs", str(pid))
    left = own_processes(parent)
    return f"other processes are in {parent}: {sorted(left)}" if left else ""


def own_processes(directory: Path) -> set[int]:
    """Return who is in a group itself."""
    return {int(word) for word in group_files.read(directory / "cgroup.procs").split()}


def kin(here: set[int]) -> list[int]:
    """Return us and those above us that are in `here` and run the same Python: ours, too."""
    found, pid = [], os.getpid()
    python = os.path.realpath("/proc/self/exe")
    while pid in here and os.path.realpath(f"/proc/{pid}/exe") == python:
        found.append(pid)
        pid = int(group_files.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
    return found


def try_start(directory: Path) -> str:
    """Start a process in a group of the node's; return how /proc calls the node's group.

    Errors: `GroupsError` when it does not begin there, OSError.
    """
    probe = directory / f"{group_files.SLOT_PREFIX}probe"
    group_files.clear(probe)
    make(probe)
    births = Births()
    fd = os.open(probe, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    root = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pid = births.start(["cat", "/proc/self/cgroup"], {}, (null, writer, null, root), fd)
        os.waitpid(pid, 0)
        lines = os.read(reader, 1 << 16).decode().splitlines()
        found = next((line[3:] for line in lines if line.startswith("0::")), "")
        if not found.endswith("/" + probe.name):
            raise GroupsError(f"a process started in {probe} is in {found or 'none'}")
        return found.removesuffix("/" + probe.name)
    finally:
        for one in (fd, reader, writer, null, root):
            os.close(one)
        births.close()
        group_files.clear(probe)


def main(where: str, out: Callable[[str], object] = print) -> int:
    """Say what control groups can be used for here; 0 when for anything."""
    import tempfile

    with tempfile.TemporaryDirectory() as node:
        try:
            found = open_groups(where, f"probe-{os.getpid()}-{time.monotonic_ns()}", Path(node))
        except GroupsError as error:
            out(str(error))
            return 1
        out(found.abilities.describe())
        found.close(Path(node))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
