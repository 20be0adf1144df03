"""The engine of this machine: an agent is placed by starting its keeper."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def keeper_command(
    url: str,
    token_file: Path,
    node_dir: Path,
    slots: int | None,
    pass_env: Sequence[str],
    ca_file: Path | None = None,
    cgroups: str = "auto",
) -> list[str]:
    """Return the command line of a node's keeper, which starts and watches the agent.

    `slots` None: as many as the machine has cores. `pass_env` names variables that tasks inherit.
    `ca_file` holds the certificates by which a server at an https address is known; None: it must
    be known to the system. `cgroups`: `auto`, `all`, `off`, or a directory for the node's group.
    """
    command = [sys.executable, "-m", "jobtasks.agent.keeper", "--server", url]
    command += ["--token-file", str(token_file), "--node-dir", str(node_dir)]
    if slots is not None:
        command += ["--slots", str(slots)]
    if ca_file is not None:
        command += ["--ca-file", str(ca_file)]
    if cgroups != "auto":
        command += ["--cgroups", cgroups]
    for name in pass_env:
        command += ["--pass-env", name]
    return command
