"""``jobtasks token``: what lets people and programs in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from jobtasks.cli.options import format_option, format_option_without_id, list_options, state_option
from jobtasks.cli.output import Column, age, key, moment, print_list, print_record
from jobtasks.cli.selectors import TOKEN, USER, resolve, resolve_all
from jobtasks.cli.servers import look
from jobtasks.cli.several import change_each, dry_run_option, print_changed, rehearsed
from jobtasks.cli.state import StateDirectory
from jobtasks.core.scopes import READ_ONLY

COLUMNS: list[Column] = [
    ("token", key("uuid")),
    ("label", key("label")),
    ("role", key("role")),
    ("scopes", lambda token: ", ".join(token["scopes"]) or "none"),
    ("expires", moment("expires_at")),
    ("used", age("last_used_at")),
    ("user", key("owner_uuid")),
]
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class When(click.ParamType[str]):
    """A time, or how long from now: ``12h``, ``30d``, ``2030-01-01``, ``2030-01-01T12:00:00Z``."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The time in UTC as the server takes it; anything else is a usage error."""
        try:
            return _moment(value).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a time nor a number with s, m, h or d", param, ctx)


def _moment(text: str) -> datetime:
    if found := re.fullmatch(r"(\d+)([smhd])", text):
        return datetime.now(UTC) + timedelta(seconds=int(found[1]) * SECONDS[found[2]])
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.group(name="token")
def command() -> None:
    """Make, list and revoke tokens."""


@command.command(name="create")
@click.option("--user", metavar="USER", help="Whose: a name or a uuid. By default your own.")
@click.option("--read-only", is_flag=True, help=f"Only reads: the scope '{READ_ONLY}'.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="'METHOD /PATH'",
    help="Only this call; with / at its end, all that begin so. May be repeated.",
)
@click.option("--expires", type=When(), help="When it ends: 12h, 30d or a time.")
@click.option("--label", help="A word or two on what it is for.")
@state_option
@format_option_without_id
def create(
    user: str | None,
    read_only: bool,
    scopes: tuple[str, ...],
    expires: str | None,
    label: str | None,
    state: StateDirectory,
    form: str,
) -> None:
    """Make a token and print its secret.

    The secret is not shown again; nothing else comes on stdout.
    """
    wanted = [*scopes, *([READ_ONLY] if read_only else [])]
    body: dict[str, Any] = {"scopes": wanted or None, "expires_at": expires, "label": label}
    with look(state) as client:
        if user is not None:
            body["owner_uuid"] = resolve(client, USER, user)
        token = client.post("/api_client_authorizations", {"api_client_authorization": body})
    if form != "table":
        print_record(token, form)
        return
    click.echo(f"{token['uuid']}; the secret is not shown again:", err=True)
    click.echo(token["api_token"])


@command.command(name="list")
@click.option("--user", metavar="USER", help="Only those of this user, a name or a uuid.")
@list_options("api_client_authorizations", limit=100)
@state_option
@format_option
def list_tokens(
    user: str | None,
    conditions: tuple[list[Any], ...],
    orders: tuple[str, ...],
    limit: int,
    offset: int,
    state: StateDirectory,
    form: str,
) -> None:
    """List your tokens, the newest first, without their secrets.

    An administrator sees everybody's.
    """
    filters, order = list(conditions), list(orders) or ["created_at desc"]
    with look(state) as client:
        if user:
            filters.append(["owner_uuid", "=", resolve(client, USER, user)])
        answer = client.pages(
            "/api_client_authorizations", limit, offset, filters=filters or None, order=order
        )
    print_list(answer["items"], COLUMNS, form)


@command.command(name="revoke")
@click.argument("token", nargs=-1, required=True)
@dry_run_option
@state_option
@format_option
def revoke(token: tuple[str, ...], dry_run: bool, state: StateDirectory, form: str) -> None:
    """Revoke each TOKEN: from now on nobody gets in with it.

    TOKEN is a uuid, or a beginning or an end of one that no other token has.
    """
    path, done = "/api_client_authorizations", "would be revoked" if dry_run else "revoked"
    with look(state) as client:
        change_each(
            resolve_all(client, TOKEN, token),
            lambda uuid: client.delete(f"{path}/{uuid}", **rehearsed(dry_run)),
            lambda gone: print_changed(gone, COLUMNS, form, lambda token: done),
        )
