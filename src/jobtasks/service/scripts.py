"""Whether a job's script can be started, as far as the server can see (R14, R39).

Looks at the file system, which may hang: called before the transaction, never in it.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

from jobtasks.core.errors import Invalid


def check(script: Any, script_version: Any) -> None:
    """Raise `Invalid` when the script is seen to be missing, a directory or not executable.

    A directory that this machine does not have is not judged: the attempt will tell.
    """
    if not isinstance(script, str) or not script or not isinstance(script_version, str):
        return
    check_form(script, script_version)
    try:
        _check_file(script, script_version)
    except (OSError, ValueError) as error:
        # A name that no file can have, or a directory that the server may not look into.
        reason = getattr(error, "strerror", None) or error
        raise Invalid(f"script cannot be looked at: {reason}") from None


def _check_file(script: str, script_version: str) -> None:
    directory = Path(script_version)
    if not directory.is_dir():
        return
    path = directory / script
    if not path.resolve().is_relative_to(directory.resolve()):
        raise Invalid(f"script {script} leads out of its script_version directory")
    if not path.exists():
        raise Invalid(f"script {script} does not exist in {script_version}")
    if path.is_dir():
        raise Invalid(f"script {script} is a directory, not an executable file")
    if not path.is_file():
        raise Invalid(f"script {script} is not a file")
    if not os.access(path, os.X_OK):
        raise Invalid(f"script {script} is not executable: chmod +x {path}")


def check_form(script: str, script_version: str | None) -> None:
    """Raise `Invalid` unless the script is a path below an absolute directory."""
    if not script_version:
        raise Invalid("script_version attribute must be specified: the directory of the script")
    if not script_version.startswith("/"):
        raise Invalid("script_version must be an absolute directory (git is not supported yet)")
    path = PurePosixPath(script)
    if path.is_absolute() or ".." in path.parts:
        raise Invalid("script must be a path below its script_version directory")
