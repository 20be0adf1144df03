"""How the SDK's calls travel: repeats, refusals, kept connections."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

import jobtasks_sdk
from jobtasks_sdk import _http


def reply(server: Any, *replies: dict[str, Any]) -> None:
    make = type(server.answer(None))
    server.script += [make(**values) for values in replies]


def test_repeats_while_the_server_is_away(in_a_task: Any, no_long_delays: list[float]) -> None:
    """503, 500, 502, 504, 429 and cut connections are waited out, with growing delays."""
    reply(in_a_task, {"status": 503}, {"status": 500}, {"cut": True}, {"status": 502})
    reply(in_a_task, {"status": 504}, {"status": 429}, {"body": {"uuid": "x"}})
    jobtasks_sdk.current_task().progress(0.5)
    assert len(in_a_task.requests) == 7
    assert len(no_long_delays) == 6
    assert all(0.07 < delay < 0.13 for delay in no_long_delays[:1])
    assert all(2 < delay < 4.1 for delay in no_long_delays[-1:])


def test_waits_as_long_as_the_server_asks(in_a_task: Any, no_long_delays: list[float]) -> None:
    """Retry-After is honoured."""
    reply(in_a_task, {"status": 503, "fields": {"Retry-After": "7"}}, {"body": {}})
    jobtasks_sdk.current_task().progress(0.5)
    assert no_long_delays == [7.0]


def test_gives_up_when_the_patience_is_over(
    in_a_task: Any, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    """After `set_patience` seconds a call raises ServerAway, which says what was tried."""
    monkeypatch.setenv("JOBTASKS_URL", f"http://127.0.0.1:{free_port}")
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    jobtasks_sdk.set_patience(20)
    with pytest.raises(jobtasks_sdk.ServerAway, match=r"PATCH /job_tasks/.*refused.*20 s"):
        jobtasks_sdk.current_task().complete()
    assert 20 <= now[0] < 21


@pytest.mark.rule("R22")
def test_a_repeated_create_carries_the_same_key(in_a_task: Any) -> None:
    """All repeats of one create have one Idempotency-Key; another create has another."""
    reply(in_a_task, {"cut": True}, {"status": 503}, {"body": {"uuid": "a"}})
    reply(in_a_task, {"body": {"uuid": "b"}})
    task = jobtasks_sdk.current_task()
    task.create(parameters={"n": 1})
    task.create(parameters={"n": 1})
    keys = [request.fields["Idempotency-Key"] for request in in_a_task.requests]
    assert keys[0] == keys[1] == keys[2] != keys[3]


@pytest.mark.rule("R32")
def test_a_stale_attempt_is_told_so_at_once(in_a_task: Any) -> None:
    """A 403 that says the attempt is over raises StaleAttempt and is not repeated."""
    reply(
        in_a_task,
        {"status": 403, "body": {"errors": ["This attempt is over: its token is not valid"]}},
        {"status": 403, "body": {"errors": ["Only its own task"]}},
    )
    with pytest.raises(jobtasks_sdk.StaleAttempt, match="attempt is over"):
        jobtasks_sdk.current_task().progress(0.5)
    with pytest.raises(jobtasks_sdk.Forbidden) as caught:
        jobtasks_sdk.current_task().progress(0.5)
    assert not isinstance(caught.value, jobtasks_sdk.StaleAttempt)
    assert len(in_a_task.requests) == 2


@pytest.mark.rule("R32")
def test_the_code_of_an_answer_goes_before_its_sentence(in_a_task: Any) -> None:
    """Sentences may change; where there is a code it alone says that the attempt is over."""
    reply(
        in_a_task,
        {"status": 403, "body": {"errors": ["It ended."], "code": "stale_attempt"}},
        {"status": 403, "body": {"errors": ["An attempt is over"], "code": "forbidden"}},
    )
    with pytest.raises(jobtasks_sdk.StaleAttempt) as stale:
        jobtasks_sdk.current_task().progress(0.5)
    with pytest.raises(jobtasks_sdk.Forbidden) as forbidden:
        jobtasks_sdk.current_task().progress(0.5)
    assert not isinstance(forbidden.value, jobtasks_sdk.StaleAttempt)
    assert (stale.value.code, forbidden.value.code) == ("stale_attempt", "forbidden")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, jobtasks_sdk.NotFound), (422, jobtasks_sdk.Refused), (401, jobtasks_sdk.Refused)],
)
def test_refusals_are_not_repeated(
    in_a_task: Any, status: int, kind: type[jobtasks_sdk.Refused]
) -> None:
    """Other 4xx raise Refused, or its kind, with status and messages."""
    reply(in_a_task, {"status": status, "body": {"errors": ["one", "two"]}})
    with pytest.raises(kind) as caught:
        jobtasks_sdk.current_task().progress(2)
    assert (caught.value.status, caught.value.messages) == (status, ["one", "two"])
    assert len(in_a_task.requests) == 1


def test_an_error_page_that_is_not_json_is_shown(in_a_task: Any) -> None:
    """A refusal from something that is not our server still says what it said."""
    reply(in_a_task, {"status": 405, "body": "go away"})
    with pytest.raises(jobtasks_sdk.Refused, match="go away"):
        jobtasks_sdk.current_task().progress(0.5)


def test_one_connection_is_kept(in_a_task: Any) -> None:
    """Calls share a connection; plain, chunked and one after an idle end work alike."""
    reply(in_a_task, {"body": {"a": 1}}, {"body": {"a": 2}, "chunked": True}, {"body": {"a": 3}})
    task = jobtasks_sdk.current_task()
    seen = []
    for fraction in (0.1, 0.2, 0.3):
        task.progress(fraction)
        seen.append(task.a)
    assert seen == [1, 2, 3]
    assert len({request.connection for request in in_a_task.requests}) == 1


def test_a_connection_that_ended_while_idle_is_noticed_before_sending(
    in_a_task: Any, no_long_delays: list[float]
) -> None:
    """A request is not sent into a connection whose end is known, so it is sent once only."""
    reply(in_a_task, {"last": True, "body": {"uuid": "a"}}, {"body": {"uuid": "b"}})
    task = jobtasks_sdk.current_task()
    task.create()
    connection = jobtasks_sdk._connection.server()._connection
    deadline = time.monotonic() + 10
    while not connection._was_closed_by_peer():
        assert time.monotonic() < deadline, "the server's end did not arrive"
    assert task.create().uuid == "b"
    assert len({request.connection for request in in_a_task.requests}) == 2
    assert no_long_delays == []


def test_a_forked_child_opens_a_connection_of_its_own(in_a_task: Any) -> None:
    """After a fork, the child's calls do not mix with its parent's."""
    server = jobtasks_sdk._connection.server()
    server.call("GET", "/a")
    before = server._connection
    server._process = os.getpid() + 1  # as a child sees it
    server.call("GET", "/b")
    assert server._connection is not before
    before.close()
    assert len({request.connection for request in in_a_task.requests}) == 2


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host:8080", ("http", "host", 8080, "/arvados/v1")),
        ("http://host:8080/", ("http", "host", 8080, "/arvados/v1")),
        ("http://host/arvados/v1/", ("http", "host", 80, "/arvados/v1")),
        ("https://host/other", ("https", "host", 443, "/other")),
        ("http://[::1]:80", ("http", "::1", 80, "/arvados/v1")),
        ("http://[::1]", ("http", "::1", 80, "/arvados/v1")),
    ],
)
def test_addresses(url: str, expected: tuple[str, str, int, str]) -> None:
    """An address may come with or without port and path."""
    address = _http.parse_address(url)
    assert (address.scheme, address.host, address.port, address.path) == expected


@pytest.mark.parametrize("url", ["", "host:80", "ftp://host", "http://host:eighty"])
def test_bad_addresses(url: str) -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError):
        _http.parse_address(url)
