"""How a command line describes a job: the options of ``run`` and ``submit``, and what is sent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jobtasks.cli.options import Assignment, Command


class CommandAfterDashes(click.Command):
    """What follows ``--`` is the command of the job, word by word, whatever it looks like."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Keep the words after the first ``--`` from being read as options."""
        if "--" in arguments:
            place = arguments.index("--")
            context.meta["command"] = arguments[place + 1 :]
            arguments = arguments[:place]
        return super().parse_args(context, arguments)


def describes_a_job(command: Command) -> Command:
    """SCRIPT, -p, -c, --input: the arguments of `job_body`."""
    options: list[Callable[[Command], Command]] = [
        click.argument("script", required=False, metavar="SCRIPT | -- COMMAND..."),
        click.option(
            "-p", "parameters", multiple=True, type=Assignment(), help="A script parameter."
        ),
        click.option(
            "-c",
            "constraints",
            multiple=True,
            type=Assignment(),
            metavar="CONSTRAINT=VALUE",
            help="A runtime constraint.",
        ),
        click.option(
            "--input", "input_path", metavar="PATH", help="The parameter `input`, made absolute."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def job_body(
    script: str | None,
    parameters: tuple[tuple[str, Any], ...],
    constraints: tuple[tuple[str, Any], ...],
    input_path: str | None,
) -> dict[str, Any]:
    """The body of POST jobs. Raises click.UsageError for a script that is none."""
    script_parameters = dict(parameters)
    if input_path is not None:
        script_parameters["input"] = _existing(input_path)
    return {
        **_program(script),
        "script_parameters": script_parameters,
        "runtime_constraints": dict(constraints),
    }


def _program(script: str | None) -> dict[str, Any]:
    words = click.get_current_context().meta.get("command")
    if (script is None) == (words is None):
        raise click.UsageError("Give either SCRIPT or -- and a command.")
    if script is None:
        if not words:
            raise click.UsageError("There is no command after --.")
        return {"command": words}
    path = Path(script).absolute()
    _check_script(path, script)
    return {"script": path.name, "script_version": str(path.parent)}


def _check_script(path: Path, given: str) -> None:
    if not path.exists():
        raise click.UsageError(f"There is no script {given}.")
    if not path.is_file():
        raise click.UsageError(f"{given} is not a file.")
    if not os.access(path, os.X_OK):
        raise click.UsageError(f"{given} is not executable: chmod +x {given}")


def _existing(path: str) -> str:
    if not os.path.lexists(path):
        raise click.UsageError(f"There is no input {path}.")
    return str(Path(path).absolute())
