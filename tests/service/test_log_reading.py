"""Logs are read while they grow."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobtasks.protocol.frames import HEADER, STDOUT, frame
from jobtasks.service.logs import log_size, read_log

FIRST = frame(STDOUT, b"first")


@pytest.mark.timeout(20)
@pytest.mark.rule("R38")
@pytest.mark.parametrize(
    ("seen", "size"),
    [
        (0, 0),
        (len(FIRST) - 1, 4),
        (len(FIRST), 5),
        (len(FIRST) + 1, 5),
        (len(FIRST) + HEADER.size, 5),
        (len(FIRST) + HEADER.size + 1, 6),
    ],
)
def test_a_log_that_grows_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: int, size: int
) -> None:
    """It is read as long as it was at the begin: the reading comes to an end."""
    path = tmp_path / "log"
    path.write_bytes(FIRST + frame(STDOUT, b"second"))
    monkeypatch.setattr(os, "fstat", lambda file: SimpleNamespace(st_size=seen))
    streams = frozenset({STDOUT})
    assert log_size(path, streams) == size
    assert b"".join(read_log(path, streams, 0, 100)) == b"firstsecond"[:size]
