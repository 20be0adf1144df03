"""Parts of the agent by themselves: environment, logs, journal, directories, the machine."""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobtasks.agent import environment, machine
from jobtasks.agent.cleaner import Cleaner, empty
from jobtasks.agent.ends import Ends
from jobtasks.agent.logs import Log, left_over
from jobtasks.agent.loop import Loop
from jobtasks.agent.orders import Notes
from jobtasks.agent.slot_table import SlotTable
from jobtasks.protocol.frames import NOTE, STDERR, STDOUT, read_frames
from jobtasks.protocol.messages import Assignment, Ended, EndKind, JobBrief

from .conftest import wait_for


def task(**fields: object) -> Assignment:
    values = {"attempt": 1, "token": "t", "job": "j", "task": "u", "number": 1, "sequence": 0}
    values |= {"qsequence": 0, "slot": 1, "start_within_seconds": 1.0} | fields
    return Assignment(**values)  # type: ignore[arg-type]


def variables(job: dict[str, object], own: dict[str, object]) -> dict[str, str]:
    found = environment.JobEnvironment({}, JobBrief("j", script_parameters=json.dumps(job)), "/job")
    return found.of(task(parameters=json.dumps(own)), "/work", {})


@pytest.mark.rule("R38")
def test_inherited_names() -> None:
    """PATH, HOME, USER, LANG, LC_*, TZ, TMPDIR and what is named; never JOBTASKS_* or ARVADOS_*."""
    environ = dict.fromkeys(
        ["PATH", "HOME", "LC_ALL", "LC_X", "SHELL", "MINE", "JOBTASKS_TOKEN", "ARVADOS_API_HOST"],
        "x",
    )
    found = environment.inherited(environ, ["MINE", "JOBTASKS_TOKEN", "ARVADOS_API_HOST"])
    assert sorted(found) == ["HOME", "LC_ALL", "LC_X", "MINE", "PATH"]


@pytest.mark.rule("R38")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"), ("", ""), (None, ""), (True, "true"), (0, "0"), (1.5, "1.5"),
        ([1, "x"], '[1,"x"]'), ({"ü": None}, '{"ü":null}'),
    ],
)  # fmt: skip
def test_parameter_text(value: object, text: str) -> None:
    """Strings as they are, null as nothing, the rest as JSON."""
    assert environment.parameter_text(value) == text


@pytest.mark.rule("R38")
def test_parameter_names() -> None:
    """Names in capitals; what is no letter A to Z or digit becomes an underscore."""
    assert environment.parameter_name("TASK_PARAMETER_", "in-put.2ü") == "TASK_PARAMETER_IN_PUT_2_"


@pytest.mark.rule("R38")
def test_parameters_left_out() -> None:
    """A value with NUL or over 32 KiB is left out, and all past 256 KiB together."""
    large = "x" * environment.VALUE_BYTES_MAX
    found = variables({"nul": "a\0b", "large": large + "x", "fits": large}, {})
    assert sorted(name for name in found if "PARAMETER" in name) == ["JOB_PARAMETER_FITS"]
    job: dict[str, object] = {f"n{n}": large for n in range(7)}
    found = variables(job, {"last": large, "past": "x", "small": ""})
    names = [name for name in found if "PARAMETER" in name]
    assert len(names) == 8 and "TASK_PARAMETER_LAST" in found
    assert "TASK_PARAMETER_PAST" not in found


@pytest.mark.rule("R25")
def test_nodes_of_a_gang() -> None:
    """TASK_NODES names this node, or those of the gang."""
    base = environment.node_variables("here", 4, "/sdk", {"PYTHONPATH": "/mine"})
    job = environment.JobEnvironment(base, JobBrief("j"), "/job")
    assert job.of(task(), "/w", {})["TASK_NODES"] == "here"
    assert job.of(task(nodes=["here", "there"]), "/w", {})["TASK_NODES"] == "here there"
    assert base["PYTHONPATH"] == "/sdk:/mine"


def frames(log: Log) -> list[tuple[bytes, bytes]]:
    return list(read_frames(BytesIO(log.read(0, log.size))))


@pytest.mark.rule("R38")
@settings(deadline=None)
@given(
    chunks=st.lists(
        st.tuples(st.sampled_from([STDOUT, STDERR]), st.integers(1, 9000)), max_size=40
    ),
    limit=st.integers(0, 20_000),
    step=st.integers(1, 5000),
)
def test_log_keeps_first_and_last(
    tmp_path_factory: pytest.TempPathFactory,
    chunks: list[tuple[bytes, int]],
    limit: int,
    step: int,
) -> None:
    """Whatever comes: what is kept is the beginning and the end, and nothing is unaccounted for."""
    log = Log(str(tmp_path_factory.mktemp("logs")), 1, limit)
    written = b""
    for number, (stream, size) in enumerate(chunks):
        data = (b"%d," % number) * size
        written += data[:size]
        log.add(stream, data[:size])
    log.finish()
    found = frames(log)
    kept = b"".join(data for stream, data in found if stream != NOTE)
    assert len(kept) == log.kept and log.kept + log.dropped == len(written)
    notes = [index for index, (stream, _) in enumerate(found) if stream == NOTE]
    assert len(notes) == (1 if log.dropped else 0)
    first = b"".join(data for _, data in found[: notes[0]]) if notes else kept
    last = b"".join(data for _, data in found[notes[0] + 1 :]) if notes else b""
    assert written.startswith(first) and written.endswith(last)
    pieces = [log.read(at, step) for at in range(0, log.size, step)]
    assert b"".join(pieces) == log.read(0, log.size)
    log.remove()
    assert os.listdir(log.directory) == []


@pytest.mark.rule("R38")
def test_left_over_logs_are_whole(tmp_path: Path) -> None:
    """A new agent finds the log as it was, also when it was over its limit."""
    log = Log(str(tmp_path), 7, 4096)
    for number in range(1000):
        log.add(STDOUT, b"%06d\n" % number)
    (found,) = left_over(str(tmp_path))
    assert (found.attempt, found.final) == (7, True)
    data = [piece for stream, piece in frames(found) if stream == STDOUT]
    notes = [piece for stream, piece in frames(found) if stream == NOTE]
    text = b"".join(data)
    assert text.startswith(b"000000\n") and text.endswith(b"000999\n")
    assert notes == [b"[bytes were dropped here: the log is over its limit]\n"]


def test_log_says_what_a_full_disk_took(tmp_path: Path) -> None:
    """When the disk takes output again, a note says how much was lost before."""
    directory = tmp_path / "logs"
    log = Log(str(directory), 1, 100_000)
    log.add(STDOUT, b"lost")
    directory.mkdir()
    log.add(STDOUT, b"kept")
    log.finish()
    assert [data for stream, data in frames(log) if stream == STDOUT] == [b"kept"]
    assert b"4 bytes were lost here" in frames(log)[0][1]
    assert (log.kept, log.dropped) == (4, 4)


def ended(attempt: int) -> Ended:
    return Ended(attempt, EndKind.EXIT, exit_code=0, stderr_tail=b"x" * attempt)


@pytest.mark.rule("R37")
def test_journal_brings_back_what_was_not_acknowledged(tmp_path: Path) -> None:
    """A new agent reads the ends of its predecessor, also after the journal began anew."""
    path = str(tmp_path / "ends")
    ends = Ends(path)
    for attempt in range(1, 50):
        ends.add(ended(attempt))
    ends.flush()
    ends.acknowledge(list(range(1, 50)))
    ends.add(ended(100))
    ends.flush()
    ends.add(ended(101))
    ends.flush()
    assert sorted(Ends(path).pending) == [100, 101]


@pytest.mark.rule("R37")
def test_torn_journal_gives_what_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal cut off or spoilt at any byte gives the records before it."""
    monkeypatch.setattr("jobtasks.agent.ends.PLACE_BYTES", 0)
    path = tmp_path / "ends"
    ends = Ends(str(path))
    lengths = []
    for attempt in (1, 2, 3):
        ends.add(ended(attempt))
        ends.flush()
        lengths.append(path.stat().st_size)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        found = sorted(Ends(str(path)).pending)
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= sum(cut >= length for length in lengths)
    spoilt = bytearray(whole)
    spoilt[lengths[0] + 2] ^= 0xFF
    path.write_bytes(spoilt)
    assert sorted(Ends(str(path)).pending) == [1]


@pytest.mark.rule("R37")
def test_journal_grows_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is never quite empty, it is written anew with what is left."""
    monkeypatch.setattr("jobtasks.agent.ends.PLACE_BYTES", 0)
    monkeypatch.setattr("jobtasks.agent.ends.COMPACT_BYTES", 10_000)
    path = tmp_path / "ends"
    ends = Ends(str(path))
    for attempt in range(1, 500):
        ends.add(ended(attempt))
        ends.flush()
        ends.acknowledge([attempt - 1])
    assert path.stat().st_size < 20_000
    assert sorted(Ends(str(path)).pending)[-1] == 499


def test_empty_is_bounded_and_thorough(tmp_path: Path) -> None:
    """A tree deeper than any path may be long is removed; a budget stops in time."""
    root = tmp_path / "root"
    root.mkdir()
    os.mkdir(root / "file-like")
    here = os.getcwd()
    try:
        os.chdir(root)
        for _ in range(3000):
            os.mkdir("ddd")
            os.chdir("ddd")
    finally:
        os.chdir(here)
    assert not empty(str(root), 100)
    assert empty(str(root))
    assert os.listdir(root) == []


def test_cleaner_removes_what_was_set_aside(tmp_path: Path) -> None:
    """Set aside at once, removed soon; also what an earlier agent had set aside."""
    for name in ("aside-1", "slot-1", "slot-2"):
        (tmp_path / name).mkdir()
    (tmp_path / "aside-1/file").touch()
    (tmp_path / "slot-1/file").touch()
    cleaner = Cleaner(str(tmp_path))
    cleaner.take_leftovers()
    assert not (tmp_path / "slot-1").exists()
    cleaner.take(str(tmp_path / "no-such"))
    wait_for(lambda: os.listdir(tmp_path) == ["slot-2"], "all but the empty slot is gone")


def test_slot_table_outlives_its_writer(tmp_path: Path) -> None:
    """A record can be read by another process at once, without a call to write it."""
    path = str(tmp_path / "table")
    assert list(SlotTable.read(path)) == []
    table = SlotTable(path, 2)
    table.note(2, 17, os.getpid(), 5, 6)
    assert list(SlotTable.read(path))[1] == (17, os.getpid(), 5, 6)


@pytest.mark.rule("R36")
def test_closed_descriptor_is_not_heard_of_again() -> None:
    """A watched file of which a starting child still has a copy is silent once it is closed.

    Otherwise the exit of one process would be taken for that of a later one with the same number.
    """
    loop = Loop()
    reader, writer = os.pipe()
    loop.watch(reader, lambda events: None)
    copy = os.dup(reader)
    loop.forget(reader)
    os.close(reader)
    silent, other = os.pipe()
    assert silent == reader
    heard: list[int] = []
    loop.watch(silent, heard.append)
    os.write(writer, b"x")
    loop.turn(wait=False)
    loop.forget(silent)
    for fd in (copy, writer, silent, other):
        os.close(fd)
    assert heard == []


def test_timers_run_in_order_and_can_be_cancelled() -> None:
    """What is due runs in order of time; a cancelled timer does not."""
    loop = Loop()
    ran: list[str] = []
    loop.after(0.002, lambda: ran.append("second"))
    loop.after(0.001, lambda: ran.append("first"))
    loop.after(0.0015, lambda: ran.append("never")).cancel()
    while len(ran) < 2:
        loop.turn()
    assert ran == ["first", "second"]


def test_notes_stay_until_their_sync_is_answered() -> None:
    """A note is repeated until the answer to a sync that carried it."""
    notes = Notes()
    notes.add(5)
    assert notes.name(1) == [5]
    notes.add(6)
    assert notes.name(2) == [5, 6]
    notes.answered(1)
    assert notes.name(3) == [6]
    notes.answered(2)
    assert notes.name(4) == []


@pytest.mark.rule("R28")
def test_memory_is_the_smaller_of_machine_and_group(tmp_path: Path) -> None:
    """The machine's memory or any control group's above us, less 5 %."""
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:       1000000 kB\nMemFree: 5 kB\n")
    (groups / "a/b").mkdir(parents=True)
    (proc / "self/cgroup").write_text("0::/a/b\n")
    assert machine.memory_kib(proc, groups) == 950_000
    (groups / "a/b/memory.max").write_text("max\n")
    (groups / "a/memory.max").write_text(f"{400_000 * 1024}\n")
    assert machine.memory_kib(proc, groups) == 380_000
    (proc / "self/cgroup").write_text("4:memory:/x\n")
    (groups / "memory/x").mkdir(parents=True)
    (groups / "memory/x/memory.limit_in_bytes").write_text(f"{200_000 * 1024}\n")
    assert machine.memory_kib(proc, groups) == 190_000
