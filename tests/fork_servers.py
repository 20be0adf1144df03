"""Looks for the fork servers of an agent, from outside."""

from __future__ import annotations

import os
from pathlib import Path

from jobtasks.agent import forkserver, procfs


def fork_servers(agent: int) -> list[int]:
    """Return the pids of the fork servers that an agent has now.

    What they have just forked looks like them until it leaves their session.
    """
    name = Path(forkserver.__file__).name.encode()
    found = []
    for pid in procfs.children(agent):
        try:
            if os.getsid(pid) == pid and name in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
