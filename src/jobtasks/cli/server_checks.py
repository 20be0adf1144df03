"""Whether a server answers, knows the token, has the same time and has nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from jobtasks.cli.client import API_PATH
from jobtasks.cli.durations import readable_bytes
from jobtasks.cli.findings import Finding, fail, ok, warn
from jobtasks.cli.state import Address, StateDirectory
from jobtasks.cli.trust import context_of
from jobtasks.core.errors import JobTasksError

SECONDS = 10.0
CLOCK_SECONDS_MAX = 5.0
NODES_NAMED = 10
KIB = 1024
GONE = "gone"


def no_address(state: StateDirectory) -> Finding:
    """Say that there is nothing to ask."""
    advice = f"start one with `jobtasks serve{state.option}`, or set JOBTASKS_URL"
    return warn("server", f"none serves {state.path} now", advice)


def checks(address: Address, advice: str) -> Iterator[Finding]:
    """Look at the server of an address; `advice` says how to start one there."""
    try:
        with httpx.Client(trust_env=False, timeout=SECONDS, verify=context_of(address)) as http:
            began = time.monotonic()
            health = http.get(address.url + "/healthz")
            seconds = time.monotonic() - began
            yield reached(address, health, seconds, advice)
            yield clock(health.headers.get("date"), time.time())
            yield from _with_token(http, address)
    except (httpx.HTTPError, httpx.InvalidURL, JobTasksError, OSError) as error:
        yield fail("server", f"{address.url} cannot be reached: {error}", advice)


def reached(address: Address, health: httpx.Response, seconds: float, advice: str) -> Finding:
    """Return whether what answers is a server of ours, and how quickly."""
    text = f"{address.url} answers in {1000 * seconds:.0f} ms"
    if health.is_success and "health" in health.text:
        return ok("server", text)
    return fail("server", f"{text}, but with {health.status_code}: {health.text[:200]}", advice)


def clock(date: str | None, now: float) -> Finding:
    """Return whether the server's clock (``Date``, to the second) is ours."""
    name = "clock"
    if date is None:
        return warn(name, "the server does not say its time", "look at a proxy between you")
    ahead = parsedate_to_datetime(date).timestamp() + 0.5 - now
    if abs(ahead) <= CLOCK_SECONDS_MAX:
        return ok(name, "the server's is ours, to the second")
    side = "ahead of" if ahead > 0 else "behind"
    advice = "let both machines take their time from one source"
    return warn(name, f"the server's is {abs(ahead):.0f} s {side} ours", advice)


def _with_token(http: httpx.Client, address: Address) -> Iterator[Finding]:
    headers = {"Authorization": f"Bearer {address.token}"}

    def get(path: str, **query: Any) -> httpx.Response:
        return http.get(address.url + API_PATH + path, headers=headers, params=query)

    user = get("/users/current")
    yield token(user)
    if not user.is_success:
        return
    listed = get("/nodes", limit=1000)
    if listed.is_success:
        yield nodes(listed.json()["items"])
    if user.json()["is_admin"]:
        room = get("/sys/sizes")
        if room.is_success:
            yield sizes(room.json())


def token(user: httpx.Response) -> Finding:
    """Return whose the token is."""
    if user.status_code == 401:
        advice = "check JOBTASKS_TOKEN, or use --state: the token is not of this server, or ended"
        return fail("token", "the server does not know it", advice)
    if not user.is_success:
        return warn("token", f"its scopes do not let it ask whose it is ({user.status_code})", "")
    found = user.json()
    what = "an administrator" if found["is_admin"] else "a user"
    return ok("token", f"of {found['username']}, {what}")


def nodes(found: list[dict[str, Any]]) -> Finding:
    """Return how many machines run tasks, and what they have."""
    heard = [node for node in found if node["state"] != GONE]
    if not heard:
        advice = "`jobtasks serve` without --no-agent, or `jobtasks agent` on a machine"
        return warn("nodes", "no agent is heard: nothing runs", advice)
    named = [
        f"{node['hostname']} {node['state']}, {node['slots']} slots, {node['cores']} cores,"
        f" {readable_bytes(node['memory_kib'] * KIB)}"
        for node in heard[:NODES_NAMED]
    ]
    more = f" and {len(heard) - NODES_NAMED} more" if len(heard) > NODES_NAMED else ""
    return ok("nodes", "; ".join(named) + more)


def sizes(room: dict[str, int]) -> Finding:
    """Return how much room things take on the server's disk."""
    parts = [
        f"{room['jobs']} jobs, {room['tasks']} tasks",
        f"database {readable_bytes(room['database_bytes'])}",
        f"logs {readable_bytes(room['log_bytes'])}",
        f"{readable_bytes(room['free_bytes'])} free",
    ]
    return ok("sizes", ", ".join(parts))
