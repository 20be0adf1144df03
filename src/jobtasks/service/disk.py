"""Files that outlast a crash, and what a disk that refuses them means to whoever sends them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jobtasks.core.errors import Unavailable


@contextlib.contextmanager
def room_needed(what: str) -> Iterator[None]:
    """Have a disk that refuses to take `what`, as a sentence begins with it, be a passing trouble.

    Raises:
        Unavailable: an OSError within.
    """
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{what} cannot be stored: {error.strerror}") from None


def sync_directory(path: Path) -> None:
    """Have the names in a directory on disk; errors: OSError."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
