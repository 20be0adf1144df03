"""Who may do what: every role, every operation, on what is theirs, on others', on nothing at all.

Each cell is one real request. What a role may not do leaves no trace, and that is looked at, too. A
route that has no row here fails the last test of this module.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import pytest
from starlette.routing import Route

from jobtasks.api.app import make_app
from jobtasks.protocol.messages import VERSION, Assignment, Ended, EndKind, Join, LogChunks, Sync

BASE = "/arvados/v1"
ROLES = (
    "admin",
    "user",
    "read only",
    "inactive",
    "agent",
    "attempt",
    "dead attempt",
    "no token",
    "unknown token",
    "expired token",
    "revoked token",
)
WHOSE = ("own", "other", "none")
"""For an attempt `other` is another job of the same user, and its user and token another's."""
Cell = int | str
"""A status; of a list ``seen`` or ``unseen``: 200, with the target in it or not."""
Row = Mapping[str, tuple[Cell, Cell, Cell]]


@dataclass
class Target:
    """What a cell's request is about: a running job of one user, with names of its parts."""

    job: str = "zzzzz-8i9sb-nobodysjobnobod"
    task: str = "zzzzz-ot0gb-nobodystasknobo"
    child: str = "zzzzz-ot0gb-nobodyschildnob"
    user: str = "zzzzz-tpzed-nobodyatallnobo"
    token: str = "zzzzz-gj3su-nobodystokennob"
    node: str = "zzzzz-7ekkf-nobodysnodenobo"
    log: str = "zzzzz-57u5n-nobodyslogentry"
    hash: str = "0" * 64
    spoken: str = ""
    """The secret of the attempt that runs the task."""


@dataclass(frozen=True)
class Operation:
    """One row: a request, and what each role gets."""

    call: str
    """``METHOD /path`` as the route has it, except that the UUID says of what."""
    row: Row
    body: Callable[[Target], Any] | None = None
    query: Callable[[Target], dict[str, str]] = field(default=lambda target: {})

    @property
    def method(self) -> str:
        return self.call.split()[0]

    def path(self, target: Target) -> str:
        return self.call.split()[1].format(**vars(target))

    @property
    def route(self) -> str:
        """The row's place in the table of routes."""
        call = self.call
        for name in ("job", "task", "child", "user", "token", "node", "log"):
            call = call.replace(f"{{{name}}}", "{uuid}")
        return call


def row(default: tuple[Cell, Cell, Cell], **roles: tuple[Cell, Cell, Cell]) -> Row:
    """Return what every role gets: `default` unless named; names have ``_`` for a space."""
    cells: dict[str, tuple[Cell, Cell, Cell]] = dict.fromkeys(ROLES, default)
    cells["dead attempt"] = (403, 403, 403)
    for role in ("no token", "unknown token", "expired token", "revoked token"):
        cells[role] = (401, 401, 401)
    return cells | {name.replace("_", " "): cell for name, cell in roles.items()}


def alike(cell: Cell) -> tuple[Cell, Cell, Cell]:
    return cell, cell, cell


HIDDEN = alike(404)
DENIED = alike(403)
MINE = (200, 404, 404)
UNSEEN = alike("unseen")
AFTER_SCOPES: dict[str, Any] = {"read_only": DENIED, "inactive": DENIED}
"""Writes by those who may only read."""


def reads(**roles: tuple[Cell, Cell, Cell]) -> Row:
    return row(MINE, **{"admin": (200, 200, 404), "agent": HIDDEN, **roles})


def lists(**roles: tuple[Cell, Cell, Cell]) -> Row:
    cells = row(("seen", "unseen", "unseen"), admin=("seen", "seen", "unseen"), agent=UNSEEN)
    return {**cells, **{name.replace("_", " "): cell for name, cell in roles.items()}}


def job_changes(allowed: Cell = 200) -> Row:
    """A job is changed by its owner and by administrators, never by an attempt (R17)."""
    return row(
        (allowed, 404, 404),
        admin=(allowed, allowed, 404),
        agent=HIDDEN,
        attempt=(403, 404, 404),
        **AFTER_SCOPES,
    )


def named(attribute: str) -> Callable[[Target], dict[str, str]]:
    def query(target: Target) -> dict[str, str]:
        return {"filters": json.dumps([["uuid", "=", vars(target)[attribute]]])}

    return query


def task_writes(own: Cell) -> Row:
    """A task of a started job is written by its attempt alone (R7)."""
    return row(
        (403, 404, 404),
        admin=(403, 403, 404),
        agent=HIDDEN,
        attempt=(own, 404, 404),
        **AFTER_SCOPES,
    )


CREATES_TASKS = row(
    (403, 422, 422),
    admin=(403, 403, 422),
    agent=alike(422),
    attempt=(200, 422, 422),
    **AFTER_SCOPES,
)
ADMIN_CHANGES = row((403, 404, 404), admin=(200, 200, 404), agent=HIDDEN, **AFTER_SCOPES)
READS_NODES = row((200, 200, 404), agent=HIDDEN, attempt=HIDDEN)
"""Nodes belong to nobody: all people see them, administrators steer them."""


def steers_nodes(allowed: Cell = 200) -> Row:
    return row(
        (403, 403, 404),
        admin=(allowed, allowed, 404),
        agent=HIDDEN,
        attempt=HIDDEN,
        **AFTER_SCOPES,
    )


FOR_AGENTS = row(DENIED, agent=alike(200))
ONLY_PEOPLE = row(alike(200), agent=DENIED, attempt=DENIED, **AFTER_SCOPES)


def username(target: Target) -> dict[str, str]:
    return {"username": "u" + secrets.token_hex(6)}


def join(target: Target) -> bytes:
    message = Join(VERSION, "guest", "h", secrets.token_hex(4), 1, 1, 1, 1)
    return msgspec.msgpack.encode(message)


def constraint_of_nobody(target: Target) -> dict[str, Any]:
    """A job that no node can run, so that it stays queued."""
    return {"command": ["true"], "runtime_constraints": {"min_ram_per_node": 2**40}}


OPERATIONS = [
    Operation("GET /arvados/v1/jobs", lists(), query=named("job")),
    Operation("POST /arvados/v1/jobs", ONLY_PEOPLE, constraint_of_nobody),
    Operation("GET /arvados/v1/jobs/{job}", reads()),
    Operation("PUT /arvados/v1/jobs/{job}", job_changes(), lambda t: {"description": "x"}),
    Operation("PATCH /arvados/v1/jobs/{job}", job_changes(), lambda t: {"priority": 1}),
    Operation("DELETE /arvados/v1/jobs/{job}", job_changes(422)),
    Operation("GET /arvados/v1/jobs/queue", row(UNSEEN), query=named("job")),
    Operation("GET /arvados/v1/jobs/queue_size", row(alike(200), agent=DENIED, attempt=DENIED)),
    Operation("POST /arvados/v1/jobs/{job}/lock", job_changes(422), lambda t: {}),
    Operation("POST /arvados/v1/jobs/{job}/cancel", job_changes(), lambda t: {}),
    Operation("POST /arvados/v1/jobs/{job}/retry", job_changes(422), lambda t: {}),
    Operation("GET /arvados/v1/jobs/{job}/output", reads()),
    Operation("GET /arvados/v1/jobs/{job}/levels", reads()),
    Operation("GET /arvados/v1/jobs/{job}/explain", reads()),
    Operation("PUT /arvados/v1/jobs/{job}/attachment", job_changes(), lambda t: b"x"),
    Operation("GET /arvados/v1/jobs/{job}/attachment", reads()),
    Operation("GET /arvados/v1/jobs/{job}/logs", reads()),
    Operation("GET /arvados/v1/jobs/{job}/attempts", reads()),
    Operation("GET /arvados/v1/jobs/{job}/families", reads()),
    Operation("GET /arvados/v1/jobs/{job}/timeline", reads()),
    Operation("GET /arvados/v1/jobs/{job}/tree", reads()),
    Operation("GET /arvados/v1/job_tasks", lists(), query=named("task")),
    Operation("POST /arvados/v1/job_tasks", CREATES_TASKS, lambda t: {"job_uuid": t.job}),
    Operation("GET /arvados/v1/job_tasks/{task}", reads()),
    Operation("PUT /arvados/v1/job_tasks/{task}", task_writes(200), lambda t: {"progress": 0.5}),
    Operation("PATCH /arvados/v1/job_tasks/{task}", task_writes(200), lambda t: {"output": "x"}),
    Operation("PATCH /arvados/v1/job_tasks/{child}", task_writes(403), lambda t: {"output": "x"}),
    Operation("DELETE /arvados/v1/job_tasks/{child}", task_writes(200)),
    Operation("DELETE /arvados/v1/job_tasks/{task}", task_writes(403)),
    Operation("GET /arvados/v1/job_tasks/{task}/attempts", reads()),
    Operation("GET /arvados/v1/job_tasks/{task}/explain", reads()),
    Operation("GET /arvados/v1/job_tasks/{task}/log", reads()),
    Operation("GET /arvados/v1/users", lists(), query=named("user")),
    Operation("POST /arvados/v1/users", row(DENIED, admin=alike(200)), username),
    Operation("GET /arvados/v1/users/current", row(alike(200), agent=DENIED)),
    Operation("GET /arvados/v1/users/{user}", reads()),
    Operation("PUT /arvados/v1/users/{user}", ADMIN_CHANGES, lambda t: {"last_name": "x"}),
    Operation("PATCH /arvados/v1/users/{user}", ADMIN_CHANGES, lambda t: {"email": "x@y"}),
    Operation(
        "GET /arvados/v1/api_client_authorizations", lists(attempt=UNSEEN), query=named("token")
    ),
    Operation(
        "POST /arvados/v1/api_client_authorizations",
        row((200, 403, 403), admin=(200, 200, 422), agent=DENIED, attempt=DENIED, **AFTER_SCOPES),
        lambda t: {"owner_uuid": t.user, "scopes": ["GET /"]},
    ),
    Operation("GET /arvados/v1/api_client_authorizations/current", row(alike(200))),
    Operation("GET /arvados/v1/api_client_authorizations/{token}", reads(attempt=HIDDEN)),
    Operation(
        "DELETE /arvados/v1/api_client_authorizations/{token}",
        row(MINE, admin=(200, 200, 404), agent=HIDDEN, attempt=HIDDEN, **AFTER_SCOPES),
    ),
    Operation(
        "GET /arvados/v1/nodes",
        row(("seen", "seen", "unseen"), agent=UNSEEN, attempt=UNSEEN),
        query=named("node"),
    ),
    Operation("GET /arvados/v1/nodes/{node}", READS_NODES),
    Operation("GET /arvados/v1/nodes/{node}/attempts", READS_NODES),
    Operation("GET /arvados/v1/nodes/{node}/usage", READS_NODES),
    Operation("POST /arvados/v1/nodes/{node}/hold", steers_nodes(), lambda t: {"seconds": 9}),
    Operation("POST /arvados/v1/nodes/{node}/drain", steers_nodes(), lambda t: {"reason": "x"}),
    Operation("POST /arvados/v1/nodes/{node}/release", steers_nodes(), lambda t: {}),
    Operation("DELETE /arvados/v1/nodes/{node}", steers_nodes(422)),
    Operation("GET /arvados/v1/logs", lists(), query=named("log")),
    Operation(
        "POST /arvados/v1/logs",
        row(alike(200), agent=DENIED, attempt=(200, 403, 403), **AFTER_SCOPES),
        lambda t: {"object_uuid": t.job, "event_type": "note"},
    ),
    Operation("GET /arvados/v1/logs/{log}", reads()),
    Operation(
        "GET /arvados/v1/events",
        row(alike(200), agent=DENIED),
        query=lambda t: {"wait": "0", "cursor": "0"},
    ),
    Operation("POST /agent/v1/join", FOR_AGENTS, join),
    Operation(
        "POST /agent/v1/sync", FOR_AGENTS, lambda t: msgspec.msgpack.encode(Sync(999_999, 1))
    ),
    Operation(
        "POST /agent/v1/logs", FOR_AGENTS, lambda t: msgspec.msgpack.encode(LogChunks(999_999, []))
    ),
    Operation("GET /agent/v1/scripts/{hash}", row(DENIED, agent=HIDDEN)),
    Operation("GET /arvados/v1/jobs/{job}/sizes", reads()),
    Operation("GET /arvados/v1/jobs/{job}/export", row(DENIED, admin=(422, 422, 404))),
    Operation("POST /arvados/v1/jobs/import", row(DENIED, admin=alike(422)), lambda t: b"x"),
    Operation("GET /arvados/v1/sys/sizes", row(DENIED, admin=alike(200))),
    Operation("GET /arvados/v1/sys/engine", row(DENIED, admin=alike(200))),
    Operation(
        "POST /arvados/v1/sys/gc", row(DENIED, admin=alike(200)), lambda t: {"dry_run": True}
    ),
    Operation("GET /metrics", row(DENIED, admin=alike(200))),
    Operation("GET /healthz", dict.fromkeys(ROLES, alike(200))),
    Operation("GET /openapi.json", dict.fromkeys(ROLES, alike(200))),
    Operation("GET /discovery/v1/apis/arvados/v1/rest", dict.fromkeys(ROLES, alike(200))),
    Operation("POST /discovery/v1/apis/arvados/v1/rest", dict.fromkeys(ROLES, alike(200))),
]


class World:
    """A server with people, their jobs and their tokens."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.server = api.server
        self._opened: list[httpx.Client] = []
        self.node = self.api.node(slots=1000)
        # Another one to be held and drained: the first is to go on.
        idle = self.api.node(slots=1)
        self.steered = api.get("nodes", filters='[["slots","=",1]]')["items"][0]["uuid"]
        assert idle.running == {}
        root = self.api.get("users/current")["uuid"]
        self.people = {name: self.person(name) for name in ("user", "other", "inactive")}
        self.people["admin"] = (root, self.api.http)
        self.secrets = self._secrets()
        self.clients = {role: self.client(secret) for role, secret in self.secrets.items()}
        self.targets = {name: self.target(name) for name in self.people}
        self.targets["sibling"] = self.target("user")
        self.targets["dead attempt"] = self._dead()
        self.clients["attempt"] = self.client(self.targets["user"].spoken)
        self.clients["dead attempt"] = self.client(self.targets["dead attempt"].spoken)
        inactive = self.people["inactive"][0]
        self.post(self.api.http, "patch", f"users/{inactive}", {"is_active": False})

    def client(self, secret: str | None) -> httpx.Client:
        """Return a client that is closed with the world."""
        client: httpx.Client = self.api.client(secret)
        self._opened.append(client)
        return client

    def person(self, name: str) -> tuple[str, httpx.Client]:
        user = self.post(self.api.http, "post", "users", {"username": name})["uuid"]
        return user, self.client(self.new_token(user)["api_token"])

    def new_token(self, user: str, **more: Any) -> dict[str, Any]:
        body = {"owner_uuid": user, **more}
        return self.post(self.api.http, "post", "api_client_authorizations", body)

    def _secrets(self) -> dict[str, str | None]:
        user = self.people["user"][0]
        gone = self.new_token(user)
        self.post(self.api.http, "delete", f"api_client_authorizations/{gone['uuid']}", None)
        late = self.new_token(user, expires_at="2999-01-01T00:00:00Z")
        self.server.store.write(
            lambda tx: tx.text(
                "UPDATE token SET expires_at = 1 WHERE uuid = :uuid", {"uuid": late["uuid"]}
            )
        ).result(10)
        return {
            "admin": secret_of(self.api.http),
            "user": secret_of(self.people["user"][1]),
            "read only": self.new_token(user, scopes=["GET /"])["api_token"],
            "inactive": secret_of(self.people["inactive"][1]),
            "agent": secret_of(self.node.client),
            "no token": None,
            "unknown token": "u" + "0" * 49,
            "expired token": late["api_token"],
            "revoked token": gone["api_token"],
        }

    def post(self, client: httpx.Client, method: str, path: str, body: Any) -> dict[str, Any]:
        answer = client.request(method, f"{BASE}/{path}", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def target(self, name: str) -> Target:
        """Return a new running job of somebody, whose first task has created another."""
        user, client = self.people[name]
        job = self.post(client, "post", "jobs", {"command": ["true"]})["uuid"]
        assert client.put(f"{BASE}/jobs/{job}/attachment", content=b"x").status_code == 200
        assignment = self._assigned(job)
        self.node.push_log(assignment.attempt, b"")
        child = self.post(self.api.as_attempt(assignment), "post", "job_tasks", {})["uuid"]
        token = self.new_token(user)["uuid"]
        log = self.api.get("logs", filters=json.dumps([["object_uuid", "=", job]]))["items"][0]
        names = (job, assignment.task, child, user, token, self.steered, log["uuid"])
        return Target(*names, spoken=assignment.token)

    def _assigned(self, job: str) -> Assignment:
        seen: list[str] = []
        for _ in range(50):
            assignment: Assignment = self.node.next_assignment()
            if assignment.job == job:
                return assignment
            seen.append(assignment.job)
        raise AssertionError(f"{job} was not started, but {seen}")

    def _dead(self) -> Target:
        """Return a job of the user whose first attempt has ended without a verdict."""
        target = self.target("user")
        attempt = next(
            number for number, given in self.node.running.items() if given.token == target.spoken
        )
        self.node.sync(Ended(attempt, EndKind.EXIT, signal=9))
        return target

    def about(self, role: str, whose: str) -> Target:
        """Return what a cell's request is about."""
        if whose == "none":
            return Target()
        if role == "attempt" and whose == "other":
            other, sibling = self.targets["other"], self.targets["sibling"]
            return dataclasses.replace(sibling, user=other.user, token=other.token, spoken="")
        if whose == "other":
            return self.targets["other"]
        return self.targets[role if role in self.targets else "user"]

    def snapshot(self) -> list[Any]:
        """Return everything that a refused request might have changed."""
        tables: list[Any] = self.server.store.read(
            lambda tx: [tx.text(f"SELECT {what} ORDER BY 1, 2", {}) for what in KEPT]
        )
        return tables

    def close(self) -> None:
        for client in self._opened:
            client.close()


KEPT = (
    *(f"* FROM {name}" for name in ("visible_job", "visible_task", "user", "node", "idempotency")),
    "id, hash, role, user_uuid, scopes, expires_at, revoked_at FROM token",
)
"""What is compared; rows of things deleted before go when the manager likes."""


def secret_of(client: httpx.Client) -> str:
    return client.headers["Authorization"].split()[1]


@pytest.fixture(scope="module")
def world(lasting: Any) -> Iterator[World]:
    """People, their jobs and tokens; cells that change something get a target of their own."""
    world = World(lasting)
    yield world
    world.close()


def send(client: httpx.Client, operation: Operation, target: Target) -> httpx.Response:
    body = operation.body(target) if operation.body else None
    content = body if isinstance(body, bytes) else json.dumps(body) if body is not None else None
    return client.request(
        operation.method, operation.path(target), content=content, params=operation.query(target)
    )


def outcome(operation: Operation, answer: httpx.Response, expected: Cell) -> Cell:
    if answer.status_code == 200 and isinstance(expected, str):
        return "seen" if answer.json()["items"] else "unseen"
    return answer.status_code


def fresh(world: World, role: str, whose: str) -> tuple[httpx.Client, Target]:
    """Return a client and a target of its own for a cell that changes something."""
    if role == "attempt":
        target = world.target("user")
        return world.client(target.spoken), target
    name = "other" if whose == "other" else role
    return world.clients[role], world.target(name)


@pytest.mark.rule("R7", "R17", "R32")
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.call)
def test_a_row_of_the_matrix(world: World, operation: Operation) -> None:
    """Each role gets what the table says, of its own and of others; a refusal changes nothing."""
    wrong = {}
    for role in ROLES:
        for whose in WHOSE:
            try:
                try_cell(world, operation, role, whose)
            except AssertionError as error:
                wrong[f"{role} {whose}"] = str(error)
    assert wrong == {}


def try_cell(world: World, operation: Operation, role: str, whose: str) -> None:
    """Send one request, and check what came of it."""
    expected = operation.row[role][WHOSE.index(whose)]
    changes = expected == 200 and operation.method != "GET" and whose != "none"
    if changes and "{" in operation.call:
        client, target = fresh(world, role, whose)
        answer = send(client, operation, target)
    else:
        target = world.about(role, whose)
        before = [] if expected == 200 else world.snapshot()
        answer = send(world.clients[role], operation, target)
        if expected != 200:
            assert world.snapshot() == before, "it was refused and left a trace"
    assert outcome(operation, answer, expected) == expected, answer.text
    if answer.status_code in (401, 403, 404, 422):
        assert answer.json()["errors"], "a refusal says why"


@pytest.mark.rule("R32")
@pytest.mark.parametrize("operation", OPERATIONS[:-4], ids=lambda operation: operation.call)
def test_a_scope_allows_its_call_and_nothing_else(world: World, operation: Operation) -> None:
    """The exact call: as without scopes. All others: 403, except a look at the token itself."""
    is_changing = operation.method != "GET" and "{" in operation.call
    target = world.target("user") if is_changing else world.targets["user"]
    call = f"{operation.method} {operation.path(target)}"
    others = {f"{other.method} {other.path(target)}" for other in OPERATIONS} - {call}
    statuses = []
    for scopes in ([], sorted(others), [call]):
        secret = world.new_token(world.people["user"][0], scopes=scopes)["api_token"]
        statuses.append(send(world.client(secret), operation, target).status_code)
    full = operation.row["user"][0]
    if operation.call == f"POST {BASE}/api_client_authorizations":
        full = 403  # It may create tokens, but none that may read: it may not read itself.
    is_current = operation.call == f"GET {BASE}/api_client_authorizations/current"
    assert statuses[:2] == ([200, 200] if is_current else [403, 403])
    assert statuses[2] == (full if isinstance(full, int) else 200)


READABLE = [found for found in OPERATIONS if found.row["read only"][0] in (200, "seen")]


@pytest.mark.rule("R32")
@pytest.mark.parametrize("operation", READABLE, ids=lambda operation: operation.call)
def test_head_is_a_read(world: World, operation: Operation) -> None:
    """A token that may only read may also send HEAD; the answer has no body."""
    target = world.targets["user"]
    for role, expected in (("read only", {200}), ("no token", {200, 401})):
        answer = world.clients[role].head(operation.path(target))
        assert (answer.status_code in expected, answer.content) == (True, b"")


def test_every_route_has_a_row(world: World) -> None:
    """A route that nobody has thought about fails here; so does a row of a route that went."""
    app: Any = make_app(world.server.edge)
    while not hasattr(app, "routes"):
        app = app._app
    routes = {
        f"{method} {route.path}"
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routes == {operation.route for operation in OPERATIONS}
