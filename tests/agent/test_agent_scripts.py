"""Directories of scripts that agents fetch: once, whole, and in nobody's way."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jobtasks.agent.unpacking import BadPackError, unpack
from jobtasks.protocol.messages import Ended, EndKind, JobBrief

from .conftest import JOB, FakeServer, Launch, wait_for, wait_joined

SCRIPT = b'#!/bin/sh\ncat "${0%/*}/lib/data"\n'
Member = tuple[str, bytes, bytes | str]
"""Name, type, and content or target."""
WHOLE: list[Member] = [
    ("lib", tarfile.DIRTYPE, b""),
    ("lib/data", tarfile.REGTYPE, b"beside it"),
    ("lib/link", tarfile.SYMTYPE, "../run"),
    ("run", tarfile.REGTYPE, SCRIPT),
]


def packed(members: list[Member]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o755
            data = b""
            if isinstance(content, str):
                member.linkname = content
            else:
                data, member.size = content, len(content)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


class Job:
    """A job whose script is on its server alone."""

    def __init__(self, server: FakeServer, members: list[Member] | None = None) -> None:
        self.server = server
        self.pack = packed(WHOLE if members is None else members)
        self.hash = hashlib.sha256(self.pack).hexdigest()
        server.packs[self.hash] = self.pack
        self.tell("/no/such/place")

    def tell(self, directory: str) -> None:
        self.server.briefs[JOB] = JobBrief(JOB, script="run", script_version=directory)

    def start(self, attempt: int, **fields: object) -> None:
        self.server.start(attempt, **{"script_hash": self.hash, **fields})  # type: ignore[arg-type]

    def run(self, attempt: int, **fields: object) -> Ended:
        self.start(attempt, **fields)
        return self.server.end_of(attempt)


@pytest.fixture
def job(server: FakeServer) -> Job:
    return Job(server)


@pytest.mark.rule("R37")
def test_one_fetch_for_all_that_start_at_once(server: FakeServer, job: Job, launch: Launch) -> None:
    """Fifty tasks of five jobs wait for one; what needs none starts meanwhile."""
    server.pack_gate.clear()
    agent = launch("--slots", "51")
    wait_joined(server, agent)
    jobs = [f"zzzzz-8i9sb-{number:015}" for number in range(5)]
    for uuid in jobs:
        server.briefs[uuid] = JobBrief(uuid, script="run", script_version="/no/such/place")
    for attempt in range(1, 51):
        job.start(attempt, slot=attempt, job=jobs[attempt % 5])
    server.wait(lambda: server.fetched, "a fetch")
    server.start(99, "true", slot=51)
    assert server.end_of(99).exit_code == 0
    assert not server.ended.keys() & set(range(1, 51))
    server.wait(lambda: len(server.syncs[-1].held) == 50, "those that wait are told")
    server.pack_gate.set()
    assert {server.end_of(attempt).exit_code for attempt in range(1, 51)} == {0}
    assert server.text_of(50) == "beside it"
    assert server.fetched == [job.hash]
    root = agent.node / "scripts" / job.hash
    modes = {path.name: path.lstat().st_mode & 0o777 for path in root.rglob("*")}
    assert modes == {"lib": 0o555, "data": 0o555, "run": 0o555, "link": 0o777}
    assert sorted(os.listdir(root.parent)) == [job.hash, "boot"], "nothing is left of the fetch"
    assert server.tokens == {"Bearer agents-secret"}
    assert agent.end() == 0
    wait_joined(server, launch("--slots", "51"), 2)
    assert job.run(51).exit_code == 0
    assert server.fetched == [job.hash], "the next agent of the node has it"


def test_troubles_and_what_becomes_of_tasks(
    server: FakeServer, job: Job, launch: Launch, tmp_path: Path
) -> None:
    """What may pass is waited for, within the task's time; what may not is told."""
    wait_joined(server, launch())
    server.pack_status = 503
    job.start(1)
    server.wait(lambda: len(server.fetched) > 1, "it asks again")
    server.pack_status = 200
    assert server.end_of(1).exit_code == 0
    late = Job(server, [*WHOLE, ("more", tarfile.REGTYPE, b"")])
    server.pack_status = 500
    late.start(2, start_within_seconds=0.2)
    server.wait(lambda: 2 in server.refused, "given back: no failure of the task")
    server.pack_status = 200
    assert late.run(3).exit_code == 0
    gone = Job(server, [*WHOLE, ("gone", tarfile.REGTYPE, b"")])
    server.packs.clear()
    ended = gone.run(4)
    assert ended.kind is EndKind.UNABLE_TO_START
    assert ended.reason == (
        "the directory of the script cannot be fetched: the server says 404: said so"
    )
    server.packs[gone.hash] = gone.pack + b"\0"
    ended = server_says_once_more(gone, 5)
    assert ended.kind is EndKind.UNABLE_TO_START
    assert "is not the job's: its SHA-256 is" in ended.reason
    told = "it has more than 2,000 files"
    ended = job.run(6, script_hash="", script_remark=told)
    assert ended.reason == (
        "no such file: /no/such/place/run: it is not on this node, and the server did not send its"
        " directory: it has more than 2,000 files"
    )
    assert job.run(7, script_hash="nonsense").kind is EndKind.UNABLE_TO_START
    evil = Job(server, [("../evil", tarfile.REGTYPE, b"")])
    ended = evil.run(8)
    assert ended.reason == (
        "the directory of the script cannot be unpacked: '../evil' does not belong there"
    )
    assert not list(tmp_path.rglob("evil"))


def server_says_once_more(job: Job, attempt: int) -> Ended:
    """Run again after a moment in which the trouble before is still believed."""
    while (ended := job.run(attempt)).reason.endswith("said so"):
        attempt += 100
    return ended


def test_a_task_that_waits_can_be_stopped(server: FakeServer, job: Job, launch: Launch) -> None:
    """It has not begun: it is stopped at once; the agent can leave, too."""
    server.pack_gate.clear()
    agent = launch()
    wait_joined(server, agent)
    job.start(1)
    job.start(2, slot=2)
    server.wait(lambda: server.fetched, "a fetch")
    server.stop(1)
    assert server.end_of(1).kind is EndKind.STOPPED
    assert agent.end() == 0
    assert 2 in server.refused
    server.pack_gate.set()


@pytest.mark.rule("R37")
def test_killed_while_it_unpacks(server: FakeServer, launch: Launch) -> None:
    """What is not whole is not taken for it: the next agent fetches anew."""
    many: list[Member] = [(f"f{n:04}", tarfile.REGTYPE, b"x") for n in range(1500)]
    job = Job(server, WHOLE + many)
    agent = launch(module="jobtasks.agent.main")
    wait_joined(server, agent)
    scripts = agent.node / "scripts"
    job.start(1)
    wait_for(lambda: (scripts / "new" / "f0000").exists(), "it unpacks")
    agent.process.send_signal(signal.SIGKILL)
    agent.wait()
    assert (scripts / "new").exists() and not (scripts / job.hash).exists()
    wait_joined(server, launch(module="jobtasks.agent.main"), 2)
    assert job.run(2).exit_code == 0
    assert len(list((scripts / job.hash).iterdir())) == 1502
    assert server.fetched == [job.hash] * 2


def test_another_start_of_the_machine_and_old_packs(
    server: FakeServer, job: Job, launch: Launch
) -> None:
    """What another boot has unpacked is fetched anew; the oldest of more than 16 goes."""
    agent = launch()
    wait_joined(server, agent)
    assert job.run(1).exit_code == 0
    assert agent.end() == 0
    scripts = agent.node / "scripts"
    (scripts / "boot").write_text("another\n")
    again = launch()
    wait_joined(server, again, 2)
    assert job.run(2).exit_code == 0
    assert server.fetched == [job.hash] * 2
    for number in range(3, 19):
        more = Job(server, [*WHOLE, (f"n{number}", tarfile.REGTYPE, b"")])
        assert more.run(number).exit_code == 0
        assert job.run(number + 100).exit_code == 0, "it is used all the time"
    assert len(list(scripts.glob("?" * 64))) == 16
    assert (scripts / job.hash).exists()
    assert server.fetched.count(job.hash) == 2


def test_in_place(server: FakeServer, job: Job, launch: Launch, tmp_path: Path) -> None:
    """Where the directory is seen the script of the moment runs; where it is not it is fetched."""
    wait_joined(server, launch("--in-place"))
    assert job.run(1).exit_code == 0
    assert server.fetched == [job.hash]
    place = tmp_path / "place"
    place.mkdir()
    (place / "run").write_text('#!/bin/sh\necho "$0"\n')
    (place / "run").chmod(0o755)
    job.tell(str(place))
    server.briefs["zzzzz-8i9sb-000000000000002"] = JobBrief(
        "zzzzz-8i9sb-000000000000002", script="run", script_version=str(place)
    )
    assert job.run(2, job="zzzzz-8i9sb-000000000000002").exit_code == 0
    assert server.text_of(2) == f"{place}/run\n"


def test_a_warm_start_from_a_pack(server: FakeServer, launch: Launch) -> None:
    """The fork server takes the script from where it was unpacked; a task's command needs none."""
    text = f"#!{sys.executable}\nimport sys, pathlib, data\n".encode()
    text += b"print(data.WORD, 'colorsys' in sys.modules, pathlib.Path(__file__).parent.name)\n"
    job = Job(
        server,
        [("data.py", tarfile.REGTYPE, b"WORD = 'x'"), ("run", tarfile.REGTYPE, text)],
    )
    wait_joined(server, launch())
    server.start(1, "true", script_hash=job.hash)
    assert server.end_of(1).exit_code == 0
    assert server.fetched == []
    attempts = iter(range(2, 1000))

    def warm() -> bool:
        attempt = next(attempts)
        assert job.run(attempt, preload=["colorsys"]).exit_code == 0
        return server.text_of(attempt) == f"x True {job.hash}\n"

    wait_for(warm, "a warm start")
    assert server.fetched == [job.hash]


HOSTILE: dict[str, list[Member]] = {
    "absolute": [("/tmp/evil", tarfile.REGTYPE, b"")],
    "up": [("../evil", tarfile.REGTYPE, b"")],
    "up in the middle": [("lib", tarfile.DIRTYPE, b""), ("lib/../../evil", tarfile.REGTYPE, b"")],
    "dot": [("./evil", tarfile.REGTYPE, b"")],
    "link out": [("evil", tarfile.SYMTYPE, "../../evil")],
    "absolute link": [("evil", tarfile.SYMTYPE, "/etc")],
    "link behind a link": [
        ("a", tarfile.DIRTYPE, b""),
        ("a/b", tarfile.SYMTYPE, ".."),
        ("evil", tarfile.SYMTYPE, "a/b/../.."),
    ],
    "through a link": [
        ("lib", tarfile.DIRTYPE, b""),
        ("l", tarfile.SYMTYPE, "lib"),
        ("l/evil", tarfile.REGTYPE, b""),
    ],
    "onto a link": [
        ("lib", tarfile.DIRTYPE, b""),
        ("l", tarfile.SYMTYPE, "lib/x"),
        ("l", tarfile.REGTYPE, b""),
    ],
    "hard link": [("run", tarfile.REGTYPE, b""), ("evil", tarfile.LNKTYPE, "run")],
    "device": [("evil", tarfile.CHRTYPE, b"")],
    "pipe": [("evil", tarfile.FIFOTYPE, b"")],
    "twice": [("evil", tarfile.REGTYPE, b""), ("evil", tarfile.REGTYPE, b"")],
    "without its directory": [("lib/evil", tarfile.REGTYPE, b"")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_members(name: str, tmp_path: Path) -> None:
    """Each is refused, and nothing is written outside."""
    root = tmp_path / "root"
    with pytest.raises(BadPackError):
        list(unpack(io.BytesIO(packed(HOSTILE[name])), str(root)))
    shutil.rmtree(root)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pack: b"no archive at all" * 100,
        lambda pack: pack[: len(pack) // 4],
    ],
)
def test_damaged_packs(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """What is no archive, or the beginning of one, says so."""
    with pytest.raises(BadPackError):
        list(unpack(io.BytesIO(spoil(packed(WHOLE))), str(tmp_path / "root")))


def test_unpacking_goes_by_steps(tmp_path: Path) -> None:
    """One for each member and each piece of a large one: tasks start between them."""
    members: list[Member] = [*WHOLE, ("large", tarfile.REGTYPE, b"x" * 1024 * 1024)]
    steps = list(unpack(io.BytesIO(packed(members)), str(tmp_path / "root")))
    assert len(steps) == 5 + 2 + 4
    assert (tmp_path / "root" / "large").stat().st_size == 1024 * 1024
