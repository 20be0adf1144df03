"""The options of ``jobtasks serve`` about who is told that a job is over."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jobtasks.core.notifying import Notifying, check_address


class Words(click.ParamType[tuple[str, ...]]):
    """A command line, split as a shell would split it; no shell runs it."""

    name = "COMMAND"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Its words; no words, or quotes that do not end, are usage errors."""
        try:
            words = tuple(shlex.split(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if not words or not words[0]:
            self.fail("there is no program", param, ctx)
        return words


class Address(click.ParamType[str]):
    """``https://HOST/PATH``, or ``@FILE`` with it inside: other users see command lines."""

    name = "ADDRESS|@FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address; a file that cannot be read, or anything else, is a usage error."""
        try:
            text = Path(value[1:]).read_text().strip() if value.startswith("@") else value
            return check_address(text)
        except OSError as error:
            self.fail(f"{value[1:]}: {error.strerror}", param, ctx)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_OPTIONS = (
    click.option(
        "--notify-command",
        type=Words(),
        help="Run at every job's end, with the job as JSON on stdin; by no shell.",
    ),
    click.option("--notify-url", type=Address(), help="POST every job's end there, as JSON."),
    click.option(
        "--notify-allow",
        type=Address(),
        multiple=True,
        help="Jobs may name addresses below this one in their constraint notify_url.",
    ),
    click.option(
        "--notify-secret-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Holds what the POSTs are signed with. Default: DIR/notify.secret, made once.",
    ),
)


def notify_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; it gets all but the last as one argument, `notifying`."""

    @functools.wraps(command)
    def with_notifying(
        *,
        notify_command: tuple[str, ...] | None,
        notify_url: str | None,
        notify_allow: tuple[str, ...],
        **others: Any,
    ) -> Any:
        notifying = Notifying(notify_command or (), notify_url or "", notify_allow)
        return command(notifying=notifying, **others)

    result: Callable[..., Any] = with_notifying
    for option in reversed(_OPTIONS):
        result = option(result)
    return result
