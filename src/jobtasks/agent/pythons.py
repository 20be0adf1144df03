"""Which command lines are programs of Python, and of which interpreter."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from functools import lru_cache
from typing import NamedTuple

from jobtasks.agent import launcher

_PYTHON = re.compile(r"python(3(\.[0-9]+)?)?")


class Program(NamedTuple):
    """A command line, as the interpreter sees it."""

    interpreter: str
    """Its path, as the command line or the script's first line names it."""
    line: list[str]
    """Its own name; a script's path, ``-c`` and code, or ``-m`` and a module; and arguments."""
    name: str
    """What the system calls the process."""


def program(command: list[str]) -> Program | None:
    """Return the program of Python that a command line runs; None when it runs none.

    Nor when it gives the interpreter options, or when a shell, another script or an archive stands
    between: whatever is less than certain starts as it always did.
    """
    path, arguments = command[0], command[1:]
    if _PYTHON.fullmatch(path.rpartition("/")[2]):
        interpreter = _interpreter(path) if _runs(arguments) else None
        return Program(interpreter, command, path.rpartition("/")[2]) if interpreter else None
    if not path.startswith("/") or not os.access(path, os.X_OK):
        return None
    return _named_by(path, command)


def _runs(arguments: list[str]) -> bool:
    """Whether an interpreter with these arguments runs a program, and takes no option before."""
    if not arguments or arguments[0] in ("-c", "-m"):
        return len(arguments) > 1
    return arguments[0].startswith("/") and _first_words(arguments[0]) is not None


def _named_by(script: str, command: list[str]) -> Program | None:
    """Return the program, if the script's first line names an interpreter of Python."""
    match _first_words(script):
        case (env, name) if env.rpartition("/")[2] == "env" and "/" not in name:
            shown = name
        case (name,) if name.startswith("/"):
            shown = script.rpartition("/")[2]
        case _:
            return None
    interpreter = _interpreter(name)
    return Program(interpreter, [name, *command], shown) if interpreter else None


def _interpreter(name: str) -> str | None:
    """Return the path of a Python that is named so, and is no script that looks for another."""
    if not _PYTHON.fullmatch(name.rpartition("/")[2]):
        return None
    path = name if name.startswith("/") else shutil.which(name)
    return path if path and _first_words(path) == () else None


def _first_words(path: str) -> tuple[str, ...] | None:
    """Return the words after ``#!``, () without; None when it is no file that Python can read."""
    try:
        seen = os.stat(path)  # noqa: PTH116 (on the path of every task)
    except OSError:
        return None
    return _look(path, seen.st_mtime_ns, seen.st_size, seen.st_ino)


@lru_cache(256)
def _look(path: str, *_: int) -> tuple[str, ...] | None:
    # A pipe would be waited for; an archive is run by other means.
    if not os.path.isfile(path) or zipfile.is_zipfile(path):  # noqa: PTH113
        return None
    return tuple(launcher.first_words(path))
