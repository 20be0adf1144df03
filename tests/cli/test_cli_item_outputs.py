"""What `jobtasks map` prints, against a server that is played: order, wholeness, effort."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import httpx
import pytest

from jobtasks.cli import item_outputs
from jobtasks.cli.client import Client
from jobtasks.cli.item_outputs import ItemOutputs
from jobtasks.protocol.frames import NOTE, STDERR, STDOUT, TASK, frame

JOB = "zzzzz-8i9sb-000000000000000"


class PlayedServer:
    """Tasks of one job, from qsequence 1 on; a task's output is its number and a newline."""

    def __init__(self, count: int) -> None:
        self.states = ["waiting"] * (count + 1)
        self.attempts = [0] * (count + 1)
        self.late: set[int] = set()
        """Tasks that have ended and whose log is not here yet."""
        self.breaks: list[int] = []
        """After so many bytes the next answers with logs break off."""
        self.calls = self.rows = 0

    def end(self, *numbers: int, state: str = "complete") -> None:
        for number in numbers:
            self.states[number], self.attempts[number] = state, 1

    def run(self, *numbers: int) -> None:
        self.end(*numbers, state="running")

    def get(self, path: str, **query: Any) -> Any:
        assert path == "/job_tasks" and query["order"] == ["qsequence"]
        self.calls += 1
        assert query["filters"][:2] == [["job_uuid", "=", JOB], ["sequence", "=", 1]]
        (name, operator, operand) = query["filters"][2]
        assert name == "qsequence"
        numbers = range(operand + 1, len(self.states)) if operator == ">" else operand
        found = [
            {"qsequence": n, "state": self.states[n], "attempts": self.attempts[n]}
            for n in numbers[: query["limit"]]
            if n > 0
        ]
        self.rows += len(found)
        return {"items": found}

    def stream(self, path: str, take: Callable[[Iterator[bytes]], None], **query: Any) -> None:
        assert path == f"/jobs/{JOB}/logs"
        self.calls += 1
        content = b"".join(self._log(number) for number in query["qsequences"])
        while self.breaks:
            broken = content[: self.breaks.pop(0)]
            with pytest.raises(httpx.ReadError):
                take(_breaking(broken))
        take(content[start : start + 7] for start in range(0, len(content), 7))

    def _log(self, number: int) -> bytes:
        text = f"{number}\n".encode()
        stored = 0 if number in self.late else len(text) + 1
        about = {"qsequence": number, "log_bytes": len(text) + 1, "stored_bytes": stored}
        head = frame(TASK, json.dumps({**about, "job_task_uuid": f"task-{number}"}).encode())
        frames = frame(STDOUT, text[:1]) + frame(STDERR, b"e") + frame(STDOUT, text[1:])
        return head + (frames if stored else frame(NOTE, b"cut"))


def _breaking(content: bytes) -> Iterator[bytes]:
    yield content
    raise httpx.ReadError("cut")


class Printed:
    """The outputs of a played server, and what they have printed."""

    def __init__(self, server: PlayedServer, keep_order: bool) -> None:
        self.out, self.err = io.BytesIO(), io.BytesIO()
        client = cast(Client, server)
        self.outputs = ItemOutputs(client, JOB, keep_order, self.out, self._error)

    def _error(self, data: bytes) -> None:
        self.err.write(data)

    def look(self, is_over: bool = False) -> list[int]:
        """Look once; the numbers that were printed by it."""
        before = self.out.tell()
        self.whole = self.outputs.look(is_over)
        return [int(line) for line in self.out.getvalue()[before:].split()]


def test_as_they_end() -> None:
    """Each once, as soon as it has ended, also when an earlier one goes on for ever."""
    server = PlayedServer(100)
    printed = Printed(server, keep_order=False)
    server.run(1, 2, 3)
    assert printed.look() == []
    server.end(2, 3)
    server.end(4, state="failed")
    server.run(5)
    assert printed.look() == [2, 3, 4]
    server.end(*range(5, 91))
    assert printed.look() == list(range(5, 91))
    server.end(1)
    assert printed.look() == [1]
    assert not printed.whole
    assert printed.look(is_over=True) == []
    assert printed.whole, "what never ran will never be printed"
    assert printed.err.getvalue() == b"e" * 90


def test_in_order() -> None:
    """What has ended waits for what was before it; what never ran is passed over at the end."""
    server = PlayedServer(100)
    printed = Printed(server, keep_order=True)
    server.run(1, 3)
    server.end(2, 4)
    assert printed.look() == []
    server.end(1)
    assert printed.look() == [1, 2]
    assert printed.look() == []
    server.end(*range(5, 80))
    server.end(3, state="waiting")
    assert printed.look() == []
    assert printed.look(is_over=True) == list(range(4, 80))
    assert printed.whole


@pytest.mark.parametrize("keep_order", [True, False])
def test_a_log_that_comes_after_the_end(keep_order: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for; when it does not come, what there is is printed, and that is said."""
    server = PlayedServer(5)
    printed = Printed(server, keep_order)
    server.end(1, 2, 3, 4, 5)
    server.late = {2, 4}
    assert printed.look() == ([1] if keep_order else [1, 3, 5])
    assert printed.look(is_over=True) == []
    assert not printed.whole
    server.late = {4}
    assert printed.look(is_over=True) == ([2, 3] if keep_order else [2])
    assert not printed.whole
    now = time.monotonic() + item_outputs.LOG_SECONDS_MAX + 1
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert printed.look(is_over=True) == ([5] if keep_order else [])
    assert printed.whole
    assert b"3 bytes of task-4 are lost" in printed.err.getvalue()


@pytest.mark.parametrize("keep_order", [True, False])
def test_an_answer_that_breaks_off(keep_order: bool) -> None:
    """Wherever it breaks, nothing is printed twice and nothing is left out."""
    whole = PlayedServer(3)._log(1) * 3
    for place in range(len(whole)):
        server = PlayedServer(3)
        server.end(1, 2, 3)
        server.breaks = [place, place + 1]
        printed = Printed(server, keep_order)
        assert printed.look(is_over=True) == [1, 2, 3], place
        assert (printed.whole, printed.err.getvalue()) == (True, b"eee")


@pytest.mark.parametrize("keep_order", [True, False])
def test_the_effort_grows_with_the_items_alone(keep_order: bool) -> None:
    """20,000 items and one that hangs: rows that are read, not how often one looks, decide."""
    count = 20_000
    server = PlayedServer(count)
    printed = Printed(server, keep_order)
    server.run(1 if not keep_order else count)
    seen: list[int] = []
    looks = 200
    for start in range(1, count, count // looks):
        ends = range(start, min(start + count // looks, count + 1))
        server.end(*(number for number in ends if server.states[number] != "running"))
        seen += printed.look()
    server.end(1, count)
    seen += printed.look(is_over=True)
    while not printed.whole:
        seen += printed.look(is_over=True)
    assert sorted(seen) == list(range(1, count + 1))
    assert seen == sorted(seen) or not keep_order
    assert server.rows < 2.5 * count, server.rows
    assert server.calls < 10 * looks, server.calls
