"""A pack: the directory of a job's script as one file, which agents fetch by its hash.

The file is a tar archive, not compressed, of directories, files and symbolic links; a directory
comes before what is in it. The hash is the SHA-256 of the file, in hexadecimal.
``GET /agent/v1/scripts/HASH`` with the agent token answers with the file.
"""

from __future__ import annotations

import re

ADDRESS = "/agent/v1/scripts/"
_HASH = re.compile(r"[0-9a-f]{64}")


def is_hash(text: str) -> bool:
    """Return whether a text can be the hash of a pack."""
    return _HASH.fullmatch(text) is not None


def is_inside(name: str) -> bool:
    """Return whether a member's name is a path below the directory, and the only one of its kind.

    Neither absolute, nor with an empty part, ``.`` or ``..``.
    """
    return "\0" not in name and not {"", ".", ".."} & set(name.split("/"))


def leads_inside(name: str, target: str) -> bool:
    """Return whether a symbolic link `name` that points to `target` stays in the directory.

    It may go up at its beginning alone, from real directories: behind the name of another link
    ``..`` would lead from where that points to.
    """
    parts = target.split("/")
    up = next((place for place, part in enumerate(parts) if part != ".."), len(parts))
    below = "/".join(parts[up:])
    return up <= name.count("/") and (not below or is_inside(below))
