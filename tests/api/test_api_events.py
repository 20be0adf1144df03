"""What happens, as a stream: in order, each entry once, also for a reader that comes back."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import FAST, LIMIT_SECONDS, Api, LiveServer

from jobtasks.protocol.frames import STDERR, STDOUT, frame

EVENTS = "/arvados/v1/events"


@dataclasses.dataclass
class Message:
    """One message of a stream."""

    kind: str
    id: str
    data: dict[str, Any]


def messages(response: httpx.Response) -> Iterator[Message]:
    """Yield the messages of a stream as they come."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        else:
            if "data" in fields:
                data = json.loads(fields["data"])
                yield Message(fields["event"], fields["id"], data)
            fields = {}


def told(client: httpx.Client, **query: Any) -> list[Message]:
    """Return what there is to be told from a cursor on."""
    if "filters" in query:
        query["filters"] = json.dumps(query["filters"])
    answer = client.get(EVENTS, params={"wait": 0, **query})
    assert answer.status_code == 200, answer.text
    return list(messages(answer))


def test_a_stream_goes_on_as_things_happen(api: Api) -> None:
    """A reader hears of a job's states and its task's without asking again."""
    job = api.job()
    filters = json.dumps([["object_uuid", "=", job["uuid"]]])
    with api.http.stream("GET", EVENTS, params={"filters": filters, "cursor": 0}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = messages(answer)
        assert next(stream).data["properties"]["new_attributes"]["state"] == "Queued"
        node = api.node()
        assert next(stream).data["properties"]["new_attributes"]["state"] == "Running"
        assert node is not None
        api.http.post(f"/arvados/v1/jobs/{job['uuid']}/cancel")
        last = next(stream)
    assert last.data["properties"]["new_attributes"]["state"] == "Cancelled"
    shown = api.get(f"logs/{last.data['uuid']}")
    assert shown == last.data
    assert shown["object_kind"] == "arvados#job"


def test_a_reader_that_comes_back_misses_nothing(api: Api) -> None:
    """After any message, the next one, by either name of the cursor."""
    for _ in range(5):
        api.job()
    whole = told(api.http, cursor=0)
    ids = [int(message.id) for message in whole]
    assert ids == sorted(set(ids))
    for place in (0, 3, len(whole) - 2):
        rest = [message.id for message in whole[place + 1 :]]
        for name in ("cursor", "last_log_id"):
            found = told(api.http, **{name: whole[place].id})
            assert [message.id for message in found][: len(rest)] == rest
        headers = {"Last-Event-ID": whole[place].id}
        answer = api.http.get(EVENTS, params={"wait": 0}, headers=headers)
        assert next(messages(answer)).id == rest[0]


def test_each_entry_once_while_many_write(api: Api) -> None:
    """Eight writers, and a reader that is cut at random moments: every job's create, once."""
    made: set[str] = set()
    first = told(api.http, cursor=0)[-1].id

    def write() -> None:
        with api.client(api.http.headers["Authorization"].split()[1]) as client:
            for _ in range(25):
                job = client.post("/arvados/v1/jobs", json={"command": ["true"], "priority": -1})
                made.add(job.json()["uuid"])

    writers = [threading.Thread(target=write) for _ in range(8)]
    for writer in writers:
        writer.start()
    heard: list[str] = []
    cursor = first
    dice = random.Random(3)
    while len(heard) < 200:
        filters = json.dumps(
            [["event_type", "=", "create"], ["object_uuid", "is_a", "arvados#job"]]
        )
        query: dict[str, str] = {"cursor": cursor, "filters": filters, "wait": "20"}
        with api.http.stream("GET", EVENTS, params=query) as answer:
            for _, message in zip(range(dice.randint(1, 30)), messages(answer), strict=False):
                cursor = message.id
                heard.append(message.data["object_uuid"])
                if len(heard) == 200:
                    break
    for writer in writers:
        writer.join(LIMIT_SECONDS)
    assert sorted(heard) == sorted(made)


def test_output_of_a_running_task_is_told(api: Api) -> None:
    """Both streams in order, from where an earlier reader was cut; only for who asks for it."""
    api.job()
    node = api.node()
    given = node.next_assignment()
    pieces = [(STDOUT, b"one\n"), (STDERR, b"oops\n"), (STDOUT, b"two\n")]
    node.push_log(given.attempt, b"".join(frame(mark, text) for mark, text in pieces))
    about = ["object_uuid", "=", given.task]
    both = [about, ["event_type", "in", ["stdout", "stderr"]]]
    found = [m for m in told(api.http, filters=both) if m.kind == "output"]
    texts = [(m.data["event_type"], m.data["properties"]["text"]) for m in found]
    assert texts == [("stdout", "one\n"), ("stderr", "oops\n"), ("stdout", "two\n")]
    assert found[0].data["properties"]["attempt"] == 1
    again = told(api.http, filters=both, cursor=found[0].id)
    assert [m.data["properties"]["text"] for m in again] == ["oops\n", "two\n"]
    only = told(api.http, filters=[about, ["event_type", "=", "stderr"]])
    assert [m.data["properties"]["text"] for m in only] == ["oops\n"]
    assert not [m for m in told(api.http, filters=[about]) if m.kind == "output"]


def test_what_is_no_cursor_or_filter_is_refused(api: Api) -> None:
    """At once, with a sentence."""
    for query in (
        {"cursor": "x"},
        {"cursor": "-1"},
        {"wait": "long"},
        {"filters": '[["a","=",1]]'},
    ):
        answer = api.http.get(EVENTS, params={"wait": 0, **query})
        assert answer.status_code == 422, query
        assert answer.json()["errors"]


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Api]:
    """A server that keeps little, and says often that it is there."""
    few = dataclasses.replace(FAST, events_max=3, streams_max=1, stream_beat_seconds=0.1)
    live = LiveServer(tmp_path, few)
    api = Api(live)
    yield api
    api.close()
    live.close()


def test_who_comes_back_too_late_is_told_so(forgetful: Api) -> None:
    """`gone` names the oldest entry that is kept: read anew, and go on from there."""
    api = forgetful
    for _ in range(10):
        api.job()
    found: list[Message] = []
    for _ in range(200):
        found = told(api.http, cursor=1)
        if found[0].kind == "gone":
            break
    assert [message.kind for message in found] == ["gone"]
    kept_from = found[0].data["kept_from"]
    assert told(api.http, cursor=kept_from)[0].kind == "log"


def test_streams_are_bounded_and_say_that_they_live(forgetful: Api) -> None:
    """One more than allowed is 429; an idle one sends its cursor; one whose token dies ends."""
    api = forgetful
    token = api.http.post("/arvados/v1/api_client_authorizations", json={}).json()
    with api.client(token["api_token"]) as client:
        with client.stream("GET", EVENTS) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry:")
            assert next(line for line in lines if line.startswith("id:"))
            metrics = api.http.get("/metrics").text
            assert "jobtasks_streams_open 1.0" in metrics or "jobtasks_streams_open 1\n" in metrics
            assert api.http.get(EVENTS, params={"wait": 0}).status_code == 429
            api.http.delete(f"/arvados/v1/api_client_authorizations/{token['uuid']}")
            rest = list(lines)
    assert "event: end" in rest


def test_the_end_of_the_server_ends_streams(tmp_path: Path) -> None:
    """Readers are let go, and come back elsewhere."""
    live = LiveServer(tmp_path, FAST)
    api = Api(live)
    with api.http.stream("GET", EVENTS) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry:")
        closing = threading.Thread(target=live.close)
        closing.start()
        assert [line for line in lines if line.startswith("data")] == []
    closing.join(LIMIT_SECONDS)
    assert not closing.is_alive()
    api.close()
