"""``jobtasks node``: the machines that run tasks; administrators keep new work off them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from jobtasks.cli.client import Client
from jobtasks.cli.durations import Duration
from jobtasks.cli.options import (
    Command,
    format_option,
    format_option_without_id,
    list_options,
    state_option,
)
from jobtasks.cli.output import Column, Row, age, key, print_list, print_record, took
from jobtasks.cli.problems import ExitCode
from jobtasks.cli.selectors import NODE, resolve, resolve_all
from jobtasks.cli.servers import RUN_PATIENCE_SECONDS, connect, look
from jobtasks.cli.several import change_each, dry_run_option, rehearsed
from jobtasks.cli.state import StateDirectory

LOOK_SECONDS_MIN, LOOK_SECONDS_MAX = 0.05, 1.0
"""How often a node that drains is looked at: often at first, then less so."""
GIB_KIB = 1024**2


def _of(free: str, whole: str) -> Callable[[Row], str]:
    return lambda node: f"{node[free]}/{node[whole]}"


def _memory(node: Row) -> str:
    return f"{node['free_memory_kib'] / GIB_KIB:.1f}/{node['memory_kib'] / GIB_KIB:.1f}"


def _note(node: Row) -> str | None:
    """Until when and why it takes nothing, as far as its state does not say so."""
    until = node["held_until"]
    hold = [
        "on trial" if node["on_trial"] else "",
        f"until {until[:19].replace('T', ' ')} UTC" if until else "",
        node["held_reason"] or "",
    ]
    kept = KEPT.get(node["kept_for"], "")
    parts = [node["draining_reason"] or "", ": ".join(filter(None, hold)), kept]
    return "; ".join(filter(None, parts)) or None


KEPT = {
    "job": "kept for a job that waits for several nodes",
    "gang": "keeps a slot for a task that gathers several nodes",
}
COLUMNS: list[Column] = [
    ("node", key("hostname")),
    ("state", key("state")),
    ("free slots", _of("free_slots", "slots")),
    ("free GiB", _memory),
    ("cores", key("cores")),
    ("heard", age("last_ping_at")),
    ("note", _note),
]
ATTEMPT_COLUMNS: list[Column] = [
    ("slot", key("slot")),
    ("state", key("state")),
    ("job", key("job_uuid")),
    ("task", lambda attempt: f"{attempt['job_uuid'][-5:]}/{attempt['qsequence']}"),
    ("attempt", key("number")),
    ("ran", took),
    ("user", key("owner_uuid")),
]


@click.group(name="node")
def command() -> None:
    """Look at nodes; hold, drain, release or delete them.

    NODE is a hostname, a uuid, or a beginning or an end of a uuid that no other node has.
    """


@command.command(name="list")
@list_options("nodes", limit=1000)
@state_option
@format_option
def list_nodes(
    conditions: tuple[list[Any], ...],
    orders: tuple[str, ...],
    limit: int,
    offset: int,
    state: StateDirectory,
    form: str,
) -> None:
    """List nodes: what each has free, what it does."""
    order = list(orders) or ["hostname", "uuid"]
    with look(state) as client:
        found = client.pages("/nodes", limit, offset, filters=list(conditions) or None, order=order)
    print_list(found["items"], COLUMNS, form)


@command.command(name="show")
@click.argument("node")
@state_option
@format_option
def show(node: str, state: StateDirectory, form: str) -> None:
    """Show the record of NODE."""
    with look(state) as client:
        print_record(client.get(f"/nodes/{resolve(client, NODE, node)}"), form)


@command.command(name="attempts")
@click.argument("node")
@state_option
@format_option_without_id
def attempts(node: str, state: StateDirectory, form: str) -> None:
    """List what runs on NODE, by slot.

    You see tasks of your own jobs, an administrator all.
    """
    with look(state) as client:
        items = client.get(f"/nodes/{resolve(client, NODE, node)}/attempts")["items"]
    print_list(items, ATTEMPT_COLUMNS, form)


def _names_nodes(function: Command) -> Command:
    return click.argument("node", nargs=-1, required=True)(function)


def _has_reason(function: Command) -> Command:
    return click.option("--reason", metavar="TEXT", help="Shown to who asks why it is so.")(
        function
    )


@command.command(name="hold")
@_names_nodes
@click.option(
    "--for", "seconds", type=Duration(), help="How long: 30m, 2h. By default until it is released."
)
@_has_reason
@dry_run_option
@state_option
@format_option
def hold(
    node: tuple[str, ...],
    seconds: float | None,
    reason: str | None,
    dry_run: bool,
    state: StateDirectory,
    form: str,
) -> None:
    """Start nothing new on each NODE for a while; what runs goes on."""
    body = {"seconds": seconds, "reason": reason}
    with look(state) as client:
        _steer(client, node, "hold", body, dry_run, lambda nodes: _print(nodes, form, dry_run))


@command.command(name="drain")
@_names_nodes
@_has_reason
@click.option("--wait", is_flag=True, help="Until nothing runs there any more.")
@click.option(
    "--timeout", "timeout_seconds", type=Duration(), help="With --wait: no longer than that."
)
@dry_run_option
@state_option
@format_option
def drain(
    node: tuple[str, ...],
    reason: str | None,
    wait: bool,
    timeout_seconds: float | None,
    dry_run: bool,
    state: StateDirectory,
    form: str,
) -> int:
    """Start nothing new on each NODE until it is released.

    What runs goes on. With --wait ends with exit code 0 when nothing runs there, and 124 when
    the time is over.
    """
    wait = wait and not dry_run
    still_running: list[Row] = []
    with connect(state, RUN_PATIENCE_SECONDS, _say) if wait else look(state) as client:

        def show(nodes: list[Row]) -> None:
            if wait:
                nodes = _wait_until_empty(client, nodes, timeout_seconds)
                still_running.extend(one for one in nodes if one["attempts_live"])
            _print(nodes, form, dry_run)

        _steer(client, node, "drain", {"reason": reason}, dry_run, show)
    return ExitCode.TIMEOUT if still_running else ExitCode.OK


@command.command(name="release")
@_names_nodes
@dry_run_option
@state_option
@format_option
def release(node: tuple[str, ...], dry_run: bool, state: StateDirectory, form: str) -> None:
    """Let each NODE take work again: ends hold and draining."""
    with look(state) as client:
        _steer(client, node, "release", {}, dry_run, lambda nodes: _print(nodes, form, dry_run))


@command.command(name="delete")
@_names_nodes
@dry_run_option
@state_option
@format_option
def delete(node: tuple[str, ...], dry_run: bool, state: StateDirectory, form: str) -> None:
    """Delete each NODE that is gone for good.

    The attempts that ran there keep its name.
    """
    done = "would be deleted" if dry_run else "deleted"
    with look(state) as client:
        change_each(
            resolve_all(client, NODE, node),
            lambda uuid: client.delete(f"/nodes/{uuid}", **rehearsed(dry_run)),
            lambda nodes: _print_lines(nodes, form, lambda one: f"{one['hostname']} {done}"),
        )


def _steer(
    client: Client,
    nodes: tuple[str, ...],
    method: str,
    body: Row,
    dry_run: bool,
    show: Callable[[list[Row]], None],
) -> None:
    """Call a method of each node and show how they are now; each is found before any is touched."""
    change_each(
        resolve_all(client, NODE, nodes),
        lambda uuid: client.post(f"/nodes/{uuid}/{method}", body, **rehearsed(dry_run)),
        lambda found: show(list(found)),
    )


def _wait_until_empty(client: Client, nodes: list[Row], timeout_seconds: float | None) -> list[Row]:
    """The nodes when nothing runs on any of them, or when the time is over."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    told, pause = "", LOOK_SECONDS_MIN
    while any(node["attempts_live"] for node in nodes):
        line = "; ".join(f"{one['hostname']}: {_going_on(one)}" for one in nodes if _going_on(one))
        if line != told:
            _say(line)
        told = line
        left = LOOK_SECONDS_MAX if deadline is None else deadline - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(pause, left))
        pause = min(2 * pause, LOOK_SECONDS_MAX)
        nodes = [client.get(f"/nodes/{node['uuid']}") for node in nodes]
    return nodes


def _going_on(node: Row) -> str:
    number = node["attempts_live"]
    return f"{number} attempt{'s' * (number != 1)} still running" if number else ""


def _print(nodes: list[Row], form: str, dry_run: bool) -> None:
    """One line each: what a node is now, until when and why, and what goes on there."""
    would_be = "would be " if dry_run else ""

    def line(node: Row) -> str:
        note = f" ({_note(node)})" if _note(node) else ""
        parts = [f"{node['hostname']} {would_be}{node['state']}{note}", _going_on(node)]
        return "; ".join(filter(None, parts))

    _print_lines(nodes, form, line)


def _print_lines(nodes: Sequence[Row], form: str, line: Callable[[Row], str]) -> None:
    if form != "table":
        print_list(nodes, COLUMNS, form)
        return
    for node in nodes:
        click.echo(line(node))


def _say(line: str) -> None:
    click.echo(line, err=True)
