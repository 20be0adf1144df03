"""/openapi.json describes what there is, and what there is keeps to it, whatever is sent."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, cast

import httpx
import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from schemathesis.pytest.lazy import get_all_tests
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route
from tests.api.conftest import ADMIN, Api, LiveServer
from tests.rounds import IS_TORTURE

from jobtasks.api.app import routes_of
from jobtasks.api.edge import Edge
from jobtasks.api.meters import Meters
from jobtasks.api.openapi import describe
from jobtasks.core.settings import Settings

BASE = "/arvados/v1"
CASES = 500 if IS_TORTURE else 24
"""Generated requests per operation: the same ones in every run of the same version, others under
torture."""
load_all_checks()


class _World:
    settings = Settings()


class _Edge:
    world = _World()
    meters = Meters()


def routes() -> list[Route]:
    return routes_of(cast(Edge, cast(Any, _Edge())))


DOCUMENT = describe(routes())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
CALLS = [
    (method.upper(), path)
    for path, item in DOCUMENT["paths"].items()
    for method in item
    if not path.startswith("/agent/")
]


def test_every_route_is_described_and_nothing_else(api: Api) -> None:
    """Each address with each of its methods, as the running server gives it, without a token."""
    with api.client(None) as nobody:
        given = nobody.get("/openapi.json").json()
    described = {(method.upper(), path) for path, item in given["paths"].items() for method in item}
    there = {
        (method, route.path)
        for route in routes()
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert described == there
    names = [operation["operationId"] for operation in operations(given)]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for operation in operations(given))


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for item in document["paths"].values() for operation in item.values()]


def test_every_schema_is_one() -> None:
    """A JSON schema of the draft that OpenAPI 3.1 uses; references lead somewhere."""
    assert DOCUMENT["openapi"] == "3.1.0"
    schemas = DOCUMENT["components"]["schemas"]
    for schema in schemas.values():
        jsonschema_rs.meta.validate(schema)
    text = str(DOCUMENT)
    for part in text.split("'#/components/schemas/")[1:]:
        assert part.split("'")[0] in schemas


@pytest.mark.parametrize("path", ["job_tasks/{uuid}/attempts", "jobs/{uuid}/attempts"])
def test_attempts_are_described_as_they_are(targets: Targets, path: str) -> None:
    """Each property, whatever generated requests come upon."""
    operation = DOCUMENT["paths"][f"{BASE}/{path}"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    uuid = targets.attempt.task if path.startswith("job_tasks") else targets.running["uuid"]
    (item,) = targets.api.get(path.format(uuid=uuid))["items"]
    assert item.keys() == schema["properties"]["items"]["items"]["properties"].keys()


class Targets:
    """What generated requests are about: things that exist, as long as they exist."""

    def __init__(self, api: Api) -> None:
        self.api = api
        # One connection for all: half of a request's time was to make a new one.
        self.session = requests.Session()
        self.session.trust_env = False
        self.turn = itertools.count()
        self.answers: dict[str, Counter[int]] = defaultdict(Counter)
        """How often each operation was answered with which status."""
        self.node = api.node(slots=2)
        self.spare = api.node(slots=1)
        self.running = api.job()
        self.attempt = self.node.next_assignment()
        place = f"{BASE}/jobs/{self.running['uuid']}/attachment"
        assert api.http.put(place, content=b"x").status_code == 200
        self.queued = ""
        user = {"user": {"username": "fuzzed", "email": "fuzzed@example.com"}}
        answer = api.http.post(f"{BASE}/users", json=user)
        assert answer.status_code == 200, answer.text
        self.user = answer.json()["uuid"]

    def uuid(self, method: str, path: str) -> str:
        """Return something that the address may be about."""
        if path == f"{BASE}/job_tasks/{{uuid}}" and method == "DELETE":
            headers = {"Authorization": f"Bearer {self.attempt.token}"}
            child = self.api.http.post(f"{BASE}/job_tasks", json={}, headers=headers)
            return str(child.json()["uuid"])
        if path.startswith(f"{BASE}/job_tasks"):
            return self.attempt.task
        if path.startswith(f"{BASE}/users"):
            return str(self.user)
        if path.startswith(f"{BASE}/api_client"):
            return str(self.api.http.post(f"{BASE}/api_client_authorizations").json()["uuid"])
        if path.startswith(f"{BASE}/nodes") and method == "DELETE":
            return self.gone_node()
        if not path.startswith(f"{BASE}/jobs"):
            return self.any_of(path.partition("/{uuid}")[0])
        if next(self.turn) % 3 == 0:
            return str(self.running["uuid"])
        # A fresh one where it matters: what was sent to the last one may have started it.
        if not self.queued or method == "DELETE" or path.endswith(("/retry", "/cancel")):
            large = {"min_ram_per_node": 10**12}
            self.queued = str(self.api.job(runtime_constraints=large)["uuid"])
        if path.endswith("/retry"):
            self.api.http.post(f"{BASE}/jobs/{self.queued}/cancel")
        return self.queued

    def gone_node(self) -> str:
        """Return a node that nobody needs any more."""
        self.spare.joined, self.spare.number = self.spare.join(1000), 0
        self.spare.sync(leaving=True)
        gone = self.api.get("nodes", filters='[["state","=","gone"]]', limit=1)["items"]
        return str(gone[0]["uuid"])

    def any_of(self, collection: str) -> str:
        """Return the first of a collection that nothing more is known of here."""
        items = self.api.http.get(collection, params={"limit": 1}).json()["items"]
        return str(items[0]["uuid"]) if items else "none"

    def token(self) -> str:
        """Return a token that may do something: the administrator's or the attempt's."""
        return self.attempt.token if next(self.turn) % 3 == 1 else ADMIN


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Targets]:
    live = LiveServer(
        tmp_path_factory.mktemp("fuzzed"),
        # The attempt lives for all of it, however long a busy machine takes: minutes, or many.
        Settings(wait_seconds_max=0.02, lease_seconds=86_400.0, tick_seconds=0.2),
    )
    api = Api(live)
    found = Targets(api)
    yield found
    found.session.close()
    api.close()
    live.close()


@settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    derandomize=not IS_TORTURE,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def keeps_to_the_description(case: schemathesis.Case[Any], targets: Targets) -> None:
    if "uuid" in case.path_parameters and next(targets.turn) % 4:
        case.path_parameters["uuid"] = targets.uuid(case.method, case.path)
    headers = {"Authorization": f"Bearer {targets.token()}"}
    if case.path == f"{BASE}/events":
        case.query["wait"] = 0  # it would go on for ever
    url, session = targets.api.server.url, targets.session
    response = case.call(base_url=url, session=session, headers=headers, timeout=30)
    targets.answers[case.operation.label][response.status_code] += 1
    assert response.status_code < 500, response.text
    case.validate_response(
        response,
        checks=[
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
        ],
    )


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_answers_keep_to_the_description(method: str, path: str, targets: Targets) -> None:
    """No 5xx, no undocumented status or type, no answer that breaks its schema.

    The requests are made up here: to do so for all operations takes seconds, which else each
    process that collects this module would spend.
    """
    schema = SCHEMA.include(method=method, path=path)
    (made,) = get_all_tests(
        schema=schema, test_func=keeps_to_the_description, settings=None, given_kwargs=None
    )
    assert isinstance(made, Ok)
    _, check = made.ok()
    check(targets=targets)


def test_the_server_has_not_suffered(targets: Targets) -> None:
    """After all of that it serves, and the attempt still runs; and it was not only refused."""
    for label, statuses in targets.answers.items():
        assert statuses[200], (label, statuses)
        method, path = label.split()
        operation = DOCUMENT["paths"][path][method.lower()]
        if operation["parameters"] or "requestBody" in operation:
            assert statuses.total() >= CASES, (label, statuses)
    alive = httpx.get(targets.api.server.url + "/healthz")
    assert alive.json() == {"health": "OK"}
    orders = targets.node.sync()
    assert targets.attempt.attempt not in [stop.attempt for stop in orders.stop]
