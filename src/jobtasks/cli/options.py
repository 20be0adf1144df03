"""Options and kinds of values that several commands share."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from jobtasks.cli.state import StateDirectory, default_state_path
from jobtasks.core.addresses import base_url
from jobtasks.core.resources import RESOURCES

Command = TypeVar("Command", bound=Callable[..., Any])


def text_or_json(text: str) -> Any:
    """The JSON value that `text` is, or else the text itself; NaN and Infinity are text."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(name)


class Assignment(click.ParamType[tuple[str, Any]]):
    """``NAME=VALUE``: a JSON value where it parses, else text."""

    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Split at the first ``=``; a missing name or ``=`` is a usage error."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        return name, text_or_json(text)


class Condition(click.ParamType[list[Any]]):
    """``NAME=VALUE``, also with ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``~``: a filter of lists.

    The value is text as the interface takes it for any attribute; ``null`` is null. ``~`` takes a
    pattern with ``%`` for any run of letters, and ignores case. ``parameters.KEY`` is a key of an
    object.
    """

    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[Any]:
        """The filter as the server takes it; without an operator it is a usage error."""
        if isinstance(value, list):
            return value
        found = CONDITION.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is not NAME=VALUE (or != < <= > >= ~)", param, ctx)
        name, operator, operand = found.groups()
        if "." in name:
            return _of_key(name, operator, operand)
        return [name, OPERATORS.get(operator, operator), None if operand == "null" else operand]


def _of_key(name: str, operator: str, operand: str) -> list[Any]:
    """The filter on a key of an object: there 1 and "1" differ, here both may be meant."""
    meant = text_or_json(operand)
    if isinstance(meant, list | dict):
        meant = operand
    if operator in MEMBERSHIPS:
        return [name, MEMBERSHIPS[operator], [operand, *([] if meant == operand else [meant])]]
    is_number = isinstance(meant, int | float) and not isinstance(meant, bool)
    is_ordered = operator not in OPERATORS
    return [name, OPERATORS.get(operator, operator), meant if is_ordered and is_number else operand]


CONDITION = re.compile(r"(\w+(?:\.[^!<>=~]*[^!<>=~ ])?) ?(!=|<=|>=|=|<|>|~) ?(.*)", re.DOTALL)
OPERATORS = {"~": "ilike"}
"""Operators that the interface spells in another way."""
MEMBERSHIPS = {"=": "in", "!=": "not in"}


class Order(click.ParamType[str]):
    """``NAME`` or ``NAME desc``: what a list is sorted by."""

    name = "NAME [desc]"

    def __init__(self, resource: str) -> None:
        self._resource = resource

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The key, checked: the server drops keys that it does not know."""
        name, _, direction = value.strip().partition(" ")
        attribute = RESOURCES[self._resource].attributes.get(name)
        if attribute is None or attribute.column is None:
            self.fail(f"{name!r} is nothing to sort {self._resource} by", param, ctx)
        if direction.strip() not in ("", "asc", "desc"):
            self.fail(f"{direction!r} is neither asc nor desc", param, ctx)
        return str(value.strip())


def list_options(resource: str, limit: int) -> Callable[[Command], Command]:
    """``--filter``, ``--order``, ``--limit``, ``--offset`` of a command that lists `resource`."""

    def decorate(command: Command) -> Command:
        options = [
            click.option(
                "--filter",
                "conditions",
                type=Condition(),
                multiple=True,
                help="Only these; also != < <= > >= and ~ (a pattern with %)."
                " NAME.KEY is a key of an object, script_parameters.input. May be repeated.",
            ),
            click.option(
                "--order",
                "orders",
                type=Order(resource),
                metavar="'NAME [desc]'",
                multiple=True,
                help="Sort by this attribute. May be repeated.",
            ),
            click.option(
                "--limit",
                type=click.IntRange(min=1),
                metavar="N",
                default=limit,
                show_default=True,
                help="List no more.",
            ),
            click.option(
                "--offset",
                type=click.IntRange(min=0),
                metavar="N",
                default=0,
                show_default=True,
                help="Leave out the first.",
            ),
        ]
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


class StateType(click.ParamType[StateDirectory]):
    """The state directory of a server; it need not exist yet."""

    name = "DIR"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> StateDirectory:
        """The directory as an absolute path; whether it was named on purpose is remembered."""
        if isinstance(value, StateDirectory):
            return value
        return StateDirectory(Path(value).absolute(), is_chosen=True)


def state_option(command: Command) -> Command:
    """``--state DIR``."""
    return click.option(
        "--state",
        type=StateType(),
        default=lambda: StateDirectory(default_state_path(), is_chosen=False),
        show_default="below ~/.local/share",
        help="State directory of the server.",
    )(command)


FORMATS = ("table", "json", "jsonl", "id")
"""How records are printed (docs/reference/cli.md)."""


def format_option(command: Command) -> Command:
    """``-o table|json|jsonl|id`` and ``--color``, for commands that print records."""
    return _format_option(FORMATS)(color_option(command))


def format_option_without_id(command: Command) -> Command:
    """``-o table|json|jsonl`` and ``--color``, for commands that print what has no uuid."""
    return _format_option(FORMATS[:-1])(color_option(command))


def _format_option(forms: tuple[str, ...]) -> Callable[[Command], Command]:
    return click.option(
        "-o",
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help="How to print.",
    )


COLORS: dict[str, bool | None] = {"always": True, "never": False, "auto": None}


def color_option(command: Command) -> Command:
    """``--color auto|always|never``; auto goes by the terminal and the environment."""
    return click.option(
        "--color",
        type=click.Choice(list(COLORS)),
        callback=_choose_color,
        expose_value=False,
        help="Whether to use colours; by default on terminals, unless NO_COLOR is set.",
    )(command)


def _choose_color(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    if value is not None:
        context.color = COLORS[value]
    elif context.parent is None:
        context.color = color_of_environment(os.environ)
    return value


def color_of_environment(environment: Mapping[str, str]) -> bool | None:
    """What NO_COLOR, CLICOLOR_FORCE and CLICOLOR ask for; None: colours on terminals."""
    if environment.get("NO_COLOR"):
        return False
    if environment.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return False if environment.get("CLICOLOR") == "0" else None


def _absolute_group(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A directory as it is called from everywhere: the agent may stand elsewhere."""
    return value if value in ("auto", "all", "off") else str(Path(value).absolute())


def cgroups_option(command: Command) -> Command:
    """Adds `--cgroups`."""
    return click.option(
        "--cgroups",
        default="auto",
        show_default=True,
        metavar="auto|all|off|DIR",
        callback=_absolute_group,
        help="Which tasks get control groups: those that need one, all, none; all, below DIR.",
    )(command)


class ListenAddress(click.ParamType[tuple[str, int]]):
    """``HOST:PORT``, with an IPv6 host in brackets."""

    name = "HOST:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Host and port; anything else is a usage error."""
        if isinstance(value, tuple):
            return value
        host, colon, port = value.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            self.fail(f"{value!r} is not HOST:PORT", param, ctx)
        return host.strip("[]"), int(port)


class ServerAddress(click.ParamType[str]):
    """``http(s)://HOST[:PORT]``, without a path."""

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address without a slash at its end; anything else is a usage error."""
        if not value:
            return ""
        try:
            return base_url(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
