"""Parts of the agent when the node's disk takes nothing: what is kept, and what is told once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobtasks.agent.cleaner import Cleaner
from jobtasks.agent.ends import Ends
from jobtasks.agent.loop import Loop
from jobtasks.agent.room import Room
from jobtasks.agent.slot_table import SlotTable
from jobtasks.agent.slots import Slot
from jobtasks.protocol.messages import Ended, EndKind


class Disk:
    """Stands for `os.pwrite`: whole, half, or refused writes."""

    def __init__(self) -> None:
        self.write = os.pwrite
        self.takes: Callable[[bytes], bytes] = lambda data: data

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """Write what the disk takes now."""
        return self.write(fd, self.takes(data), offset)


def refuse(data: bytes) -> bytes:
    """Take nothing."""
    raise OSError(errno.ENOSPC, "No space left on device")


def half(data: bytes) -> bytes:
    """Take the first half."""
    return data[: len(data) // 2]


def ended(attempt: int) -> Ended:
    return Ended(attempt, EndKind.EXIT, exit_code=0, stderr_tail=b"x" * 50)


@pytest.mark.rule("R37")
@pytest.mark.parametrize("takes", [refuse, half])
def test_the_journal_catches_up(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    takes: Callable[[bytes], bytes],
) -> None:
    """What a full disk did not take is written when it can; those acknowledged meanwhile are not.

    Whoever reads it in between finds what was whole before; the trouble is told once.
    """
    disk = Disk()
    monkeypatch.setattr("jobtasks.agent.ends.os.pwrite", disk.pwrite)
    path = str(tmp_path / "ends")
    ends = Ends(path)
    ends.add(ended(1))
    ends.flush()
    disk.takes = takes
    for attempt in (2, 3, 4):
        ends.add(ended(attempt))
        ends.flush()
    assert sorted(ends.pending) == [1, 2, 3, 4]
    assert sorted(Ends(path).pending) == [1]
    ends.acknowledge([3])
    disk.takes = lambda data: data
    ends.flush()
    assert sorted(Ends(path).pending) == [1, 2, 4]
    assert len(caplog.records) == 1


def test_the_journal_has_its_place_beforehand(tmp_path: Path) -> None:
    """Blocks of the disk, no hole; the table of slots has no hole either."""
    Ends(str(tmp_path / "ends"))
    SlotTable(str(tmp_path / "table"), 500)
    for path in tmp_path.iterdir():
        found = path.stat()
        assert found.st_blocks * 512 >= found.st_size > 4096


def test_a_slot_without_a_directory_mends_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an error nor offered while none can be made; with room again it is."""
    null = os.open(os.devnull, os.O_RDONLY)
    slot = Slot(1, str(tmp_path), Loop(), null, Cleaner(str(tmp_path)))
    os.rmdir(slot.work)
    monkeypatch.setattr("jobtasks.agent.slots.os.mkdir", lambda path, mode: refuse(b""))
    slot.release(stained=False)
    assert not slot.is_fit()
    monkeypatch.undo()
    assert slot.is_fit()
    assert os.path.isdir(slot.work)
    os.close(null)


def test_no_work_is_taken_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked only after trouble and a pause that grows; told once at each end."""
    clock = [100.0]
    has_room = False
    monkeypatch.setattr("jobtasks.agent.room.time.monotonic", lambda: clock[0])
    found = Room(str(tmp_path))
    monkeypatch.setattr(found, "_has_room", lambda: has_room)
    assert found.is_there()
    for _ in range(3):
        found.lack("a log")
    assert not found.is_there()
    has_room = True
    clock[0] += 1.5
    assert not found.is_there()
    clock[0] += 10
    assert found.is_there()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_room_is_what_the_file_system_says(tmp_path: Path) -> None:
    """Here there is room; where there is no file system there is none."""
    assert Room(str(tmp_path))._has_room()
    assert not Room(str(tmp_path / "missing"))._has_room()
