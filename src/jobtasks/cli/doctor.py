"""``jobtasks doctor``: whether all is well, and what to do when it is not."""

from __future__ import annotations

from collections.abc import Iterator

import click

from jobtasks.cli import machine_checks, server_checks, state_checks
from jobtasks.cli.findings import Finding, Level, fail
from jobtasks.cli.options import format_option_without_id, state_option
from jobtasks.cli.output import Column, key, print_list
from jobtasks.cli.problems import ExitCode
from jobtasks.cli.servers import address_of_environment
from jobtasks.cli.state import StateDirectory
from jobtasks.core.errors import JobTasksError

COLORS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
COLUMNS: list[Column] = [("check", key("check")), ("level", key("level")), ("text", key("text"))]


@click.command(name="doctor")
@state_option
@format_option_without_id
def command(state: StateDirectory, form: str) -> int:
    """Look whether all is well: this machine, the state directory, the server and its nodes.

    Each line is ok, warn or fail, with what to do about it below. Nothing is changed, and no server
    is started. Exit code 1 when something fails, else 0.
    """
    found = list(findings(state))
    if form == "table":
        for finding in found:
            _print(finding)
    else:
        print_list([finding._asdict() for finding in found], COLUMNS, form)
    is_bad = any(finding.level is Level.FAIL for finding in found)
    return ExitCode.JOB_FAILED if is_bad else ExitCode.OK


def findings(state: StateDirectory) -> Iterator[Finding]:
    """Look at everything that concerns this command line: with a server elsewhere no directory."""
    yield from machine_checks.checks()
    try:
        elsewhere = address_of_environment(state)
        here = None if elsewhere else state.address()
    except (JobTasksError, OSError) as error:
        yield fail("server", str(error), "set JOBTASKS_URL and JOBTASKS_TOKEN, or use --state")
        return
    if elsewhere is not None:
        yield from server_checks.checks(elsewhere, "check JOBTASKS_URL, or start it there")
        return
    advice = f"start it with `jobtasks serve{state.option}`"
    of_server = list(server_checks.checks(here, advice)) if here else []
    is_served = any(one.check == "server" and one.level is Level.OK for one in of_server)
    yield from state_checks.checks(state, is_served=is_served)
    yield from of_server or [server_checks.no_address(state)]


def _print(finding: Finding) -> None:
    level = click.style(f"{finding.level.value:4}", fg=COLORS[finding.level], bold=True)
    click.echo(f"{level}  {finding.check}: {finding.text}")
    if finding.advice:
        click.echo(f"      {finding.advice}")
