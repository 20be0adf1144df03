"""The agents' calls: long polls, newer syncs beside waiting ones, follow, logs on disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.api.conftest import LIMIT_SECONDS, Api, Node

from jobtasks.api.agents import says_something
from jobtasks.protocol.frames import NOTE, STDERR, STDOUT, frame
from jobtasks.protocol.messages import (
    Join,
    LogChunk,
    LogChunks,
    LogStored,
    Orders,
    Stop,
    Sync,
    Trust,
)

JOBS = "/arvados/v1/jobs"
TASKS = "/arvados/v1/job_tasks"


def in_background(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def raw_sync(node: Node, number: int, wait_seconds: float) -> Orders:
    message = Sync(node.joined.agent, number, free_slots=[], wait_seconds=wait_seconds)
    orders: Orders = node.call("/agent/v1/sync", message, Orders)
    return orders


def waiting(api: Api, node: Node, number: int) -> None:
    """Return when that sync of the node waits at the server."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not api.server.edge.hub.seats.waits(node.joined.agent, number):
        assert time.monotonic() < deadline, f"sync {number} does not wait"


@pytest.mark.rule("R33")
def test_a_sync_waits_until_there_is_work(api: Api) -> None:
    """A job created meanwhile is started at once, and the answer says how long it was held."""
    node = api.node()
    began = time.monotonic()
    thread, answers = in_background(lambda: node.sync(wait_seconds=LIMIT_SECONDS))
    waiting(api, node, 1)
    job = api.job()
    thread.join(LIMIT_SECONDS)
    held_seconds = time.monotonic() - began
    assert [given.job for given in answers[0].start] == [job["uuid"]]
    assert 0 < answers[0].held_seconds < held_seconds < LIMIT_SECONDS / 2
    assert answers[0].renewed


@pytest.mark.rule("R33")
def test_a_sync_with_nothing_to_order_is_answered_in_time(api: Api) -> None:
    """Empty, after as long as the agent allowed, its leases renewed."""
    node = api.node()
    began = time.monotonic()
    orders = node.sync(wait_seconds=0.3)
    assert 0.3 <= time.monotonic() - began < LIMIT_SECONDS / 2
    assert orders.renewed
    assert not says_something(orders)


@pytest.mark.rule("R33")
def test_a_newer_sync_sends_the_waiting_one_home(api: Api) -> None:
    """The waiting one is answered at once, empty; an older one changes nothing and is stale."""
    node = api.node()
    thread, answers = in_background(lambda: raw_sync(node, 5, LIMIT_SECONDS))
    waiting(api, node, 5)
    began = time.monotonic()
    second = Node.__new__(Node)
    second.client, second.joined = api.client("u" + "2" * 49), node.joined
    newer = raw_sync(second, 6, 0)
    thread.join(LIMIT_SECONDS)
    assert time.monotonic() - began < LIMIT_SECONDS / 2
    assert (newer.number, newer.stale) == (6, False)
    assert answers[0].number == 5
    assert not (answers[0].start or answers[0].stop)
    assert raw_sync(second, 6, LIMIT_SECONDS).stale
    assert raw_sync(second, 3, LIMIT_SECONDS).stale
    second.client.close()
    node.number = 10


def test_a_leaving_agent_is_not_kept(api: Api) -> None:
    """Its last sync is answered at once; the next one must join again."""
    node = api.node()
    began = time.monotonic()
    node.sync(wait_seconds=LIMIT_SECONDS, leaving=True)
    assert time.monotonic() - began < LIMIT_SECONDS / 2
    assert node.sync().rejoin


@pytest.mark.rule("R21")
def test_a_cancel_reaches_a_waiting_agent(api: Api) -> None:
    """The stop is the answer to the sync that waits."""
    api.job()
    node = api.node()
    seed = node.next_assignment()
    number = node.number + 1
    thread, answers = in_background(lambda: node.sync(wait_seconds=LIMIT_SECONDS))
    waiting(api, node, number)
    job = api.get(f"job_tasks/{seed.task}")["job_uuid"]
    assert api.http.post(f"{JOBS}/{job}/cancel").status_code == 200
    thread.join(LIMIT_SECONDS)
    assert [stop.attempt for stop in answers[0].stop] == [seed.attempt]


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        (Orders(1), False),
        (Orders(1, renewed=True, held_seconds=3.0), False),
        (Orders(1, stale=True), True),
        (Orders(1, rejoin=True), True),
        (Orders(1, acknowledged=[1]), True),
        (Orders(1, stop=[Stop(1)]), True),
        (Orders(1, ask=[1]), True),
        (Orders(1, jobs_over=["x"]), True),
        (Orders(1, follow=[1]), False),
    ],
)
def test_what_is_worth_an_answer(orders: Orders, expected: bool) -> None:
    """Everything that an agent must act on; a renewal alone is not."""
    assert says_something(orders) is expected


LOG = frame(STDOUT, b"one\n") + frame(STDERR, b"two\n") + frame(NOTE, b"-\n") + frame(STDOUT, b"3")


@pytest.mark.rule("R13", "R37")
def test_a_log_is_kept_and_read_back(api: Api) -> None:
    """Both streams in order of arrival, one stream, a part, a range; per attempt."""
    api.job()
    node = api.node()
    seed = node.next_assignment()
    address = f"{TASKS}/{seed.task}/log"
    empty = api.http.get(address)
    assert (empty.status_code, empty.content) == (200, b"")
    node.push_log(seed.attempt, LOG[:16])
    assert api.http.get(address).text == "one\ntw"
    node.push_log(seed.attempt, LOG[7:], offset=7, final=True)
    node.end(seed.attempt, exit_code=1, log_bytes=9)
    whole = api.http.get(address)
    assert whole.text == "one\ntwo\n-\n3"
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["content-length"] == "11"
    head = api.http.head(address)
    assert (head.content, head.headers["content-length"]) == (b"", "11")
    for parameters, expected in (
        ({"stream": "stdout"}, "one\n3"),
        ({"stream": "stderr"}, "two\n"),
        ({"attempt": "1", "offset": "2", "limit": "4"}, "e\ntw"),
        ({"offset": "100"}, ""),
        ({"limit": "0"}, ""),
        ({"stream": "stdout", "offset": "3"}, "\n3"),
    ):
        answer = api.http.get(address, params=parameters)
        assert (answer.status_code, answer.text) == (200, expected), parameters


@pytest.mark.rule("R13")
@pytest.mark.parametrize(
    ("header", "status", "text", "range_"),
    [
        ("bytes=0-3", 206, "one\n", "bytes 0-3/11"),
        ("bytes=4-", 206, "two\n-\n3", "bytes 4-10/11"),
        ("bytes=-2", 206, "\n3", "bytes 9-10/11"),
        ("bytes=-100", 206, "one\ntwo\n-\n3", "bytes 0-10/11"),
        ("bytes=8-100", 206, "-\n3", "bytes 8-10/11"),
        ("bytes=11-", 416, "", "bytes */11"),
        ("bytes=-0", 416, "", "bytes */11"),
        ("bytes=3-1", 200, "one\ntwo\n-\n3", None),
        ("bytes=0-1,3-4", 200, "one\ntwo\n-\n3", None),
        ("lines=0-1", 200, "one\ntwo\n-\n3", None),
    ],
)
def test_ranges_of_a_log(
    logged: tuple[Api, str], header: str, status: int, text: str, range_: str | None
) -> None:
    """A Range header as the standard has it."""
    api, address = logged
    answer = api.http.get(address, headers={"Range": header})
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers.get("content-range") == range_


@pytest.fixture
def logged(api: Api) -> tuple[Api, str]:
    """The address of a finished attempt's log."""
    api.job()
    node = api.node()
    seed = node.next_assignment()
    node.push_log(seed.attempt, LOG, final=True)
    node.end(seed.attempt, exit_code=1)
    return api, f"{TASKS}/{seed.task}/log"


def test_bad_parameters_of_a_log(logged: tuple[Api, str]) -> None:
    """422; an attempt that never was is 404."""
    api, address = logged
    for parameters in ({"stream": "both"}, {"offset": "x"}, {"limit": "-1"}, {"attempt": "0"}):
        assert api.http.get(address, params=parameters).status_code == 422, parameters
    assert api.http.get(address, params={"attempt": "9"}).status_code == 404


def test_reading_a_running_attempts_log_has_its_agent_push(api: Api) -> None:
    """The agent's waiting sync is told at once; later ones repeat it, and wait all the same."""
    api.job()
    node = api.node()
    seed = node.next_assignment()
    number = node.number + 1
    thread, answers = in_background(lambda: node.sync(wait_seconds=LIMIT_SECONDS))
    waiting(api, node, number)
    assert api.http.get(f"{TASKS}/{seed.task}/log").status_code == 200
    thread.join(LIMIT_SECONDS)
    assert answers[0].follow == [seed.attempt]
    assert node.sync().follow == [seed.attempt]
    number = node.number + 1
    thread, answers = in_background(lambda: node.sync(wait_seconds=LIMIT_SECONDS))
    waiting(api, node, number)
    assert api.http.get(f"{TASKS}/{seed.task}/log").status_code == 200
    assert not answers, "an agent that knows is not told again"
    node.number += 1
    node.sync()
    thread.join(LIMIT_SECONDS)


@pytest.mark.rule("R32")
def test_an_agent_stores_logs_of_its_own_attempts_only(api: Api) -> None:
    """Chunks of other agents' attempts, and chunks beyond a log's limits, are not kept."""
    api.job()
    node = api.node()
    seed = node.next_assignment()
    stranger = api.node()
    for sender, chunk in (
        (stranger, LogChunk(seed.attempt, 0, b"x")),
        (node, LogChunk(seed.attempt, -1, b"x")),
        (node, LogChunk(seed.attempt, 2**50, b"x")),
        (node, LogChunk(10**9, 0, b"x")),
    ):
        message = LogChunks(sender.joined.agent, [chunk])
        assert sender.call("/agent/v1/logs", message, LogStored).stored == []
    assert not list(api.server.log_dir.glob(f"*/{seed.task}*"))


def test_a_large_log_is_streamed_in_pieces(api: Api, tmp_path: Path) -> None:
    """Ten MiB in frames of odd sizes, whole and from the middle."""
    api.job()
    node = api.node()
    seed = node.next_assignment()
    data = bytes(range(256)) * 40_960
    step, offset = 65_521, 0
    for at in range(0, len(data), step * 10):
        frames = b"".join(
            frame(STDOUT, data[part : part + step])
            for part in range(at, min(at + step * 10, len(data)), step)
        )
        node.push_log(seed.attempt, frames, offset=offset)
        offset += len(frames)
    address = f"{TASKS}/{seed.task}/log"
    assert api.http.get(address).content == data
    part = api.http.get(address, headers={"Range": "bytes=5000000-5999999"})
    assert part.content == data[5_000_000:6_000_000]


def test_messages_of_another_version_are_refused(api: Api) -> None:
    """422 with a sentence that names both."""
    message = Join(99, "n", "h", "i", slots=1, memory_kib=1, cores=1, scratch_mb=1)
    with api.client("u" + "2" * 49) as client:
        answer = client.post("/agent/v1/join", content=msgspec.msgpack.encode(message))
    assert answer.status_code == 422
    assert "99" in answer.json()["errors"][0]


@pytest.mark.rule("R38")
def test_an_agent_is_told_what_tasks_trust(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the answer to a sync that does not know it yet, beside the first work; and not again."""
    node = api.node()
    assert node.sync().trust is None
    trust = Trust("two", "jobs.example.org", "PEM")
    monkeypatch.setattr(api.server.edge.world, "trust", trust)
    api.job()
    orders = node.sync(wait_seconds=LIMIT_SECONDS)
    assert (len(orders.start), orders.trust) == (1, trust)
    for known, told in (("two", None), ("one", trust)):
        node.number += 1
        message = Sync(node.joined.agent, node.number, trust=known)
        assert node.call("/agent/v1/sync", message, Orders).trust == told
