"""Large creates over HTTP: all or nothing, others go on meanwhile, memory is bounded (R2, R40)."""

from __future__ import annotations

import json
import socket
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.api.conftest import Api

from jobtasks.api.items import LARGE_ITEMS, Items, large_items
from jobtasks.core.errors import Invalid, MalformedRequest, RequestError, TooLarge
from jobtasks.core.settings import Settings
from jobtasks.protocol.messages import Assignment

PATH = "/arvados/v1/job_tasks"
COUNT = 3 * LARGE_ITEMS + 7
LIMIT_SECONDS = 10.0
SETTINGS = Settings()


def bulk(count: int = COUNT, last: str = "") -> bytes:
    """Return a body of so many tasks; `last` is one more, as it stands."""
    items = [f'{{"parameters": {{"n": {n}}}}}' for n in range(count)]
    return ('{"job_tasks": [' + ", ".join(items + [last] * bool(last)) + "]}").encode()


class Seed:
    """A running seed, as it calls."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.job: dict[str, Any] = api.job()
        self.attempt: Assignment = api.node().next_assignment()
        self.http: httpx.Client = api.as_attempt(self.attempt)

    def post(self, body: bytes, **headers: str) -> httpx.Response:
        return self.http.post(PATH, content=body, headers=headers)

    @property
    def visible(self) -> int:
        """Tasks of the job that a reader sees, without the seed."""
        filters = json.dumps([["job_uuid", "=", self.job["uuid"]]])
        found = self.api.get("job_tasks", filters=filters, limit=1, count="exact")
        return int(found["items_available"]) - 1

    def wait_for_rows(self, count: int) -> None:
        """Wait until so many rows are left, visible or not."""
        until = time.monotonic() + LIMIT_SECONDS
        while self.rows != count:
            assert time.monotonic() < until, f"{self.rows} rows are left"
            time.sleep(0.05)

    @property
    def rows(self) -> int:
        job_id = "(SELECT id FROM job WHERE uuid = :uuid)"
        statement = f"SELECT count(*) - 1 FROM task WHERE id >> 32 = {job_id}"
        found = self.api.server.store.read(lambda tx: tx.text(statement, self.job_uuid))
        return int(found[0][0])

    @property
    def job_uuid(self) -> dict[str, str]:
        return {"uuid": self.job["uuid"]}


@pytest.fixture
def seed(api: Api) -> Seed:
    return Seed(api)


@pytest.mark.rule("R2", "R6")
def test_many_are_created_in_order(seed: Seed) -> None:
    """As few as before, as one arrival, whatever the number of slices."""
    made = seed.post(bulk()).json()
    assert (made["count"], made["first_qsequence"], len(made["uuids"])) == (COUNT, 1, COUNT)
    assert seed.visible == COUNT
    for number in (0, LARGE_ITEMS - 1, LARGE_ITEMS, COUNT - 1):
        task = seed.api.get(f"job_tasks/{made['uuids'][number]}")
        assert (task["qsequence"], task["parameters"]) == (number + 1, {"n": number})
    assert seed.api.get(f"jobs/{seed.job['uuid']}")["tasks_summary"]["todo"] == COUNT


@pytest.mark.rule("R2", "R8")
@pytest.mark.parametrize(
    ("last", "status", "words"),
    [
        ('{"parameters": {"n": NaN}}', 400, "not valid JSON"),
        ('{"parameters": "\udcff"}', 400, "not valid JSON"),
        ('{"parameters": 5}', 422, f"task {COUNT}: "),
        ('{"sequence": -1}', 422, f"task {COUNT}: "),
        ("[]", 422, f"job_tasks[{COUNT}] must be an object"),
        ('{"parameters": {"d": ' + "[" * 64 + "]" * 64 + "}}", 413, "nested"),
        ('{"runtime_constraints": {"min_nodes": 0.5}}', 422, f"task {COUNT}: "),
    ],
)
def test_a_mistake_at_the_end_undoes_all(seed: Seed, last: str, status: int, words: str) -> None:
    """Nothing is there, and what had been stored is swept soon."""
    body = bulk().decode()[:-2] + ", " + last + "]}"
    answer = seed.post(body.encode("utf-8", "surrogateescape"))
    assert answer.status_code == status, answer.text
    assert words in answer.json()["errors"][0]
    assert seed.visible == 0
    seed.wait_for_rows(0)


def send_and_go(seed: Seed, body: bytes, sent_bytes: int, more: str = "") -> None:
    """Send a create up to some byte of its body, and go away without waiting for an answer."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {seed.attempt.token}\r\n"
        f"{more}Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(seed.api.server.listener.getsockname()) as connection:
        connection.sendall(head.encode() + body[:sent_bytes])


@pytest.mark.rule("R2")
def test_a_body_that_breaks_off_creates_nothing(seed: Seed) -> None:
    """The client goes away in the middle of it."""
    body = bulk()
    send_and_go(seed, body, len(body) // 2)
    time.sleep(0.2)
    assert (seed.visible, seed.rows) == (0, 0)
    assert seed.post(body[:-2]).status_code == 400
    assert (seed.visible, seed.rows) == (0, 0)


@pytest.mark.rule("R22")
def test_a_client_that_goes_away_and_repeats_makes_one(seed: Seed) -> None:
    """It does not wait for the answer; its repeat gets it."""
    body = bulk()
    send_and_go(seed, body, len(body), "Idempotency-Key: k\r\n")
    made = seed.post(body, **{"Idempotency-Key": "k"}).json()
    assert made["count"] == COUNT
    assert seed.post(body, **{"Idempotency-Key": "k"}).json() == made
    seed.wait_for_rows(COUNT)
    assert seed.visible == COUNT


@pytest.mark.rule("R2")
def test_nobody_sees_a_part_while_others_are_served(seed: Seed) -> None:
    """Whoever looks sees none or all; small writes are answered in between."""
    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(seed.post, bulk(20 * LARGE_ITEMS))
        seen, created = set(), 0
        while not creating.done():
            seen.add(seed.visible)
            seed.api.job()
            created += not creating.done()
        assert creating.result().status_code == 200
    assert seen <= {0, 20 * LARGE_ITEMS}
    assert created > 3


@pytest.mark.rule("R32")
def test_a_cancel_in_the_middle(seed: Seed) -> None:
    """The attempt is over, so its create is; nothing is left."""
    with ThreadPoolExecutor(1) as pool:
        creating = pool.submit(seed.post, bulk(40 * LARGE_ITEMS))
        until = time.monotonic() + LIMIT_SECONDS
        while not seed.rows > LARGE_ITEMS and time.monotonic() < until:
            time.sleep(0.01)
        seed.api.http.post(f"/arvados/v1/jobs/{seed.job['uuid']}/cancel")
        assert creating.result().status_code == 403
    assert seed.visible == 0
    seed.wait_for_rows(0)


@pytest.mark.rule("R2")
def test_a_rehearsal_creates_nothing(seed: Seed) -> None:
    """It is answered as the create would be."""
    answer = seed.http.post(PATH, content=bulk(), params={"dry_run": "true"})
    assert answer.json()["count"] == COUNT
    assert (seed.visible, seed.rows) == (0, 0)


@pytest.mark.rule("R7b")
def test_the_manager_of_a_foreign_job_creates_many(api: Api) -> None:
    """In one transaction, as it names what our own creates do not."""
    job = api.job(state="Running")
    item = {"job_uuid": job["uuid"], "parameters": {}}
    answer = api.http.post(PATH, json={"job_tasks": [item] * COUNT})
    assert (answer.status_code, answer.json()["count"]) == (200, COUNT)


@pytest.mark.rule("R40")
def test_memory_is_that_of_a_slice() -> None:
    """To decode 100,000 tasks slice by slice takes what the body takes, and little more."""
    body = bulk(100_000)
    tracemalloc.start()
    items = large_items(body, SETTINGS)
    assert items is not None
    for first in range(0, len(items), LARGE_ITEMS):
        assert len(items.decoded(first, LARGE_ITEMS)) == LARGE_ITEMS
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000


def test_what_is_a_large_create() -> None:
    """A long list and nothing else; anything else is looked at in the general way."""
    assert large_items(bulk(LARGE_ITEMS), SETTINGS) is None
    assert len(large_items(bulk(LARGE_ITEMS + 1), SETTINGS) or ()) == LARGE_ITEMS + 1
    for body in (bulk()[:-1], bulk()[:-1] + b', "select": []}', b"[" * 100_000, b"{}" * 5000):
        assert large_items(body, SETTINGS) is None
    with pytest.raises(TooLarge):
        large_items(bulk(100_001), SETTINGS)


@pytest.mark.parametrize(
    ("item", "error"), [("1", Invalid), ('{"a": 01}', MalformedRequest), ("[[[[]]]]", Invalid)]
)
def test_items_are_checked_when_they_are_asked_for(item: str, error: type[RequestError]) -> None:
    """Not before: nothing of them is decoded then."""
    items = large_items(bulk(LARGE_ITEMS + 1, item), SETTINGS)
    if items is None:
        assert error is MalformedRequest, "it was noticed when the body was taken apart"
        return
    assert len(items.decoded(0, LARGE_ITEMS)) == LARGE_ITEMS
    with pytest.raises(error):
        items.decoded(LARGE_ITEMS, LARGE_ITEMS)
    assert isinstance(items, Items)
