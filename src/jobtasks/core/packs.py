"""What of a script's directory is sent to nodes, and why one is not sent."""

from __future__ import annotations

from typing import NamedTuple

MIB = 1 << 20
LEFT_OUT = frozenset({"__pycache__", "node_modules", "venv"})
"""What is made anew on each machine, and is large."""
NO_DIRECTORY = "the server has no such directory"
OWN = "the server keeps its own files there"
SCRIPT_LEFT_OUT = "the script is among what is not sent: hidden names, links that lead out, " + (
    ", ".join(sorted(LEFT_OUT))
)
UNSTEADY = "it changed all the time while the server read it"
OFF = "the server sends no directories"
YOUNG_SECONDS = 3600.0
"""A pack that was asked for so lately stays: a job that is about to be made may name it."""


class Pack(NamedTuple):
    """What became of the directory of a job's script."""

    hash: str | None
    """Under which agents fetch it; None: they do not."""
    remark: str | None
    """Why they do not, as part of a sentence; None: there is no script, or they do."""


NO_SCRIPT = Pack(None, None)


def is_left_out(name: str) -> bool:
    """Return whether a file or directory of this name is not sent.

    Hidden ones are not: what is beside a script by chance and nobody's business (``.git``,
    ``.ssh``, ``.env``, ``.venv``) has such names.
    """
    return name.startswith(".") or name in LEFT_OUT


def too_many(limit: int) -> str:
    """Return why a directory of more than `limit` files and directories is not sent."""
    return f"it has more than {limit:,} files" if limit else OFF


def too_large(limit_bytes: int) -> str:
    """Return why a directory of more than so many bytes is not sent."""
    return f"it has more than {limit_bytes / MIB:g} MiB"


def after_retry(found: Pack, earlier: Pack, is_kept: bool) -> Pack:
    """Return what a job that is tried again goes by: what its directory holds now, else what it
    held before, if that is still kept.
    """
    return earlier if found.hash is None and earlier.hash and is_kept else found


def is_over_due(is_known: bool, is_wanted: bool, idle_seconds: float, kept_seconds: float) -> bool:
    """Return whether a pack may go that nobody has asked for in so many seconds.

    `is_known`: some job has it; `is_wanted`: one that is not over. `kept_seconds` is how long those
    of jobs that are over stay, 0 for ever.
    """
    if is_wanted or idle_seconds < YOUNG_SECONDS:
        return False
    return not is_known or 0 < kept_seconds <= idle_seconds
