"""``jobtasks job report``: a job as one page that needs no server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from jobtasks.cli.client import Client
from jobtasks.cli.options import state_option
from jobtasks.cli.output import say
from jobtasks.cli.selectors import JOB, resolve
from jobtasks.cli.servers import look
from jobtasks.cli.state import StateDirectory

COLUMNS = 1000
BEHIND_SECONDS = 0.05
"""Between two looks at a timeline that the server has not read to its end."""


@click.command(name="report")
@click.argument("job")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    default="report.html",
    show_default=True,
    help="The file to write; - for stdout.",
)
@state_option
def report(job: str, path: Path, state: StateDirectory) -> None:
    """Write JOB as one page that needs no server.

    Counts, timeline, failures and parameters stand in one file, for a mail or a paper. Of a job
    that runs it shows how far it is now.
    """
    from jobtasks.web.report import render_report

    with look(state) as client:
        uuid = resolve(client, JOB, job)
        text = render_report(
            client.get(f"/jobs/{uuid}"),
            client.get(f"/jobs/{uuid}/levels")["items"],
            client.get(f"/jobs/{uuid}/families")["items"],
            _timeline(client, uuid),
            client.server,
            time.time_ns() // 1000,
        )
    if str(path) == "-":
        click.echo(text)
        return
    path.write_text(text, encoding="utf-8")
    say(f"wrote {path}")


def _timeline(client: Client, uuid: str) -> dict[str, Any]:
    """Return the whole timeline, when the server has read it."""
    while True:
        found: dict[str, Any] = client.get(f"/jobs/{uuid}/timeline", columns=COLUMNS)
        if not found["is_behind"]:
            return found
        time.sleep(BEHIND_SECONDS)
