"""Starts one process, and says in one line why it could not."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from pathlib import Path
from typing import NamedTuple

from jobtasks.agent.cgroups import Group
from jobtasks.agent.slots import Slot
from jobtasks.protocol.messages import Assignment, JobBrief

DEFAULT_SIGNALS = (
    signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE, signal.SIGCHLD,
    signal.SIGXFSZ,
)  # fmt: skip
"""Ignored ones would stay ignored in the task."""

NODE_ERRORS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC})
"""Not the program's fault: the node has no room for another process now."""


class StartError(Exception):
    """The program cannot be executed; the message is one line for the user."""


class NodeBusyError(Exception):
    """The node cannot start a process now."""


def runs_script(assignment: Assignment, brief: JobBrief) -> bool:
    """Return whether it is the job's script that is started, and no command."""
    return not assignment.command and brief.script is not None


def words(assignment: Assignment, brief: JobBrief, directory: str | None) -> list[str]:
    """Return the command line: the task's command, else the job's script, else its command (R39).

    `directory`: where the script is on this node.

    Errors: `StartError` for none, or a script outside of its directory.
    """
    if assignment.command:
        return assignment.command
    if brief.script is not None:
        return [script_path(brief.script, directory)]
    if brief.command:
        return brief.command
    raise StartError("neither task nor job has a command or a script")


def script_path(script: str, directory: str | None) -> str:
    """Return the script's path; errors: `StartError` unless it is below its directory."""
    if not directory or not directory.startswith("/"):
        raise StartError(f"script_version is not an absolute directory: {directory!r}")
    if not script or script.startswith("/") or ".." in script.split("/"):
        raise StartError(f"script is not below script_version: {script!r}")
    return f"{directory}/{script}"


def told(error: StartError, assignment: Assignment, brief: JobBrief) -> str:
    """Return why a program was not started; of a script that is missing, why it was not sent."""
    if not runs_script(assignment, brief) or not assignment.script_remark:
        return str(error)
    if Path(f"{brief.script_version}/{brief.script}").exists():
        return str(error)
    return (
        f"{error}: it is not on this node, and the server did not send its directory:"
        f" {assignment.script_remark}"
    )


class Birth(NamedTuple):
    """A process to be started in a slot, in a session of its own."""

    command: list[str]
    variables: dict[str, str]
    slot: Slot
    group: Group | None
    """The slot's control group, when it is to be in that."""
    memory_kib: int
    """To what the group limits it, if it can; 0: to nothing."""


def spawn(birth: Birth) -> int:
    """Start a process; return its pid.

    If not in a control group, by posix_spawn (vfork: cheap whatever our size). It cannot change the
    child's directory, so ours is changed before: nothing else in the agent has a use for it.
    Errors: `StartError`, `NodeBusyError`.
    """
    command, variables, slot, group, memory_kib = birth
    program = command[0]
    start = os.posix_spawn if "/" in program else os.posix_spawnp
    try:
        if group is not None:
            fds = (*(fd for _, fd, _ in slot.actions), slot.directory)
            return group.start(command, variables, fds, memory_kib)
        os.fchdir(slot.directory)
        return start(
            program,
            command,
            variables,
            file_actions=slot.actions,
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )
    except OSError as error:
        if error.errno in NODE_ERRORS:
            raise NodeBusyError(error.strerror) from None
        raise StartError(explain(program, error)) from None
    except ValueError as error:
        raise StartError(f"not a command line: {error}") from None


def explain(program: str, error: OSError) -> str:
    """Return why `program` could not be executed, naming what is missing."""
    path = program if "/" in program else shutil.which(program, mode=os.F_OK)
    if path is None or not os.path.lexists(path):
        where = "" if "/" in program else " (looked for on PATH)"
        return f"no such file: {program}{where}"
    if not Path(path).exists():
        return f"{error.strerror}: {path} is a link that leads nowhere"
    if Path(path).is_dir():
        return f"not executable: {path} is a directory"
    # Nothing else is opened below: who opens a pipe waits for ever.
    if not Path(path).is_file():
        return f"not executable: {path} is neither a program nor a script"
    if error.errno == errno.EACCES and not os.access(path, os.X_OK):
        return f"not executable: {path}"
    interpreter = next(iter(first_words(path)), "")
    if error.errno in (errno.ENOENT, errno.EACCES) and interpreter:
        return f"bad interpreter {interpreter!r} in the first line of {path}"
    if error.errno == errno.ENOEXEC:
        return f"exec format error: {path} is neither a binary for this machine nor begins with #!"
    if error.errno == errno.E2BIG:
        return f"arguments and environment are too large: {path}"
    return f"{error.strerror}: {path}"


def first_words(path: str) -> list[str]:
    """Return what a script's first line says after ``#!``, parted; [] when it says nothing."""
    try:
        with Path(path).open("rb") as file:
            line = file.readline(256)
    except OSError:
        return []
    if not line.startswith(b"#!"):
        return []
    # Only blanks and tabs part the words: what a Windows line end leaves belongs to the name.
    return [os.fsdecode(word) for word in re.split(rb"[ \t]+", line[2:].strip(b" \t\n"))]
