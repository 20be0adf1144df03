"""``jobtasks user``: the people who use a server; for administrators."""

from __future__ import annotations

from typing import Any

import click

from jobtasks.cli.options import Command, format_option, list_options, state_option
from jobtasks.cli.output import Column, Row, age, key, print_list, print_record
from jobtasks.cli.selectors import USER, resolve
from jobtasks.cli.servers import look
from jobtasks.cli.state import StateDirectory

COLUMNS: list[Column] = [
    ("user", key("uuid")),
    ("name", key("username")),
    ("full name", key("full_name")),
    ("email", key("email")),
    ("active", key("is_active")),
    ("admin", key("is_admin")),
    ("age", age("created_at")),
]


@click.group(name="user")
def command() -> None:
    """Make, list and change users."""


def _describes_a_user(function: Command) -> Command:
    options = [
        click.option("--email", help="Where people write to."),
        click.option("--first-name", help="Part of the full name."),
        click.option("--last-name", help="Part of the full name."),
        click.option("--admin/--no-admin", "is_admin", default=None, help="May do everything."),
        click.option(
            "--active/--inactive", "is_active", default=None, help="Inactive: may only read."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@command.command(name="create")
@click.argument("name")
@_describes_a_user
@state_option
@format_option
def create(name: str, state: StateDirectory, form: str, **attributes: Any) -> None:
    """Make a user called NAME; print the user's uuid.

    `jobtasks token create --user NAME` lets them in.
    """
    with look(state) as client:
        user = client.post("/users", {"user": {"username": name, **_given(attributes)}})
    _print(user, form)


@command.command(name="list")
@list_options("users", limit=100)
@state_option
@format_option
def list_users(
    conditions: tuple[list[Any], ...],
    orders: tuple[str, ...],
    limit: int,
    offset: int,
    state: StateDirectory,
    form: str,
) -> None:
    """List users by name.

    An administrator sees all, others themselves.
    """
    filters, order = list(conditions) or None, list(orders) or ["username"]
    with look(state) as client:
        answer = client.pages("/users", limit, offset, filters=filters, order=order)
    print_list(answer["items"], COLUMNS, form)


@command.command(name="change")
@click.argument("user")
@_describes_a_user
@state_option
@format_option
def change(user: str, state: StateDirectory, form: str, **attributes: Any) -> None:
    """Change USER: what the options say, nothing else.

    USER is a username, a uuid, or a beginning or an end of one that no other user has.
    """
    with look(state) as client:
        uuid = resolve(client, USER, user)
        _print(client.patch(f"/users/{uuid}", {"user": _given(attributes)}), form)


def _given(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _print(user: Row, form: str) -> None:
    print_record(user, "id" if form == "table" else form)
