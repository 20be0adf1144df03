"""Who comes in, with what, how far, and who is turned away: the pages as another sees them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from starlette.requests import Request
from starlette.routing import Route
from tests.api.conftest import ADMIN, AGENT, FAST, Api, LiveServer, plain_client
from tests.system.conftest import Served, wait_until
from tests.web.conftest import session
from tests.web.crawl import Looked, Walk, walk
from tests.web.scene import BASE, Person, Scene, new_token, sent

from jobtasks.api.app import routes_of
from jobtasks.service import sessions, setup
from jobtasks.web import protection
from jobtasks.web.site import pages_of

OWN = {"Sec-Fetch-Site": "same-origin"}
UNLINKED = ("/jobs", "/live", "/live?job={running}", "/static/page.js", "/sign-in")
"""Addresses that stand in no page: those that scripts and people make up themselves."""
HIDDEN = ("description", "command", "parameter", "output", "log", "stderr", "submit")
"""Words of a scene that only its owner and administrators read."""


OF_ONE = re.compile(r"-(8i9sb|ot0gb)-")
"""In the address of a job or a task."""


class Ground:
    """A server with a scene, and what several tests ask of it."""

    def __init__(self, site: LiveServer) -> None:
        self.site = site
        self.api = Api(site)
        self.scene = Scene(self.api, lambda field: f"the {field} of one")
        self.stranger = Person(self.api)

    def path(self, route: str) -> str:
        """Return an address of a route's pattern."""
        path, uuid = route, self.scene.jobs[JOB_OF.get(route, "running")]
        if route.startswith("/tasks"):
            uuid = self.scene.tasks["failed"]
        elif route.startswith("/nodes"):
            uuid = self.scene.nodes["held" if route.endswith("release") else "live"]
        return path.replace("{uuid}", uuid)

    def state(self) -> Any:
        """Return all that a form may change."""
        jobs = self.api.get("jobs", limit=1000, order='["uuid"]')["items"]
        nodes = self.api.get("nodes", limit=1000, order='["uuid"]')["items"]
        return (
            [(job["uuid"], job["state"], job["priority"], job["log"]) for job in jobs],
            [
                (node["uuid"], node["state"], node["held_reason"], node["draining_reason"])
                for node in nodes
            ],
        )

    def walk(self, token: str = ADMIN) -> Walk:
        with visitor(self.site, token) as http:
            unlinked = [one.format(**self.scene.jobs) for one in UNLINKED if "live" not in one]
            return walk(http, ["/", *unlinked])


PART = {"X-Jobtasks-Part": "1"}
JOB_OF = {
    "/jobs/{uuid}/priority": "queued",
    "/jobs/{uuid}/cancel": "queued",
    "/jobs/{uuid}/retry": "failed",
}
FIELDS: dict[str, dict[str, str]] = {
    "/jobs/several": {"action": "cancel", "all": "1", "state": "Running"},
    "/jobs/{uuid}/priority": {"priority": "7"},
    "/jobs/{uuid}/cancel": {"reason": "enough"},
    "/jobs/{uuid}/retry": {},
    "/nodes/{uuid}/hold": {"minutes": "1", "reason": "enough"},
    "/nodes/{uuid}/drain": {"reason": "enough"},
    "/nodes/{uuid}/release": {},
    "/sign-out": {},
}
"""What is sent to each route that changes something, in an order in which each does; a new one
belongs here, too.
"""


@pytest.fixture(scope="module")
def ground(site: LiveServer) -> Iterator[Ground]:
    found = Ground(site)
    yield found
    found.api.close()


@contextmanager
def visitor(site: LiveServer, token: str | None) -> Iterator[httpx.Client]:
    """A browser, in its way: a client that keeps cookies; of a token's owner, or a stranger's."""
    with plain_client(site.url, {}) as http:
        if token is not None:
            http.cookies.set(cookie(site), session(site, token), urlsplit(site.url).hostname or "")
        yield http


def cookie(site: LiveServer) -> str:
    return f"jobtasks_{urlsplit(site.url).port}"


def sign(http: httpx.Client) -> str:
    """Return what the forms of a client's session carry."""
    return protection.sign_of(next(iter(http.cookies.values())))


def signed_in(http: httpx.Client) -> bool:
    return http.get("/nodes").status_code == 200


def post(http: httpx.Client, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
    return http.post(path, data=fields, headers=headers)


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server without nodes, whose clock may be put on."""
    live = LiveServer(tmp_path_factory.mktemp("idle"), FAST, pages_of)
    api = Api(live)
    yield api
    api.close()
    live.close()


@contextmanager
def later(api: Api, seconds: float) -> Iterator[None]:
    """Let a server believe that it is later."""
    edge = api.server.edge
    ordinary = edge._clock
    edge._clock = lambda: ordinary() + int(seconds * 1_000_000)
    yield
    edge._clock = ordinary


def test_every_route_is_tried_here(ground: Ground) -> None:
    """Those for changes stand in `FIELDS`, the others are met by a walk or stand in `UNLINKED`."""
    routes = pages_of(ground.site.edge)
    changing = {route.path for route in routes if "POST" in (route.methods or ())}
    assert changing - {"/sign-in"} == set(FIELDS)
    seen = [*ground.walk().answers, *(one.format(**ground.scene.jobs) for one in UNLINKED)]
    paths = [urlsplit(address).path for address in seen]
    for route in routes:
        if "GET" in (route.methods or ()):
            assert any(route.path_regex.match(path) for path in paths), f"{route.path} is not met"


# -- in --------------------------------------------------------------------------------------------


def test_a_token_signs_in(ground: Ground) -> None:
    """The browser keeps a session, not the token; no script sees it, no other site sends it."""
    with visitor(ground.site, None) as http:
        answer = post(http, "/sign-in", {"token": f" {ADMIN} ", "next": "/nodes"}, **OWN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/nodes")
        [kept] = answer.headers.get_list("set-cookie")
        assert kept.startswith(cookie(ground.site) + "=")
        assert ADMIN not in kept
        told = {word.strip().lower() for word in kept.split(";")[1:]}
        assert told == {"httponly", "path=/", "samesite=lax"}
        assert signed_in(http)


@pytest.mark.parametrize("kind", ["none", "made up", "revoked", "attempt", "agent"])
def test_tokens_of_nobody_do_not(ground: Ground, kind: str) -> None:
    tokens = {"none": "", "made up": "u" + "0" * 49, "agent": AGENT}
    if kind == "attempt":
        token = next(iter(ground.scene.live.running.values())).token
    elif kind == "revoked":
        body = {"owner_uuid": ground.stranger.uuid}
        made = sent(ground.api.http, "api_client_authorizations", body)
        sent(ground.api.http, f"api_client_authorizations/{made['uuid']}", None, "DELETE")
        token = made["api_token"]
    else:
        token = tokens[kind]
    assert_refused(ground.site, {"token": token})


NARROW = [
    ["GET /arvados/v1/jobs"],
    ["GET /arvados/", "POST /arvados/"],
    ["GET /jobs/", "POST /sign-in/"],
    ["POST /"],
    [],
]


@pytest.mark.parametrize("scopes", NARROW, ids=str)
def test_narrower_tokens_do_not(ground: Ground, scopes: list[str]) -> None:
    """Narrower than to read everything."""
    token = new_token(ground.api, ground.stranger.uuid, scopes=scopes)
    assert_refused(ground.site, {"token": token})


def test_a_token_that_has_expired_does_not(idle: Api) -> None:
    token = new_token(idle, Person(idle).uuid, expires_at=moment(100))
    assert session(idle.server, token)
    with later(idle, 101):
        assert_refused(idle.server, {"token": token})


def assert_refused(site: LiveServer, fields: dict[str, str]) -> None:
    with visitor(site, None) as http:
        answer = post(http, "/sign-in", fields, **OWN)
        assert answer.status_code == 403
        assert 'role="alert"' in answer.text
        assert "set-cookie" not in answer.headers
        assert not any(secret and secret in answer.text for secret in fields.values())
        assert not signed_in(http)


def moment(seconds: float) -> str:
    """Return a time that is so much later than now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def link(api: Api) -> str:
    root = setup.root_uuid(setup.PREFIX)
    edge = api.server.edge
    return api.server.run(edge.commit(lambda ctx: sessions.add_link(ctx, root)))


def test_a_link_signs_in_once(ground: Ground) -> None:
    """To look at it does not use it up; to use it does; and it opens nothing else."""
    key = link(ground.api)
    with visitor(ground.site, None) as http, visitor(ground.site, None) as late:
        for _ in range(2):
            looked = http.get("/sign-in", params={"key": key, "next": "/nodes"})
            assert looked.status_code == 200
            assert "set-cookie" not in looked.headers
        assert http.get(f"{BASE}/jobs", headers={"Authorization": f"Bearer {key}"}).is_error
        assert post(http, "/sign-in", {"key": key, "next": "/nodes"}, **OWN).status_code == 303
        assert signed_in(http)
        again = post(late, "/sign-in", {"key": key}, **OWN)
        assert again.status_code == 403
        assert "This link was used" in again.text
        assert not signed_in(late)


def test_a_link_signs_in_within_an_hour(idle: Api) -> None:
    early, late = link(idle), link(idle)
    with later(idle, 3590), visitor(idle.server, None) as http:
        assert post(http, "/sign-in", {"key": early}, **OWN).status_code == 303
    with later(idle, 3601):
        assert_refused(idle.server, {"key": late})


def test_a_server_says_where_to_sign_in(tmp_path: Path) -> None:
    """Once, in its log: with the address one is in."""
    served = Served(tmp_path / "state", "--no-agent", stderr=tmp_path / "stderr")
    try:
        with plain_client(served.url, {}) as http:
            lines = wait_until("an invitation", lambda: invitations(served.errors()))
            address = urlsplit(lines[0])
            assert f"{address.scheme}://{address.netloc}" == served.url
            [form] = Looked(http.get(lines[0]).text).forms
            assert post(http, form.action, form.fields, **OWN).status_code == 303
            assert signed_in(http)
        assert len(invitations(served.errors())) == 1
    finally:
        served.end()


def invitations(log: str) -> list[str]:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line["url"] for line in lines if line["message"].startswith("sign in once")]


# -- out -------------------------------------------------------------------------------------------


def test_a_session_ends_when_one_signs_out(ground: Ground) -> None:
    """On the server, too: a copy of the cookie is worth nothing."""
    with visitor(ground.site, ADMIN) as http, visitor(ground.site, None) as copy:
        copy.cookies.update(http.cookies)
        answer = post(http, "/sign-out", {"sign": sign(http)}, **OWN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
        assert not http.cookies
        assert not signed_in(copy)


def test_a_session_ends_after_its_time(idle: Api) -> None:
    """Then the page is asked for anew, its parts are refused, and the cookie goes."""
    with visitor(idle.server, ADMIN) as http:
        with later(idle, 12 * 3600 - 10):
            assert signed_in(http)
        with later(idle, 12 * 3600 + 1):
            assert http.get("/parts/jobs", headers=PART).status_code == 401
            page = http.get("/jobs?state=Failed&q=a%26b")
        assert page.status_code == 303
        assert page.headers["location"] == "/sign-in?next=%2Fjobs%3Fstate%3DFailed%26q%3Da%2526b"
        assert not http.cookies


def test_a_session_ends_with_its_token(idle: Api) -> None:
    token = new_token(idle, Person(idle).uuid, expires_at=moment(100))
    with visitor(idle.server, token) as http:
        assert signed_in(http)
        with later(idle, 101):
            assert not signed_in(http)


# -- by https --------------------------------------------------------------------------------------


def test_behind_https_the_cookie_is_bound_to_it(idle: Api) -> None:
    """Also when a proxy takes the https away; on loopback, beside it, plain http goes on."""
    world = idle.server.edge.world
    world.external_url, plain = "https://jobs.example", world.external_url
    try:
        with visitor(idle.server, None) as http:
            answer = post(http, "/sign-in", {"token": ADMIN}, Host="jobs.example", **OWN)
            [kept] = answer.headers.get_list("set-cookie")
            near = post(http, "/sign-in", {"token": ADMIN}, **OWN).headers["set-cookie"]
    finally:
        world.external_url = plain
    name, *told = kept.split("; ")
    assert name.startswith("__Host-jobtasks_=")
    assert {word.lower() for word in told} == {"httponly", "path=/", "samesite=lax", "secure"}
    assert near.startswith(cookie(idle.server) + "=")


@pytest.mark.parametrize(
    ("scheme", "host", "name"),
    [
        ("https", b"jobs.example", "__Host-jobtasks_"),
        ("https", b"127.0.0.1:7001", "__Host-jobtasks_7001"),
        ("http", b"127.0.0.1:7001", "jobtasks_7001"),
        ("http", b"[::1]:7002", "jobtasks_7002"),
    ],
)
def test_each_server_of_a_host_has_a_cookie(scheme: str, host: bytes, name: str) -> None:
    """Cookies do not know ports."""
    scope = {"type": "http", "scheme": scheme, "headers": [(b"host", host)], "path": "/"}
    assert protection.cookie_name(Request(scope), "") == name


# -- who only reads --------------------------------------------------------------------------------


@pytest.fixture(params=["GET /", "inactive"])
def reader(request: pytest.FixtureRequest, ground: Ground) -> Iterator[httpx.Client]:
    """The browser of an administrator with such a token, or of an owner who was made inactive."""
    if request.param == "inactive":
        owner = ground.scene.owner
        sent(ground.api.http, f"users/{owner.uuid}", {"is_active": False}, "PATCH")
        with visitor(ground.site, owner.token) as http:
            yield http
        sent(ground.api.http, f"users/{owner.uuid}", {"is_active": True}, "PATCH")
        return
    token = sent(ground.api.http, "api_client_authorizations", {"scopes": [request.param]})
    with visitor(ground.site, token["api_token"]) as http:
        yield http


def test_who_only_reads_sees_all_and_changes_nothing(ground: Ground, reader: httpx.Client) -> None:
    """No form is shown but the way out; what is sent nevertheless is refused."""
    seen = walk(reader)
    assert f"/jobs/{ground.scene.jobs['running']}/details" in seen.answers
    assert f"/tasks/{ground.scene.tasks['failed']}" in seen.answers
    assert seen.actions() == {"/sign-out"}
    assert all("read only" in seen.answers[path].text for path in ("/", "/nodes"))
    before = ground.state()
    for route, fields in FIELDS.items():
        if route != "/sign-out":
            answer = post(reader, ground.path(route), {**fields, "sign": sign(reader)}, **OWN)
            assert answer.status_code == 403, f"{route}: {answer.status_code}"
    one = {"action": "cancel", "job": ground.scene.jobs["running"], "sign": sign(reader)}
    post(reader, "/jobs/several", one, **OWN)
    assert ground.state() == before
    assert post(reader, "/sign-out", {"sign": sign(reader)}, **OWN).status_code == 303


# -- other sites -----------------------------------------------------------------------------------


FOREIGN = {
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "a neighbour": {"Sec-Fetch-Site": "same-site", "Origin": "https://other.example"},
    "an old browser": {"Origin": "http://other.example"},
    "a page of a file": {"Origin": "null"},
    "another port": {"Origin": "http://127.0.0.1:1"},
}


@pytest.mark.parametrize("route", [*FIELDS, "/sign-in"])
def test_forms_of_other_sites_do_nothing(ground: Ground, route: str) -> None:
    """Whatever they carry: that browsers say whose they are is enough; and the sign is."""
    before = ground.state()
    with visitor(ground.site, ADMIN) as http:
        fields = {**FIELDS.get(route, {"token": ADMIN}), "sign": sign(http)}
        for name, headers in FOREIGN.items():
            answer = post(http, ground.path(route), fields, **headers)
            assert answer.status_code == 403, name
            assert "set-cookie" not in answer.headers
        assert signed_in(http)
    assert ground.state() == before


@pytest.mark.parametrize("route", FIELDS)
def test_forms_without_the_sign_do_nothing(ground: Ground, route: str) -> None:
    """Missing, empty, of another session; in any shape of a body."""
    before = ground.state()
    path, fields = ground.path(route), FIELDS[route]
    with visitor(ground.site, ADMIN) as http, visitor(ground.site, ADMIN) as other:
        for wrong in ({}, {"sign": ""}, {"sign": sign(other)}, {"sign": "ä" * 64}):
            assert post(http, path, {**fields, **wrong}, **OWN).status_code == 403, wrong
        own = sign(http)
        as_json = http.post(path, json={**fields, "sign": own}, headers=OWN)
        assert as_json.status_code == 403
        by_address = http.post(path, params={**fields, "sign": own}, headers=OWN)
        assert by_address.status_code == 403
        for method in ("GET", "PUT"):
            asked = {**fields, "sign": own, "_method": method}
            assert post(http, path, asked, **OWN).status_code in (404, 405)
        assert signed_in(http)
    assert ground.state() == before


def test_forms_with_the_sign_do_what_they_say(tmp_path: Path) -> None:
    """Else the refusals above would say nothing."""
    live = LiveServer(tmp_path, FAST, pages_of)
    ground = Ground(live)
    with visitor(live, ADMIN) as http:
        for route, fields in FIELDS.items():
            before = ground.state()
            answer = post(http, ground.path(route), {**fields, "sign": sign(http)}, **OWN)
            assert answer.status_code == 303, f"{route}: {answer.text}"
            assert ground.state() != before or route == "/sign-out", route
        assert not signed_in(http)
    ground.api.close()
    live.close()


# -- who one is ------------------------------------------------------------------------------------


def test_an_address_does_not_say_who_looks(ground: Ground) -> None:
    """Nobody is somebody else by a link, a form or a header; strangers stay strangers."""
    given = {"api_token": ADMIN, "oauth_token": ADMIN}
    bearer = {"Authorization": f"Bearer {ADMIN}"}
    with visitor(ground.site, ground.stranger.token) as http:
        for answer in (http.get("/", params=given), http.get("/", headers=bearer)):
            assert answer.status_code == 200
            assert ground.stranger.name in answer.text
            assert not any(job in answer.text for job in ground.scene.jobs.values())
        hold = ground.path("/nodes/{uuid}/hold")
        fields = {**FIELDS["/nodes/{uuid}/hold"], "sign": sign(http)}
        before = ground.state()
        assert post(http, hold, {**fields, **given}, **OWN).is_error
        assert http.post(hold, data=fields, params=given, headers=OWN).status_code == 403
        assert post(http, hold, fields, **bearer, **OWN).status_code == 403
        assert ground.state() == before
    with visitor(ground.site, None) as http:
        for answer in (http.get("/", params=given), http.get("/", headers=bearer)):
            assert answer.status_code == 303


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "/\\evil.example/",
    "\\\\evil.example",
    "/\t/evil.example",
    "\t//evil.example",
    "/\r\nLocation: https://evil.example",
    "javascript:alert(1)",
    "evil.example",
    " //evil.example",
    "/\u2028/evil.example",
    "///evil.example",
    "http:/evil.example",
    "",
]


@pytest.mark.parametrize("goal", ELSEWHERE, ids=ascii)
def test_nobody_is_led_elsewhere(ground: Ground, goal: str) -> None:
    """By `next` of the door, or `back` of a form."""
    with visitor(ground.site, None) as http:
        shown = http.get("/sign-in", params={"next": goal}).text
        assert [form.fields["next"] for form in Looked(shown).forms] == ["/"]
        answer = post(http, "/sign-in", {"token": ADMIN, "next": goal}, **OWN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        fields = {"sign": sign(http), "back": goal, "action": "cancel"}
        answer = post(http, "/jobs/several", fields, **OWN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize("goal", ["/nodes?state=held", "/jobs/x?q=a%26b#task=1", "/?q=ä+b"])
def test_everybody_is_led_on(ground: Ground, goal: str) -> None:
    with visitor(ground.site, None) as http:
        answer = post(http, "/sign-in", {"token": ADMIN, "next": goal}, **OWN)
        assert unquote(answer.headers["location"]) == unquote(goal)


# -- whose things ----------------------------------------------------------------------------------


def test_what_is_of_others_is_not_there(ground: Ground) -> None:
    """On no page, in no part, no log, no stream; a walk as its owner says what there is."""
    owned = [*ground.scene.jobs.values(), *ground.scene.tasks.values()]
    unlinked = [one.format(**ground.scene.jobs) for one in UNLINKED]
    addresses = {*ground.walk(ground.scene.owner.token).answers, *unlinked}
    told = [f"the {word} of one" for word in HIDDEN]
    seen = {address for address in addresses if OF_ONE.search(address)}
    with visitor(ground.site, ground.stranger.token) as http:
        assert len(seen) > 50
        for address in seen:
            for headers in ({}, PART):
                answer = http.get(address, headers=headers)
                assert answer.status_code == 404, address
                assert not any(words in answer.text for words in told)
        for address in addresses - seen - {"/live"}:
            answer = http.get(address)
            assert answer.status_code == 200, address
            assert not any(words in answer.text for words in [*owned, *told]), address


def test_what_is_of_others_is_not_to_be_changed(ground: Ground) -> None:
    """And nodes are steered by administrators alone."""
    before = ground.state()
    with visitor(ground.site, ground.stranger.token) as http:
        for route, fields in FIELDS.items():
            if "{uuid}" in route:
                answer = post(http, ground.path(route), {**fields, "sign": sign(http)}, **OWN)
                assert answer.status_code == (403 if route.startswith("/nodes") else 404), route
        uuids = list(ground.scene.jobs.values())
        several = {"action": "cancel", "job": uuids, "sign": sign(http)}
        assert http.post("/jobs/several", data=several, headers=OWN).status_code == 303
        actions = walk(http).actions()
    assert actions == {"/sign-out"}
    assert ground.state() == before


def test_the_interface_takes_no_cookie(ground: Ground) -> None:
    """Whoever has one is there as much a stranger as without, at every route."""
    routes = [route for route in routes_of(ground.site.edge) if isinstance(route, Route)]
    with visitor(ground.site, ADMIN) as http, visitor(ground.site, None) as nobody:
        for route in routes:
            path = re.sub(r"{uuid}", ground.scene.jobs["running"], route.path)
            path = re.sub(r"{[^}]*}", "1", path)
            for method in sorted((route.methods or set()) - {"HEAD"}):
                known, unknown = http.request(method, path), nobody.request(method, path)
                assert known.status_code == unknown.status_code, f"{method} {path}"
                assert ground.scene.jobs["running"] not in known.text.replace(path, "")
        assert http.get(f"{BASE}/jobs").status_code == 401
        assert signed_in(http)


# -- with every answer -----------------------------------------------------------------------------


def test_every_answer_says_what_browsers_must_not_do(ground: Ground) -> None:
    """Pages, parts, logs, ways on, and whatever went wrong."""
    with visitor(ground.site, ADMIN) as http, visitor(ground.site, None) as nobody:
        answers = dict(ground.walk().answers)
        job = ground.path("/jobs/{uuid}")
        for path in ("/jobs/zzzzz-8i9sb-000000000000000", job + "/parts/none", "/static/none"):
            answers[path] = http.get(path)
            assert answers[path].status_code == 404
        answers["no sign"] = post(http, job + "/cancel", {}, **OWN)
        answers["wrong"] = post(
            http, job + "/priority", {"priority": "x", "sign": sign(http)}, **OWN
        )
        answers["other site"] = post(http, job + "/cancel", {}, Origin="http://other.example")
        answers["stranger"] = nobody.get("/nodes")
        answers["stranger's part"] = nobody.get("/parts/nodes", headers=PART)
        answers["not in"] = post(nobody, "/sign-in", {"token": "x"}, **OWN)
        answers["in"] = post(nobody, "/sign-in", {"token": ADMIN}, **OWN)
        answers["out"] = post(http, "/sign-out", {"sign": sign(http)}, **OWN)
    for name, answer in answers.items():
        for header, value in protection.HEADERS.items():
            assert answer.headers.get(header) == value, f"{name}: {header}"
        cache = "no-cache" if name == "/static/page.js" else "no-store"
        assert answer.headers["cache-control"] == cache, name


def test_the_policy_lets_nothing_in() -> None:
    """What each part of it must say, whoever adds to it."""
    said = dict(part.split(" ", 1) for part in protection.POLICY.split("; "))
    assert said["default-src"] == said["base-uri"] == said["frame-ancestors"] == "'none'"
    assert {said[name] for name in ("script-src", "connect-src", "form-action")} == {"'self'"}
    assert said["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in protection.POLICY
    assert "*" not in protection.POLICY
    assert protection.HEADERS["X-Content-Type-Options"] == "nosniff"
    assert protection.HEADERS["X-Frame-Options"] == "DENY"
    assert protection.HEADERS["Referrer-Policy"] in ("same-origin", "no-referrer")


def test_a_log_is_shown_as_text(ground: Ground) -> None:
    """Whatever a program printed: it is no page, also when it is opened alone."""
    with visitor(ground.site, ADMIN) as http:
        for more in ({}, {"download": "1"}):
            answer = http.get(f"/tasks/{ground.scene.tasks['failed']}/log", params=more)
            assert answer.headers["content-type"].startswith("text/plain")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.text == "the log of one"
