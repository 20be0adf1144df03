"""Inside the virtual machine, as root: the memory controller, and groups given to a user."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.conftest import (  # noqa: F401
    AgentProcess,
    FakeServer,
    Launch,
    agent,
    is_alive,
    launch,
    server,
    wait_for,
    wait_joined,
)

from jobtasks.agent import group_files
from jobtasks.protocol.messages import EndKind

ROOT = Path("/sys/fs/cgroup")
USER = 1000
MIB = 1024
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
JOIN = """
import os, sys
if sys.argv[1]:
    open(sys.argv[1] + "/cgroup.procs", "w").write("0")
os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
os.environ["HOME"] = "/tmp"
os.execv(sys.argv[3], sys.argv[3:])
"""
HOLD = "import time; x = b'x' * ({mib} << 20); print('holds', flush=True); time.sleep(1000)"


@pytest.fixture
def cgroups_mode() -> str:
    return "all"


def hold(mib: int) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", HOLD.format(mib=mib))


def test_all_is_used(agent: AgentProcess) -> None:  # noqa: F811
    """At the root, with all controllers: three times yes."""
    assert agent.said().count(": yes") == 3, agent.said()


@pytest.mark.rule("R28", "R14")
def test_the_kernel_stops_what_grows_too_fast_to_be_watched(
    server: FakeServer,  # noqa: F811
    agent: AgentProcess,  # noqa: F811
) -> None:
    """A gigabyte in one step, with 100 MiB reserved: never more, and the cause is told."""
    began = time.monotonic()
    server.start(1, *hold(1024), memory_kib=100 * MIB)
    ended = server.end_of(1, 60)
    assert (ended.kind, ended.signal) == (EndKind.OUT_OF_MEMORY, signal.SIGKILL)
    assert ended.reason == (
        "the kernel ended it when it wanted more memory: 102400 KiB are reserved for it"
    )
    peak = ended.peak_memory_kib
    assert peak is not None and 95 * MIB < peak <= 100 * MIB
    print(
        f"FIGURE 1 GiB against 100 MiB: peak {peak} KiB, over in {time.monotonic() - began:.1f} s"
    )
    server.start(2, *hold(20), memory_kib=100 * MIB)
    server.pid_of(2)
    server.follow = [2]
    server.tell()
    server.wait(lambda: b"holds" in server.logs.get(2, b""), "one that fits", 60)
    server.stop(2)
    ended = server.end_of(2)
    assert ended.kind is EndKind.STOPPED
    assert ended.peak_memory_kib is not None and 20 * MIB < ended.peak_memory_kib < 60 * MIB
    print(f"FIGURE 20 MiB in the same slot after that: peak {ended.peak_memory_kib} KiB")


@pytest.mark.rule("R28", "R36")
def test_one_that_is_too_large_ends_the_whole_attempt(
    server: FakeServer,  # noqa: F811
    agent: AgentProcess,  # noqa: F811
    tmp_path: Path,
) -> None:
    """A hidden grandchild outgrows the reservation: everybody goes, the first process, too."""
    inner = f'{sys.executable} -S -c "{HOLD.format(mib=300)}"'
    program = f"(cd /; env -i setsid {inner} </dev/null >/dev/null 2>&1 &); sleep 1000"
    server.start(1, "sh", "-c", program, memory_kib=100 * MIB)
    ended = server.end_of(1, 60)
    assert (ended.kind, ended.signal) == (EndKind.OUT_OF_MEMORY, signal.SIGKILL)


@pytest.mark.rule("R14")
def test_a_kill_that_is_not_for_memory_is_none(
    server: FakeServer,  # noqa: F811
    agent: AgentProcess,  # noqa: F811
) -> None:
    """Near its limit, and killed by itself: the kernel knows of no lack."""
    program = f"x = b'x' * ({70} << 20); import os; os.kill(os.getpid(), 9)"
    server.start(1, sys.executable, "-S", "-c", program, memory_kib=100 * MIB)
    ended = server.end_of(1, 60)
    assert (ended.kind, ended.signal) == (EndKind.EXIT, signal.SIGKILL)


def test_what_no_process_holds_counts_too(
    server: FakeServer,  # noqa: F811
    agent: AgentProcess,  # noqa: F811
) -> None:
    """A file in memory, without a reservation: it is in the peak."""
    server.start(1, "dd", "if=/dev/zero", "of=/dev/shm/large", "bs=1024k", "count=200")
    ended = server.end_of(1, 60)
    Path("/dev/shm/large").unlink()
    assert ended.exit_code == 0
    assert ended.peak_memory_kib is not None and 200 * MIB < ended.peak_memory_kib < 260 * MIB
    print(f"FIGURE 200 MiB in a tmpfs: peak {ended.peak_memory_kib} KiB")


class Service:
    """A group given to a user, as a service manager does it, and agents that begin in it."""

    def __init__(self, server: FakeServer, folder: Path) -> None:  # noqa: F811
        self.server = server
        self.group = ROOT / f"service-{os.getpid()}"
        self.entered: Path | None = self.group
        self.node = folder / "node"
        self.stderr = folder / "stderr"
        group_files.write(ROOT / "cgroup.subtree_control", "+memory")
        self.group.mkdir()
        for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(self.group / name, USER, USER)
        self.started: list[subprocess.Popen[bytes]] = []
        os.chmod(folder, 0o755)
        self.node.mkdir()
        os.chown(self.node, USER, USER)
        (folder / "token").write_text("t")

    def enter(self, *command: str) -> subprocess.Popen[bytes]:
        with self.stderr.open("ab") as stderr:
            words = [sys.executable, "-c", JOIN, str(self.entered or ""), str(USER), *command]
            process = subprocess.Popen(words, stderr=stderr, cwd="/")
        self.started.append(process)
        return process

    def keeper(self) -> subprocess.Popen[bytes]:
        options = ("--server", self.server.url, "--node-dir", str(self.node), "--slots", "4")
        token = ("--token-file", str(self.node.parent / "token"))
        found = self.enter(sys.executable, "-m", "jobtasks.agent.keeper", *options, *token)
        joins = len(self.server.joins) + 1
        wait_for(lambda: len(self.server.joins) >= joins, "a join", 60)
        return found

    def said(self) -> str:
        return self.stderr.read_text()

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        wait_for(lambda: group_files.remove(self.group), "the service's group is empty", 60)


@pytest.fixture
def service(server: FakeServer) -> Iterator[Service]:  # noqa: F811
    folder = Path(f"/tmp/service-{time.monotonic_ns()}")
    folder.mkdir()
    found = Service(server, folder)
    yield found
    found.close()


@pytest.mark.rule("R28", "R36")
def test_a_user_with_a_service_of_its_own_has_all(server: FakeServer, service: Service) -> None:  # noqa: F811
    """Keeper and agent move to a leaf; memory is limited; at the end all is as it was."""
    keeper = service.keeper()
    assert service.said().count(": yes") == 3, service.said()
    own = group_files.recorded(service.node)
    assert own is not None and own.parent == service.group
    assert keeper.pid in group_files.processes(own / group_files.OWN)
    server.start(1, *hold(1024), memory_kib=100 * MIB)
    assert server.end_of(1, 60).kind is EndKind.OUT_OF_MEMORY
    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(60) == 0
    assert not own.exists()
    assert group_files.read(service.group / "cgroup.subtree_control").split() == []


@pytest.mark.rule("R36")
def test_a_killed_agent_of_a_user_is_followed(server: FakeServer, service: Service) -> None:  # noqa: F811
    """The keeper goes back, the next agent moves it again, and nothing of the old is left."""
    keeper = service.keeper()
    server.start(1, "sleep", "1000")
    leader = server.pid_of(1)
    (killed,) = [pid for pid in children(keeper.pid) if pid != leader]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: len(server.joins) == 2, "the next agent", 60)
    assert not is_alive(leader)
    wait_for(lambda: service.said().count("limits memory: yes") == 2, "it has all again", 60)
    server.start(2, "true", memory_kib=100 * MIB)
    assert server.end_of(2, 60).exit_code == 0


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.rule("R28", "R36")
def test_beside_others_memory_is_watched(server: FakeServer, service: Service) -> None:  # noqa: F811
    """A shell in the same group is not moved: two abilities, and the agent's own eyes."""
    other = service.enter("/bin/sleep", "1000")
    wait_for(lambda: other.pid in group_files.processes(service.group), "somebody else", 60)
    service.keeper()
    assert service.said().count(": yes") == 2, service.said()
    assert f"limits memory: no, other processes are in {service.group}" in service.said()
    assert other.pid in group_files.processes(service.group)
    server.start(1, *hold(300), memory_kib=100 * MIB)
    ended = server.end_of(1, 60)
    assert ended.kind is EndKind.OUT_OF_MEMORY and "the kernel" not in ended.reason


@pytest.mark.parametrize("read_only", [True, False])
def test_where_nothing_can_be_written_all_is_as_without(
    server: FakeServer,  # noqa: F811
    service: Service,
    read_only: bool,
) -> None:
    """Groups that are somebody else's, or a mount that is read-only: the reason is told."""
    libc = ctypes.CDLL(None)

    def remount(flags: int) -> None:
        assert libc.mount(b"", str(ROOT).encode(), b"", MS_REMOUNT | MS_BIND | flags, None) == 0

    with contextlib.ExitStack() as after:
        if read_only:
            service.entered = None
            remount(MS_RDONLY)
            after.callback(remount, 0)
        else:
            os.chown(service.group, 0, 0)
        keeper = service.keeper()
        why = "Read-only file system" if read_only else "Permission denied"
        assert "control groups are not used" in service.said() and why in service.said()
        server.start(1, "sh", "-c", "(sleep 1000 &); exit 3")
        assert server.end_of(1, 60).exit_code == 3
        keeper.send_signal(signal.SIGTERM)
        assert keeper.wait(60) == 0
