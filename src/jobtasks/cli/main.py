"""The command ``jobtasks``: its subcommands, and how every error ends."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from jobtasks.cli.options import color_option
from jobtasks.cli.problems import ExitCode, as_object, error_object, exit_code_of
from jobtasks.core.errors import JobTasksError

COMMANDS = {
    "run": "Run a job here and now, with progress; print its output.",
    "map": "Run a command for each of many items, here and now.",
    "submit": "Give a job to a server; print its uuid.",
    "wait": "Wait until a job has ended.",
    "job": "Look at jobs; change, cancel, retry or delete them.",
    "logs": "Print what a job or a task has written, also while it runs.",
    "task": "Look at a task, its attempts and their logs.",
    "node": "Look at nodes; hold, drain, release or delete them.",
    "user": "Make, list and change the users of a server.",
    "token": "Make, list and revoke what lets people and programs in.",
    "serve": "Run the server.",
    "agent": "Run tasks of a server on this machine.",
    "admin": "Look after a server: remove what is old; back up, check; move jobs.",
    "doctor": "Look whether all is well, and say what to do.",
    "completion": "Print what lets a shell complete these commands.",
}
"""Every subcommand, in the order of ``--help``; each lives in the module of its name."""

NOUNS = ("job", "task", "node", "user", "token")
"""Those that have subcommands which people look for at the top."""


class LazyGroup(click.Group):
    """Imports a subcommand when it is used: ``serve`` needs no HTTP client, ``run`` no server."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All names, newcomers' commands first."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of that name, or None."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"jobtasks.cli.{name}")
        command: click.Command = module.command
        return command

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names that begin so, without importing any: a Tab is answered at once."""
        found = [
            CompletionItem(name, help=text)
            for name, text in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, context, incomplete)]

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words begin with; a wrong one is told what was perhaps meant."""
        name = arguments[0]
        if self.get_command(context, name) is None and not name.startswith("-"):
            context.fail(f"No such command {name!r}.{_perhaps(context, self, name)}")
        return super().resolve_command(context, arguments)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """One line each, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _perhaps(context: click.Context, group: LazyGroup, name: str) -> str:
    """What somebody may have meant who typed `name`: a command, or one of a noun."""
    found = difflib.get_close_matches(name, group.list_commands(context), n=1)
    for noun in NOUNS:
        command = group.get_command(context, noun)
        if isinstance(command, click.Group) and name in command.list_commands(context):
            found.append(f"{noun} {name}")
    meant = " or ".join(f"`jobtasks {each}`" for each in found)
    return f" Did you mean {meant}?" if found else ""


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all succeeded, 1 the job failed, 2 usage, 3 not found, 4 cancelled, "
    "124 timeout, 125 infrastructure.",
)
@click.version_option(package_name="jobtasks", prog_name="jobtasks")
@color_option
def cli() -> None:
    """Run jobs made of tasks: a running task creates more, what dies is tried again."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code; never with a traceback.

    ``JOBTASKS_DEBUG=1`` shows the traceback of an error.
    """
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = cli.main(words, prog_name="jobtasks", standalone_mode=False)
        return result if isinstance(result, int) else ExitCode.OK
    except click.exceptions.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader went away (as `head` does); nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:
        return _report(error, wants_json(words))


def wants_json(words: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, also one that is wrong elsewhere."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--":
            return False
        if found := FORMAT.fullmatch(word):
            return (found[1] or following) in ("json", "jsonl")
    return False


FORMAT = re.compile(r"(?:-[a-zA-Z]*o=?|--format=?)(jsonl?|table|id|)")
"""A word that says how to print, or that the next one does."""


def _report(error: Exception, as_json: bool) -> int:
    """Say on stderr what went wrong and what to do, in lines or as a JSON object; the exit code."""
    if os.environ.get("JOBTASKS_DEBUG") and not isinstance(error, click.ClickException):
        import traceback

        traceback.print_exc()
    if isinstance(error, click.ClickException) and not as_json:
        error.show()
        return ExitCode.USAGE
    said, exit_code = _described(error)
    if as_json:
        click.echo(json.dumps(said, ensure_ascii=False), err=True)
        return exit_code
    click.echo("jobtasks: " + " ".join(said["error"]["message"].split()), err=True)
    if said["error"]["hint"]:
        click.echo(f"hint: {said['error']['hint']}", err=True)
    return exit_code


def _described(error: Exception) -> tuple[dict[str, Any], ExitCode]:
    if isinstance(error, click.ClickException):
        said = error_object("usage", error.format_message(), _usage_hint(error))
        return said, ExitCode.USAGE
    if isinstance(error, JobTasksError):
        return as_object(error), exit_code_of(error)
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        message, hint = f"{error.strerror or error}{where}", ""
    else:
        message = f"internal error: {type(error).__name__}: {error}"
        hint = "JOBTASKS_DEBUG=1 shows where it happened"
    return error_object("infrastructure", message, hint), ExitCode.INFRASTRUCTURE


def _usage_hint(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"`{context.command_path} --help` says more" if context else ""


if __name__ == "__main__":
    main()
