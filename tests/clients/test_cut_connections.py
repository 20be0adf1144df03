"""Connections are cut, the real client repeats: each call has made one thing, never two (R22)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import arvados
import pytest
from tests.clients.conftest import BASE, NOWHERE, Client, Playing, Site
from tests.clients.cutting import Cutter, Moment

ROUNDS = 20
Make = Callable[[Client, int], Any]


@pytest.fixture
def cutter(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cutter]:
    """Between client and server; the client waits for nothing before it repeats."""
    place = urlsplit(site.served.url)
    assert place.hostname and place.port
    made = Cutter((place.hostname, place.port), site.host, site.ca.with_name("server.pem"))
    monkeypatch.setattr("random.random", lambda: 0.0)
    yield made
    made.close()


@pytest.fixture
def through(cutter: Cutter) -> Iterator[Callable[[str], Client]]:
    """Make clients that reach the server through the cutter."""
    made: list[Client] = []

    def connect(token: str) -> Client:
        api = arvados.api("v1", host=cutter.host, token=token, cache=False)
        made.append(api)
        return api

    yield connect
    for api in made:
        api.close_connections()


def make_job(api: Client, number: int) -> Any:
    body = {"command": ["true"], "runtime_constraints": NOWHERE}
    return api.jobs().create(body=body).execute()


def make_user(api: Client, number: int) -> Any:
    return api.users().create(body={"user": {"username": f"u{uuid4().hex}"}}).execute()


def make_token(api: Client, number: int) -> Any:
    return api.api_client_authorizations().create(body={"label": "cut"}).execute()


def make_log(api: Client, number: int) -> Any:
    return api.logs().create(body={"summary": "cut"}).execute()


def make_task(api: Client, number: int) -> Any:
    return api.job_tasks().create(body={"sequence": 3}).execute()


def make_tasks(api: Client, number: int) -> Any:
    return api.job_tasks().create(body={"job_tasks": [{}, {}, {}]}).execute()


def cut_every_call(
    cutter: Cutter, api: Client, resource: str, moment: Moment, make: Make
) -> list[Any]:
    """Make things while each call is cut once; return what the client was answered."""
    found = []
    for number in range(ROUNDS):
        cutter.arm(moment, f"{BASE}/{resource}")
        found.append(make(api, number))
    assert cutter.cuts == ROUNDS
    return found


def count_of(api: Client, resource: str) -> int:
    # Logs tell of everything that happens, too.
    filters = [["summary", "=", "cut"]] if resource == "logs" else []
    found: int = (
        getattr(api, resource)().list(limit=0, filters=filters).execute()["items_available"]
    )
    return found


@pytest.mark.rule("R22", "R37")
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize(
    ("resource", "make"),
    [
        ("jobs", make_job),
        ("users", make_user),
        ("api_client_authorizations", make_token),
        ("logs", make_log),
    ],
)
def test_what_people_create_is_made_once(
    site: Site,
    admin: Client,
    cutter: Cutter,
    through: Callable[[str], Client],
    resource: str,
    make: Make,
    moment: Moment,
) -> None:
    """Twenty calls, each cut once and repeated by the client: twenty records."""
    token = admin.api_client_authorizations().create(body={}).execute()["api_token"]
    before = count_of(admin, resource)
    found = cut_every_call(cutter, through(token), resource, moment, make)
    assert len({record["uuid"] for record in found}) == ROUNDS
    assert count_of(admin, resource) == before + ROUNDS
    if resource == "jobs":
        for job in found:
            admin.jobs().cancel(uuid=job["uuid"]).execute()
    if resource == "api_client_authorizations":
        for record in found:
            user = through(record["api_token"]).users().current().execute()
            assert user["uuid"] == record["owner_uuid"]


@pytest.mark.rule("R22", "R37")
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize(("make", "each"), [(make_task, 1), (make_tasks, 3)])
def test_what_a_task_creates_is_made_once(
    playing: Playing,
    cutter: Cutter,
    through: Callable[[str], Client],
    make: Make,
    each: int,
    moment: Moment,
) -> None:
    """One by one and many in a call."""
    api = through(playing.token)
    cut_every_call(cutter, api, "job_tasks", moment, make)
    assert count_of(api, "job_tasks") == 1 + ROUNDS * each


@pytest.mark.rule("R7b", "R22")
@pytest.mark.parametrize("moment", Moment)
def test_a_lock_and_a_retry_are_done_once(
    admin: Client, cutter: Cutter, through: Callable[[str], Client], moment: Moment
) -> None:
    """Their repeats are no second wish, which would be refused."""
    token = admin.api_client_authorizations().create(body={}).execute()["api_token"]
    api = through(token)
    for _ in range(ROUNDS // 2):
        job = make_job(api, 0)
        address = f"{BASE}/jobs/{job['uuid']}"
        api.jobs().cancel(uuid=job["uuid"]).execute()
        cutter.arm(moment, address + "/retry")
        assert api.jobs().retry(uuid=job["uuid"], body={}).execute()["state"] == "Queued"
        cutter.arm(moment, address + "/lock")
        assert api.jobs().lock(uuid=job["uuid"]).execute()["state"] == "Running"
        api.jobs().cancel(uuid=job["uuid"]).execute()
    assert cutter.cuts == ROUNDS
