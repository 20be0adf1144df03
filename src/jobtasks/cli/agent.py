"""``jobtasks agent``: run tasks of a server on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from jobtasks.cli.options import cgroups_option
from jobtasks.cli.state import default_state_path
from jobtasks.engines.local import keeper_command

DEFAULT_NAME = "jobtasks-node"


@click.command(name="agent")
@click.option("--server", required=True, metavar="URL", help="Address of the server.")
@click.option("--token-file", metavar="FILE", help="Holds the agent token.")
@click.option(
    "--join",
    metavar="TOKEN",
    help="The agent token itself; the node's directory keeps it. -: read from stdin.",
)
@click.option(
    "--node-dir",
    metavar="DIR",
    help="The node's own directory. Default: jobtasks-node beside a server's default state.",
)
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM: what an https server's certificate must lead to.",
)
@click.option("--slots", type=click.IntRange(min=1), help="Tasks at a time; default: cores.")
@click.option("--pass-env", multiple=True, metavar="NAME", help="A variable that tasks inherit.")
@cgroups_option
@click.option(
    "--in-place",
    is_flag=True,
    help="This machine sees the server's directories: start scripts where they are.",
)
def command(
    server: str,
    token_file: str | None,
    join: str | None,
    node_dir: str | None,
    ca_file: Path | None,
    slots: int | None,
    pass_env: tuple[str, ...],
    cgroups: str,
    in_place: bool,
) -> None:
    """Run tasks of a server on this machine until TERM: then end them in good order.

    This process becomes the keeper, which starts the agent and starts it again when it dies.
    """
    node = Path(node_dir) if node_dir else default_state_path().with_name(DEFAULT_NAME)
    token = _token_file(node, token_file, join)
    words = keeper_command(
        server, token, node, slots, pass_env, ca_file, cgroups, in_place=in_place
    )
    os.execv(words[0], words)


def _token_file(node: Path, given: str | None, join: str | None) -> Path:
    """Return the file that holds the agent token: the one given, or the node's own."""
    kept = node / "agent.token"
    if join is not None and given is not None:
        raise click.UsageError("Give --join or --token-file, not both.")
    if join is None:
        if given is None and not kept.exists():
            raise click.UsageError("Missing option '--join' (or '--token-file').")
        return Path(given) if given else kept
    token = sys.stdin.readline().strip() if join == "-" else join.strip()
    if not token:
        raise click.BadParameter("the token is empty", param_hint="'--join'")
    node.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept.unlink(missing_ok=True)
    with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{token}\n")
    return kept
