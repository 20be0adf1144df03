"""A real server over https, and the real clients of Arvados; a node is played.

What the clients' authors wrote is trusted to be what users have: nothing of it is replaced. Its
requests are watched on their way to the library that sends them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import arvados
import httpx
import pytest
from tests.api.conftest import Node
from tests.system.conftest import QUICK, Served

BASE = "/arvados/v1"
Client = Any
"""The clients make their methods at run time: nothing can be said of their types."""
Record = dict[str, Any]
NOWHERE = {"min_ram_per_node": 10**12}
"""Constraints of a job that no node runs."""
LASTING = {**QUICK, "lease_seconds": 600.0}
"""The played node is not heard between tests."""


class Site:
    """A server as the clients see it."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.url = (served.state / "url.https").read_text().strip()
        self.host = self.url.removeprefix("https://")
        self.ca = served.state / "tls" / "ca.pem"
        self.admin = (served.state / "admin.token").read_text().strip()
        self.agent = (served.state / "agent.token").read_text().strip()

    def http(self, token: str | None = None) -> httpx.Client:
        """Return a client for hand-made requests; to be closed."""
        headers = {"Authorization": f"OAuth2 {token}"} if token else {}
        # It is plain http; to read the system's authorities takes longer than most calls.
        return httpx.Client(base_url=self.served.url, headers=headers, timeout=60, verify=False)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all tests of the clients; this process trusts it."""
    folder = tmp_path_factory.mktemp("site")
    options = ("--no-agent", "--listen-tls", "127.0.0.1:0")
    served = Served(folder / "state", *options, stderr=folder / "stderr", settings=LASTING)
    assert served.url
    found = Site(served)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(found.ca))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        yield found
    code, _, err = served.end()
    assert code == 0
    assert "Traceback" not in err, err


Connect = Callable[..., Client]


@pytest.fixture
def connect(site: Site) -> Iterator[Connect]:
    """Make clients as programs do; their connections are closed afterwards."""
    made: list[Client] = []

    def make(token: str | None = None, **options: Any) -> Client:
        api = arvados.api("v1", host=site.host, token=token or site.admin, cache=False, **options)
        made.append(api)
        return api

    yield make
    for api in made:
        api.close_connections()


@pytest.fixture
def admin(connect: Connect) -> Client:
    """The client with the administrator's token."""
    return connect()


@pytest.fixture
def http(site: Site) -> Iterator[httpx.Client]:
    """The administrator's hand-made requests."""
    with site.http(site.admin) as client:
        yield client


class Playing:
    """A running attempt, played: its task, and a client with its token."""

    def __init__(self, connect: Connect, node: Node, admin: Client) -> None:
        self.job: Record = admin.jobs().create(body={"command": ["true"]}).execute()
        given = node.next_assignment()
        assert given.job == self.job["uuid"], "another test left a job behind"
        self.uuid = given.task
        self.attempt = given.attempt
        self.token = given.token
        self.api = connect(given.token)

    def tasks(self) -> Client:
        return self.api.job_tasks()

    def child(self, **attributes: Any) -> Record:
        """Create a task through the client."""
        found: Record = self.tasks().create(body=attributes).execute()
        return found


@pytest.fixture
def node(site: Site) -> Iterator[Node]:
    """A node of the test's own."""
    played = Node(site.served.url, token=site.agent)
    yield played
    played.close()


@pytest.fixture
def playing(connect: Connect, node: Node, admin: Client) -> Iterator[Playing]:
    """A job whose first task runs."""
    attempt = Playing(connect, node, admin)
    yield attempt
    admin.jobs().cancel(uuid=attempt.job["uuid"]).execute()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Record]]:
    """Method, address and headers of each request that the library sends from now on."""
    import httplib2

    seen: list[tuple[str, str, Record]] = []
    request = httplib2.Http._conn_request

    def watched(self: Any, conn: Any, uri: str, method: str, body: Any, headers: Record) -> Any:
        seen.append((method, uri, dict(headers)))
        return request(self, conn, uri, method, body, headers)

    monkeypatch.setattr(httplib2.Http, "_conn_request", watched)
    return seen


def names_in(answer: Record, name: str = "uuid") -> list[Any]:
    """Return one attribute of each item of a list."""
    return [item[name] for item in answer["items"]]


def text_of(error: arvados.errors.ApiError) -> str:
    """Return what the server said."""
    return "; ".join(json.loads(error.content)["errors"])
