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
TRIED = {"slurm": "`sinfo` and `squeue --me`", "ssh": "`ssh HOST true`"}
"""Commands that tell people what an engine's silence is about, by engine."""


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
    is_admin = user.json()["is_admin"]
    state = get("/sys/engine") if is_admin else None
    gives_nodes = False
    if state is not None and state.is_success:
        yield engine(state.json())
        gives_nodes = is_idle(state.json())
    listed = get("/nodes", limit=1000)
    if listed.is_success:
        yield nodes(listed.json()["items"], gives_nodes=gives_nodes)
    room = get("/sys/sizes") if is_admin else None
    if room is not None and room.is_success:
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


def nodes(found: list[dict[str, Any]], *, gives_nodes: bool = False) -> Finding:
    """Return how many machines run tasks, and what they have.

    `gives_nodes`: there is an engine that would give some.
    """
    heard = [node for node in found if node["state"] != GONE]
    if not heard and gives_nodes:
        return ok("nodes", "none now: jobs will have them from the engine")
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


def is_idle(state: dict[str, Any]) -> bool:
    """Return whether nodes are asked for, and nobody needs one now."""
    is_heard = state["heard_at"] is not None and not state["silence"]
    return is_heard and not any(state["requests"].values())


def engine(state: dict[str, Any]) -> Finding:
    """Return whether what nodes are asked of answers, and whether it gives them."""
    name = state["engine"]
    if state["silence"]:
        text = f"{name} gives no answer since {state['silent_since']}: {state['silence']}"
        tried = TRIED.get(name, "its commands")
        advice = (
            "what runs goes on, nothing new gets a node:"
            f" try {tried} on the server's machine, as the server's user"
        )
        return fail("engine", text, advice)
    if state["heard_at"] is None:
        return ok("engine", f"{name}: no nodes are asked for, tasks run where agents are")
    told = ", ".join(f"{number} {word}" for word, number in state["requests"].items() if number)
    text = f"{name} answers; requests for nodes: {told or 'none'}"
    if not state["failures"]:
        return ok("engine", text)
    last = state["failures"][0]
    times = sum(failure["requests"] for failure in state["failures"])
    text += f"; {times} brought no node within the hour, the last: {last['reason']}"
    return warn("engine", text, "`jobtasks job explain JOB` tells what a job waits for")


def sizes(room: dict[str, int]) -> Finding:
    """Return how much room things take on the server's disk."""
    parts = [
        f"{room['jobs']} jobs, {room['tasks']} tasks",
        f"database {readable_bytes(room['database_bytes'])}",
        f"logs {readable_bytes(room['log_bytes'])}",
        f"{readable_bytes(room['free_bytes'])} free",
    ]
    return ok("sizes", ", ".join(parts))
