"""Control groups by themselves, on a directory that plays the kernel's: runs everywhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobtasks.agent import births, cgroups, group_files
from jobtasks.agent.cgroups import Abilities, Group, GroupsError
from jobtasks.agent.freezer import Freezer, Held, State, now

ALL = Abilities("", "", "")
NODE = "jobtasks-1"


class Kernel:
    """Groups as directories: what is written to their files has the effects that we count on."""

    def __init__(self, root: Path, controllers: str = "memory") -> None:
        self.root = root
        self.controllers = controllers
        self.unkillable: set[str] = set()
        root.mkdir()
        self._fill(root)
        (root / "cgroup.controllers").write_text(controllers)
        (root / "cgroup.type").unlink()

    def make(self, path: Path) -> None:
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            self._fill(path)

    def _fill(self, path: Path) -> None:
        shared = path.parent / "cgroup.subtree_control"
        given = shared.read_text() if path != self.root else self.controllers
        files = {"cgroup.procs": "", "cgroup.kill": "", "cgroup.freeze": "0\n"}
        files |= {
            "cgroup.type": "domain",
            "cgroup.subtree_control": "",
            "cgroup.controllers": given,
        }
        if "memory" in given:
            files |= {"memory.max": "max", "memory.peak": "0", "memory.events": "oom_kill 0\n"}
            files |= {"memory.oom.group": "0", "memory.swap.max": "max"}
        for name, text in files.items():
            (path / name).write_text(text)

    def rmdir(self, path: Path) -> None:
        if (path / "cgroup.procs").read_text().split() or any(map(Path.is_dir, path.iterdir())):
            raise OSError(16, "busy")
        shutil.rmtree(path)

    def write(self, path: str | Path, text: str) -> bool:
        path = Path(path)
        group = path.parent
        if not path.exists():
            return False
        if path.name == "cgroup.kill":
            for inner in group_files.below(group):
                left = [p for p in self.there(inner) if p in self.unkillable]
                (inner / "cgroup.procs").write_text("\n".join(left))
        elif path.name == "cgroup.procs":
            if self.shares(group) and group != self.root:
                return False
            for other in group_files.below(self.root):
                found = [pid for pid in self.there(other) if pid != text]
                (other / "cgroup.procs").write_text("\n".join(found))
            (group / "cgroup.procs").write_text("\n".join([*self.there(group), text]))
        elif path.name == "cgroup.subtree_control":
            return self._share(group, text)
        else:
            path.write_text(text)
        return True

    def _share(self, group: Path, text: str) -> bool:
        wants = text == "+memory"
        if wants and self.there(group) and group != self.root:
            return False
        if wants and "memory" not in (group / "cgroup.controllers").read_text():
            return False
        (group / "cgroup.subtree_control").write_text("memory" if wants else "")
        for path in filter(Path.is_dir, group.iterdir()):
            (path / "cgroup.controllers").write_text("memory" if wants else "")
        return True

    @staticmethod
    def shares(group: Path) -> bool:
        return bool((group / "cgroup.subtree_control").read_text())

    @staticmethod
    def there(group: Path) -> list[str]:
        return (group / "cgroup.procs").read_text().split()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    found = Kernel(tmp_path / "groups")
    monkeypatch.setattr(cgroups, "make", found.make)
    monkeypatch.setattr(group_files, "write", found.write)
    monkeypatch.setattr(Path, "rmdir", lambda path: found.rmdir(path))
    monkeypatch.setattr(cgroups, "try_start", lambda directory: f"/{directory.name}")
    return found


@pytest.fixture
def node(tmp_path: Path) -> Path:
    found = tmp_path / "node"
    found.mkdir()
    return found


def proc(folder: Path, mounts: str, own: str) -> Path:
    (folder / "self").mkdir(parents=True)
    (folder / "self/mountinfo").write_text(mounts)
    (folder / "self/cgroup").write_text(own)
    return folder


HYBRID = (
    "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
    "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 30 0:28 {root} /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n"
)


@pytest.mark.parametrize(
    ("root", "own", "found"),
    [
        ("/", "0::/", "/sys/fs/cgroup/unified"),
        (
            "/",
            "4:memory:/x\n0::/user.slice/a.service\n",
            "/sys/fs/cgroup/unified/user.slice/a.service",
        ),
        ("/user.slice", "0::/user.slice/b\n", "/sys/fs/cgroup/unified/b"),
    ],
)
def test_own_group_is_found(tmp_path: Path, root: str, own: str, found: str) -> None:
    """Beside controllers of version 1, below a mount of a part, at the root."""
    assert cgroups.own_directory(proc(tmp_path, HYBRID.format(root=root), own)) == Path(found)


@pytest.mark.parametrize(
    ("mounts", "own", "why"),
    [
        ("31 30 0:27 / /m rw - cgroup cgroup rw,memory\n", "0::/\n", "no control groups"),
        ("", "0::/\n", "no control groups"),
        (HYBRID.format(root="/"), "4:memory:/x\n", "in no control group"),
        (HYBRID.format(root="/"), "0::/../outside\n", "not mounted here"),
        (HYBRID.format(root="/other"), "0::/own\n", "not mounted here"),
    ],
)
def test_why_there_is_no_own_group(tmp_path: Path, mounts: str, own: str, why: str) -> None:
    """Version 1 alone, nothing mounted, a namespace or a mount that shows another part."""
    with pytest.raises(GroupsError, match=why):
        cgroups.own_directory(proc(tmp_path, mounts, own))


def test_where_the_nodes_group_is_to_be(tmp_path: Path) -> None:
    """In our own, in the one that is named, nowhere; a moved keeper's is not taken for our own."""
    own = f"0::/service/{NODE}/own\n"
    found = proc(tmp_path, HYBRID.format(root="/"), own)
    unified = Path("/sys/fs/cgroup/unified/service")
    assert cgroups.base("auto", NODE, found) == unified
    assert cgroups.base("auto", "jobtasks-2", found) == unified / NODE / "own"
    assert cgroups.base(str(tmp_path), NODE, found) == tmp_path
    with pytest.raises(GroupsError, match="turned off"):
        cgroups.base("off", NODE, found)


@pytest.mark.parametrize("where", ["no-such", "file", "plain"])
def test_what_is_no_group_is_refused(tmp_path: Path, node: Path, where: str) -> None:
    """A directory that is not there, that cannot be written, that is none of the kernel's."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(GroupsError, match=where):
        cgroups.open_groups(str(tmp_path / where), "1", node)
    assert list((tmp_path / "plain").iterdir()) == []


def test_each_ability_is_found_out_by_itself(kernel: Kernel, node: Path) -> None:
    """Files that a kernel does not have, a mount without the controller: the others are used."""
    (kernel.root / "cgroup.controllers").write_text("cpu io")
    kernel.make(kernel.root / NODE)
    (kernel.root / NODE / "cgroup.kill").unlink()
    found = cgroups.open_groups(str(kernel.root), "1", node)
    assert "no cgroup.kill" in found.abilities.kill
    assert found.abilities.freeze == ""
    assert "no memory controller" in found.abilities.memory
    text = found.abilities.describe()
    assert "ends tasks: no, this kernel" in text and "freezes tasks: yes" in text
    assert (node / group_files.RECORD).read_text() == f"{found.directory}\n{text}\n"
    found.close(node)
    assert not (kernel.root / NODE).exists()


@pytest.mark.rule("R28")
def test_memory_at_the_root(kernel: Kernel, node: Path) -> None:
    """Processes may stay at the root: nobody is moved."""
    kernel.write(kernel.root / "cgroup.procs", "1")
    found = cgroups.open_groups(str(kernel.root), "1", node)
    assert found.abilities == ALL
    assert kernel.there(kernel.root) == ["1"]
    assert not (found.directory / group_files.OWN).exists()
    found.close(node)


def service(kernel: Kernel, *pids: int) -> Path:
    """Return a group with a memory controller and processes in it, as a service has it."""
    kernel.write(kernel.root / "cgroup.subtree_control", "+memory")
    path = kernel.root / "service"
    kernel.make(path)
    for pid in pids:
        kernel.write(path / "cgroup.procs", str(pid))
    return path


@pytest.mark.rule("R28")
def test_memory_in_a_service_of_our_own(kernel: Kernel, node: Path) -> None:
    """We leave the group that shares its controller for a leaf, and go back at the end."""
    path = service(kernel, os.getpid())
    found = cgroups.open_groups(str(path), "1", node)
    assert found.abilities == ALL
    assert kernel.there(path) == []
    assert kernel.there(found.directory / group_files.OWN) == [str(os.getpid())]
    assert kernel.shares(path) and kernel.shares(found.directory)
    found.close(node)
    assert not found.directory.exists()
    assert kernel.there(path) == [str(os.getpid())] and not kernel.shares(path)


@pytest.mark.rule("R28")
def test_no_memory_beside_others(kernel: Kernel, node: Path) -> None:
    """Who is not ours is not moved: then memory is not limited, and all is as it was."""
    path = service(kernel, os.getpid(), 1)
    found = cgroups.open_groups(str(path), "1", node)
    assert found.abilities[:2] == ("", "")
    assert f"other processes are in {path}: [1]" in found.abilities.memory
    assert sorted(kernel.there(path)) == sorted([str(os.getpid()), "1"])
    assert not kernel.shares(path) and not (found.directory / group_files.OWN).exists()
    found.close(node)


def test_kin_are_those_above_us_of_the_same_program() -> None:
    """We and our parent if it runs the same Python; never a process beside or below us."""
    child = subprocess.Popen(["sleep", "1000"])
    try:
        found = cgroups.kin({os.getpid(), os.getppid(), child.pid})
        assert found[0] == os.getpid() and child.pid not in found
        assert cgroups.kin({os.getppid()}) == []
    finally:
        child.kill()
        child.wait()


def test_a_node_shares_its_group_with_nobody(kernel: Kernel, node: Path, tmp_path: Path) -> None:
    """Another id has another group; a copy of a node's directory gets none, and ends nothing."""
    first = cgroups.open_groups(str(kernel.root), "1", node)
    other = tmp_path / "other"
    other.mkdir()
    second = cgroups.open_groups(str(kernel.root), "2", other)
    assert first.directory != second.directory
    copy = tmp_path / "copy"
    shutil.copytree(node, copy)
    with pytest.raises(GroupsError, match="another agent with this node's id"):
        cgroups.open_groups(str(kernel.root), "1", copy)
    slot = first.slot(1)
    kernel.write(slot.path / "cgroup.procs", "77")
    assert group_files.end(copy) == 0 and kernel.there(slot.path) == ["77"]
    second.close(other)
    assert kernel.there(slot.path) == ["77"]
    first.close(node)
    assert list(filter(Path.is_dir, kernel.root.iterdir())) == []


@pytest.mark.rule("R36")
def test_what_an_agent_left_is_ended_and_removed(kernel: Kernel, node: Path) -> None:
    """Whoever comes next finds the slots' groups by the record, groups of tasks in them too."""
    directory = kernel.root / NODE
    for path in (directory, directory / "slot-1", directory / "slot-1/of-task"):
        kernel.make(path)
    kernel.write(directory / "slot-1/of-task/cgroup.procs", "77")
    assert group_files.end(node) == 0
    (node / group_files.RECORD).write_text(f"{kernel.root}\n")
    assert group_files.end(node) == 0 and kernel.there(directory / "slot-1/of-task") == ["77"]
    (node / group_files.RECORD).write_text(f"{directory}\n")
    assert group_files.end(node) == 1
    assert not directory.exists()


def test_without_cgroup_kill_each_process_is_killed(tmp_path: Path) -> None:
    """An older kernel: those that are named, in groups within, too; nobody twice, nobody else."""
    inner = tmp_path / "inner"
    inner.mkdir()
    found = [subprocess.Popen(["sleep", "1000"]) for _ in range(3)]
    (tmp_path / "cgroup.procs").write_text(f"{found[0].pid}\n0\n")
    (inner / "cgroup.procs").write_text(f"{found[1].pid}\n")
    group_files.kill(tmp_path)
    assert [each.wait(20) for each in found[:2]] == [-9, -9]
    assert found[2].poll() is None
    found[2].kill()
    found[2].wait()


class NoBirths(births.Births):
    """Starts nothing; notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.refuses = False

    def start(
        self, command: list[str], variables: dict[str, str], fds: tuple[int, ...], group: int
    ) -> int:
        if self.refuses:
            raise BlockingIOError(11, "no")
        self.asked.append(group)
        return 77


@pytest.fixture
def group(kernel: Kernel) -> Iterator[Group]:
    kernel.write(kernel.root / "cgroup.subtree_control", "+memory")
    yield Group(kernel.root, "slot-1", ALL, NoBirths())


@pytest.mark.rule("R28", "R14")
def test_a_slots_memory(kernel: Kernel, group: Group) -> None:
    """Limited to the reservation, all or nothing, without swap; figures are of one attempt only."""

    def limit() -> str:
        return (group.path / "memory.max").read_text()

    assert (group.path / "memory.oom.group").read_text() == "1"
    assert (group.path / "memory.swap.max").read_text() == "0"
    assert group.start([], {}, (), 1000) == 77
    assert limit() == "1024000"
    (group.path / "memory.peak").write_text("2048000\n")
    (group.path / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    assert group.peak_kib() == 2000 and group.out_of_memory()
    group.release(stained=False)
    assert group.peak_kib() == 0 and not group.out_of_memory()
    group.start([], {}, (), 0)
    assert limit() == "max"


@pytest.mark.rule("R28")
def test_nothing_starts_without_its_limit(kernel: Kernel, group: Group) -> None:
    """A limit that the kernel does not take keeps the attempt from starting."""
    (group.path / "memory.max").unlink()
    with pytest.raises(BlockingIOError):
        group.start([], {}, (), 1000)


def test_without_memory_a_group_is_kept(kernel: Kernel) -> None:
    """It has no figures to begin anew, and nothing is written before a start."""
    found = Group(kernel.root, "slot-1", Abilities("", "", "no"), NoBirths())
    (kernel.root / "slot-1/kept").touch()
    found.start([], {}, (), 1000)
    found.release(stained=False)
    assert (kernel.root / "slot-1/kept").exists()
    assert (found.peak_kib(), found.out_of_memory()) == (0, False)
    kernel.make(kernel.root / "slot-1/of-task")
    found.release(stained=False)
    assert not (kernel.root / "slot-1/kept").exists()
    assert not (kernel.root / "slot-1/of-task").exists()


@pytest.mark.rule("R36")
def test_who_cannot_be_killed_keeps_the_old_group(kernel: Kernel, group: Group) -> None:
    """One that hangs in the kernel is left where it is; the slot goes on in another group."""
    kernel.unkillable.add("78")
    kernel.write(group.path / "cgroup.procs", "78")
    group.release(stained=True)
    assert group.path.name == "slot-1.1" and kernel.there(group.path) == []
    assert kernel.there(kernel.root / "slot-1") == ["78"]


def test_a_failed_start_leaves_nothing(kernel: Kernel) -> None:
    """When it is not known what became of it, who is in the group is killed."""
    helper = NoBirths()
    found = Group(kernel.root, "slot-1", ALL, helper)
    kernel.write(found.path / "cgroup.procs", "79")
    helper.refuses = True
    with pytest.raises(BlockingIOError):
        found.start([], {}, (), 0)
    assert kernel.there(found.path) == []
    helper.refuses = False
    assert found.start([], {}, (), 0) == 77


@pytest.mark.rule("R34")
def test_groups_are_frozen_and_thawed(kernel: Kernel) -> None:
    """What runs is frozen when its time is over; what is held no more, or is in time, is thawed."""
    first, second = kernel.root / "slot-1", kernel.root / "slot-2"
    for path in (first, second):
        kernel.make(path)

    def frozen() -> list[str]:
        return [(path / "cgroup.freeze").read_text().strip() for path in (first, second)]

    late = now() - 100
    freezer = Freezer(os.getpid())
    held = (Held("a", 1, 2**22 + 1, str(first)), Held("b", 1, 0, str(second)))
    freezer.state = State(late, 25.0, 900.0, held)
    assert freezer.look() is not None
    assert frozen() == ["1", "0"], "one that is only being started would keep the agent waiting"
    freezer.state = State(late, 25.0, 900.0, (held[1]._replace(leader=2**22 + 2),))
    freezer.look()
    assert frozen() == ["0", "1"]
    freezer.state = freezer.state._replace(renewed_at=now())
    freezer.look()
    assert frozen() == ["0", "0"]
    freezer.state = State()
    assert freezer.look() is None
