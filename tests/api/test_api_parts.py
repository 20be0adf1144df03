"""Parts of the edge on their own: bodies, ranges, wake-ups, logs on disk, the state directory."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.api.boundary import tidy
from jobtasks.api.hub import Hub
from jobtasks.api.jsonlog import JsonFormatter
from jobtasks.api.parsing import parse_record, parse_records
from jobtasks.api.ranges import parse_range
from jobtasks.api.state_dir import StartRefused, StateDir
from jobtasks.core.errors import Invalid, RequestError, TooLarge
from jobtasks.core.resources import RESOURCES
from jobtasks.core.settings import Settings
from jobtasks.protocol.frames import NOTE, STDERR, STDOUT, frame
from jobtasks.service import logs

TASKS = RESOURCES["job_tasks"]
SMALL = Settings(depth_max=6, bulk_tasks_max=3, body_bytes_max=200)


@pytest.mark.rule("R41")
@pytest.mark.parametrize("key", ["job_task", "jobTask", "jobtask"])
@pytest.mark.parametrize("as_text", [True, False])
def test_wrappers(key: str, as_text: bool) -> None:
    """Three spellings, as an object or as text; nothing is dropped from a wrapped record."""
    record = {"parameters": {"a": 1}, "nothing": 2}
    body = {key: json.dumps(record) if as_text else record, "select": ["uuid"]}
    parsed = parse_record(TASKS, json.dumps(body).encode(), SMALL)
    assert parsed.attributes == record
    assert parsed.parameters["select"] == ["uuid"]


@pytest.mark.rule("R41")
def test_flat_bodies_keep_what_is_an_attribute() -> None:
    """Old names too; the rest is dropped. Nothing at all is an empty record."""
    parsed = parse_record(TASKS, b'{"sequence":1,"resource_limits":{},"alt":"json"}', SMALL)
    assert parsed.attributes == {"sequence": 1, "resource_limits": {}}
    for empty in (b"", b" ", b"{}", b'{"job_task":{}}', b'{"job_task":null}'):
        assert parse_record(TASKS, empty, SMALL).attributes == {}


@pytest.mark.rule("R2")
def test_bulk_bodies() -> None:
    """A list of objects, no more than allowed; an empty list is a bulk create too."""
    assert parse_records(TASKS, b'{"job_tasks":[{},{"sequence":1}]}', SMALL).items == [
        {},
        {"sequence": 1},
    ]
    assert parse_records(TASKS, b'{"job_tasks":[]}', SMALL).items == []
    assert parse_records(TASKS, b'{"sequence":1}', SMALL).items is None
    for bad in (b'{"job_tasks":[1]}', b'{"job_tasks":{}}', b'{"job_tasks":null}'):
        with pytest.raises(Invalid):
            parse_records(TASKS, bad, SMALL)
    with pytest.raises(TooLarge):
        parse_records(TASKS, b'{"job_tasks":[{},{},{},{}]}', SMALL)
    with pytest.raises(TooLarge):
        parse_records(TASKS, b'{"sequence":1,"x":"' + b"x" * 300 + b'"}', SMALL)


@given(body=st.binary(max_size=60) | st.text(alphabet='{}[]",:1ae\\jobts_k', max_size=40))
def test_any_body_is_parsed_or_refused(body: bytes | str) -> None:
    """No bytes make the parser fail in another way."""
    raw = body if isinstance(body, bytes) else body.encode()
    for parse in (parse_record, parse_records):
        try:
            parse(TASKS, raw, SMALL)
        except RequestError as refusal:
            assert refusal.messages


@given(first=st.integers(0, 12), last=st.integers(0, 12), size=st.integers(0, 10))
def test_ranges_lie_within_what_there_is(first: int, last: int, size: int) -> None:
    """Each form of one range, against slices of a list."""
    data = list(range(size))
    for header, expected in (
        (f"bytes={first}-{last}", data[first : last + 1] if last >= first else data),
        (f"bytes={first}-", data[first:]),
        (f"bytes=-{last}", data[-last:] if last else []),
    ):
        span = parse_range(header, size)
        assert (data[span.start : span.stop] if span else []) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("//a///b/", "/a/b"),
        ("/a.json", "/a"),
        ("/a.json/", "/a"),
        ("/a/b.json.x", "/a/b.json.x"),
    ],
)
def test_tidy_paths(path: str, expected: str) -> None:
    """One form of each address."""
    assert tidy(path) == expected


FRAMES = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR, NOTE]), st.binary(max_size=20)), max_size=8
)


@pytest.mark.rule("R13")
@given(frames=FRAMES, start=st.integers(0, 60), length=st.integers(0, 60), cut=st.integers(0, 30))
def test_any_part_of_any_log(
    tmp_path_factory: pytest.TempPathFactory,
    frames: list[tuple[bytes, bytes]],
    start: int,
    length: int,
    cut: int,
) -> None:
    """Size and parts by stream agree with the plain joined text, also of a file cut off."""
    path = tmp_path_factory.getbasetemp() / "log"
    raw = b"".join(frame(stream, data) for stream, data in frames)
    raw = raw[: max(0, len(raw) - cut)]
    path.write_bytes(raw)
    arrived: list[tuple[bytes, bytes]] = []
    left = raw
    for stream, data in frames:
        if len(left) >= 5:
            arrived.append((stream, left[5 : 5 + len(data)]))
        left = left[5 + len(data) :]
    for name, marks in logs.STREAMS.items():
        text = b"".join(data for stream, data in arrived if stream in marks)
        assert logs.log_size(path, logs.streams_named(name)) == len(text)
        stop = min(start + length, len(text))
        assert b"".join(logs.read_log(path, marks, start, stop)) == text[start:stop]


def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    """An attempt without output has no file."""
    assert logs.log_size(tmp_path / "none", logs.streams_named(None)) == 0


def test_a_ring_before_the_wait_is_not_lost() -> None:
    """A bell rings for what happened since it was cleared; others are not woken."""

    async def check() -> None:
        hub = Hub(asyncio.get_running_loop())
        with hub.listen("a") as bell, hub.listen("b") as other:
            hub.ring({"a"})
            assert await bell.wait(5)
            bell.clear()
            assert not await bell.wait(0.01)
            assert not await other.wait(0)
            hub.ring({"a", "b"}, but=bell)
            assert not await bell.wait(0)
            assert await other.wait(5)
            hub.close()
            assert await bell.wait(5)
        hub.ring({"a"})

    asyncio.run(check())


def test_a_newer_sync_takes_the_seat() -> None:
    """An older one neither takes it nor sends the newer one home."""

    async def check() -> None:
        hub = Hub(asyncio.get_running_loop())
        with hub.seat(1, 5) as first, hub.seat(2, 1) as neighbour:
            with hub.seat(1, 4):
                assert not first.superseded
            with hub.seat(1, 6) as newer:
                assert first.superseded
                assert await first.wait(5)
                assert not newer.superseded
            assert not neighbour.superseded

    asyncio.run(check())


def test_a_wish_to_follow_is_news_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the agent that runs the attempt; as long as somebody reads, it stays in the answers."""

    async def check() -> None:
        hub = Hub(asyncio.get_running_loop())
        hub.follow(7)
        assert (hub.followed([1, 2]), hub.take_news([1, 2])) == ([], False)
        assert (hub.followed([7, 8]), hub.take_news([7, 8])) == ([7], True)
        hub.follow(7)
        assert (hub.followed([7, 8]), hub.take_news([7, 8])) == ([7], False)
        monkeypatch.setattr(time, "monotonic", lambda: float("inf"))
        assert hub.followed([7, 8]) == []

    asyncio.run(check())


def test_a_state_directory_is_private_and_keeps_its_secrets(tmp_path: Path) -> None:
    """Modes 0700 and 0600; keys and tokens are made once."""
    path = tmp_path / "deep" / "state"
    state = StateDir(path)
    key, admin, agent = state.secret_key(), state.token("admin"), state.token("agent")
    state.write_url("http://127.0.0.1:1")
    assert (path / "url").read_text() == "http://127.0.0.1:1\n"
    assert (path / "node" / "server.url").read_text() == "http://127.0.0.1:1\n"
    assert (path / "admin.token").read_text() == admin + "\n"
    assert admin != agent
    for place in (path, *path.rglob("*")):
        mode = stat.S_IMODE(place.stat().st_mode)
        assert mode == (0o700 if place.is_dir() else 0o600), place
    with pytest.raises(StartRefused, match="another server serves"):
        StateDir(path)
    state.forget_url()
    state.close()
    again = StateDir(path)
    assert (again.secret_key(), again.token("admin"), again.token("agent")) == (key, admin, agent)
    assert not (path / "url").exists()
    again.close()


def test_state_directories_that_cannot_be_used(tmp_path: Path) -> None:
    """A file in its place, a damaged key, an empty token: one sentence each."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartRefused, match="cannot use"):
        StateDir(tmp_path / "file")
    state = StateDir(tmp_path / "state")
    (state.path / "secret.key").write_text("xyz\n")
    (state.path / "admin.token").write_text("\n")
    (state.path / "agent.token").mkdir()
    with pytest.raises(StartRefused, match="damaged"):
        state.secret_key()
    with pytest.raises(StartRefused, match="empty"):
        state.token("admin")
    with pytest.raises(StartRefused, match="cannot use"):
        state.token("agent")
    state.close()


def test_a_line_of_the_servers_log() -> None:
    """One JSON object: what was said, what was given beside it, and the error."""
    try:
        raise ValueError("why")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x.y", logging.ERROR, "p", 1, "it %s", ("failed",), info)
    record.path = Path("/a")
    line: dict[str, Any] = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["logger"], line["message"]) == ("error", "x.y", "it failed")
    assert line["path"] == "/a"
    assert "ValueError: why" in line["error"]
    assert os.linesep not in JsonFormatter().format(record)
