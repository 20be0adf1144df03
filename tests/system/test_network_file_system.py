"""A state directory on a network file system is refused, by every program that would use it."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Start

HEADER_IN = struct.Struct("<IIQQIIII")
HEADER_OUT = struct.Struct("<IiQ")
LOOKUP, FORGET, GETATTR, INIT, BATCH_FORGET = 1, 2, 3, 26, 42
ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")


def answer(opcode: int) -> bytes | None:
    """Return what an empty directory answers to a request of the kernel; None: an error."""
    if opcode == INIT:
        return struct.pack("<IIIIHHIIHHI7I", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0, *[0] * 7)
    if opcode == GETATTR:
        directory = (1, 0, 0, 0, 0, 0, 0, 0, 0, 0o040700, 2, 0, 0, 0, 512, 0)
        return struct.pack("<QII", 0, 0, 0) + ATTRIBUTES.pack(*directory)
    return None


def serve_empty(fd: int) -> None:
    """Serve an empty file system until it is unmounted."""
    while True:
        try:
            request = os.read(fd, 1 << 17)
        except OSError:
            return
        _, opcode, unique, *_ = HEADER_IN.unpack_from(request)
        if opcode in (FORGET, BATCH_FORGET):
            continue
        body = answer(opcode)
        error = 0 if body is not None else -(errno.ENOENT if opcode == LOOKUP else errno.ENOSYS)
        content = body or b""
        with contextlib.suppress(OSError):
            os.write(fd, HEADER_OUT.pack(HEADER_OUT.size + len(content), error, unique) + content)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Path]:
    """A mount that the kernel calls ``fuse.sshfs``; nothing can be made in it."""
    point = tmp_path / "far"
    point.mkdir()
    try:
        fd = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no FUSE here: {error}")
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
    mounted = subprocess.run(
        ["mount", "-i", "-t", "fuse.sshfs", "-o", options, "host:/", str(point)],
        pass_fds=[fd],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        os.close(fd)
        pytest.skip(f"nothing can be mounted here: {mounted.stderr}")
    serving = threading.Thread(target=serve_empty, args=(fd,))
    serving.start()
    yield point
    subprocess.run(["umount", "--lazy", str(point)], check=True)
    os.close(fd)
    serving.join(10)
    assert not serving.is_alive()


def test_a_server_is_refused_in_one_line(start: Start, far: Path) -> None:
    """125, before anything is made there; the line names the kind and what to do."""
    served = start("--no-agent", state=far / "state")
    out, err = served.rest()
    assert (served.process.returncode, served.first_line, out) == (125, "", "")
    assert len(err.splitlines()) == 1, err
    assert err.startswith(f"jobtasks serve: {far}/state lies on a network file system (fuse.sshfs)")
    assert "--state" in err
    assert "--allow-network-file-system" in err


def test_who_insists_gets_as_far_as_the_file_system_allows(start: Start, far: Path) -> None:
    """With the option the directory is tried: this one takes no files."""
    served = start("--no-agent", "--allow-network-file-system", state=far / "state")
    assert "Function not implemented" in served.rest()[1]
