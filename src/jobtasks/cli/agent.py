"""``jobtasks agent``: run tasks of a server on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import click

from jobtasks.cli.options import cgroups_option
from jobtasks.engines.local import keeper_command


@click.command(name="agent")
@click.option("--server", required=True, metavar="URL", help="Address of the server.")
@click.option("--token-file", required=True, metavar="FILE", help="Holds the agent token.")
@click.option("--node-dir", required=True, metavar="DIR", help="The node's own directory.")
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM: what an https server's certificate must lead to.",
)
@click.option("--slots", type=click.IntRange(min=1), help="Tasks at a time; default: cores.")
@click.option("--pass-env", multiple=True, metavar="NAME", help="A variable that tasks inherit.")
@cgroups_option
def command(
    server: str,
    token_file: str,
    node_dir: str,
    ca_file: Path | None,
    slots: int | None,
    pass_env: tuple[str, ...],
    cgroups: str,
) -> None:
    """Run tasks of a server on this machine until TERM: then end them in good order.

    This process becomes the keeper, which starts the agent and starts it again when it dies.
    """
    words = keeper_command(
        server, Path(token_file), Path(node_dir), slots, pass_env, ca_file, cgroups
    )
    os.execv(words[0], words)
