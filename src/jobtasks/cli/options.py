"""Options and kinds of values that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from jobtasks.cli.state import StateDirectory, default_state_path
from jobtasks.core.addresses import base_url

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


def format_option(command: Command) -> Command:
    """``-o table|json``."""
    return click.option(
        "-o",
        "--format",
        "form",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How to print.",
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
