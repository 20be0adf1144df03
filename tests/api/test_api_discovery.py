"""The discovery document: what clients of Arvados need in it, and that it says what is there."""

from __future__ import annotations

from typing import Any, cast

import httpx
import pytest
from starlette.routing import Route
from tests.api.conftest import Api

from jobtasks.api.app import routes_of
from jobtasks.api.discovery import describe
from jobtasks.api.edge import Edge
from jobtasks.api.meters import Meters
from jobtasks.core.resources import RESOURCES
from jobtasks.core.settings import Settings

DISCOVERY = "/discovery/v1/apis/arvados/v1/rest"
NEEDED = {
    *("auth", "basePath", "baseUrl", "batchPath", "blobSignatureTtl", "defaultTrashLifetime"),
    *("defaultCollectionReplication", "description", "discoveryVersion", "documentationLink"),
    *("generatedAt", "id", "kind", "maxItemsPerResponse", "maxRequestSize", "name", "parameters"),
    *("protocol", "resources", "revision", "rootUrl", "schemas", "servicePath", "source_version"),
    *("title", "uuidPrefix", "version"),
}
SAFE_TYPES = {"string", "integer", "boolean", "object", "array", "datetime", "text", "float"}
"""Types of parameters that the command `arv` can make options of."""
SYNONYMS = {"index": "list", "show": "get", "destroy": "delete"}


class _World:
    settings = Settings()


class _Edge:
    world = _World()
    meters = Meters()


def routes() -> list[Route]:
    return routes_of(cast(Edge, cast(Any, _Edge())))


PUBLISHED = describe(routes())
Method = dict[str, Any]


def methods(document: dict[str, Any] = PUBLISHED) -> list[tuple[str, str, Method]]:
    return [
        (resource, name, method)
        for resource, entry in document["resources"].items()
        for name, method in entry["methods"].items()
    ]


def get(api: Api, **headers: str) -> httpx.Response:
    with api.client(None) as nobody:
        return nobody.get(DISCOVERY, headers=headers)


@pytest.mark.rule("R41")
def test_case_9_141_142_144_the_document_is_public_and_has_what_clients_look_up(api: Api) -> None:
    """Every key that a client reads, fresh, without a token."""
    answer = get(api)
    assert answer.status_code == 200
    document = answer.json()
    assert document.keys() >= NEEDED
    assert document["kind"] == "discovery#restDescription"
    assert document["generatedAt"].endswith("Z")
    assert len(document["revision"]) == 8, "clients compare it as text"
    assert document["uuidPrefix"] == "zzzzz"
    assert document["resources"] == PUBLISHED["resources"]
    assert document["schemas"] == PUBLISHED["schemas"]


def test_old_clients_fetch_it_by_post(api: Api) -> None:
    """The client for Perl makes every GET a POST, this one too."""
    with api.client(None) as nobody:
        plain = nobody.post(DISCOVERY)
        overridden = nobody.post(DISCOVERY, data={"_method": "GET"})
    assert plain.json() == overridden.json() == get(api).json()


def test_it_may_be_kept_and_asked_for_again(api: Api) -> None:
    """Caches may hold it for an hour; then its tag tells whether it has changed."""
    first = get(api)
    assert first.headers["cache-control"] == "max-age=3600, public"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = get(api, **{"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b""), known
        assert again.headers["etag"] == tag
    assert get(api, **{"If-None-Match": '"other"'}).status_code == 200


def test_its_addresses_are_the_configured_ones_whatever_a_request_says(small: Api) -> None:
    """A request's Host would let a stranger lead clients, and their tokens, to his own server."""
    root = "https://jobs.example.org:7443/"
    small.server.edge.world.external_url = root.rstrip("/")
    document = get(small, Host="evil.example.org").json()
    assert document["rootUrl"] == root
    assert document["baseUrl"] == root + "arvados/v1/"
    assert document["rootUrl"] + document["servicePath"] == document["baseUrl"]
    assert "evil" not in str(document)


@pytest.mark.parametrize(
    ("resource", "name", "method"),
    methods(),
    ids=lambda value: value if str(value) == value else "",
)
def test_every_method_has_the_shape_that_clients_need(
    resource: str, name: str, method: Method
) -> None:
    """A response, even an unknown one; parameters with place and type; a wrapper for a record."""
    assert method["id"] == f"arvados.{resource}.{name}"
    assert "response" in method, "the Python client would hand out bytes"
    for reference in references(method):
        assert reference in PUBLISHED["schemas"]
    for parameter, row in method["parameters"].items():
        assert row["location"] == ("path" if f"{{{parameter}}}" in method["path"] else "query")
        assert row["type"] in SAFE_TYPES, parameter
        assert isinstance(row.get("default", ""), str), parameter
    if name in ("create", "update"):
        assert method["request"]["required"]
        assert list(method["request"]["properties"]) == [RESOURCES[resource].singular]


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for item in value.values() for found in references(item)]
    return []


def test_the_five_methods_have_their_old_and_new_names() -> None:
    """Scripts of all ages say list or index, get or show, delete or destroy."""
    tasks = PUBLISHED["resources"]["job_tasks"]["methods"]
    for old, new in SYNONYMS.items():
        described = {key: value for key, value in tasks[old].items() if key != "id"}
        assert described == {key: value for key, value in tasks[new].items() if key != "id"}
    assert tasks["list"]["parameters"]["filters"]["type"] == "array"
    assert tasks["list"]["parameters"]["limit"]["default"] == "100"
    assert tasks["update"]["httpMethod"] == "PUT"
    assert tasks["get"]["parameterOrder"] == ["uuid"]


def test_every_schema_is_one_that_clients_can_take() -> None:
    """Each but the lists has a resource, each array says of what, each has its name inside."""
    for name, schema in PUBLISHED["schemas"].items():
        assert schema["id"] == name
        for row in schema["properties"].values():
            assert row["type"] != "array" or "items" in row
        if not name.endswith("List"):
            plural = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)[1:] + "s"
            assert plural in PUBLISHED["resources"], "the client for Ruby would not start"


def test_what_answers_with_text_is_not_published() -> None:
    """Methods that answer with text, and addresses that are no collections, are left out."""
    names = {f"{resource}.{name}" for resource, name, _ in methods()}
    assert {"jobs.cancel", "jobs.retry", "job_tasks.attempts", "users.current"} <= names
    assert not names & {"jobs.output", "job_tasks.log", "users.delete"}
