"""What goes wrong on the command line, and the exit codes that scripts rely on."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from jobtasks.core.errors import JobTasksError


class ExitCode(IntEnum):
    """How a command ends."""

    OK = 0
    """Everything succeeded."""
    JOB_FAILED = 1
    """The command did its part; the job failed."""
    USAGE = 2
    """The command line is wrong, or the server refused what it asks for."""
    NOT_FOUND = 3
    """There is no such job, task or attempt."""
    CANCELLED = 4
    """The job was cancelled."""
    TIMEOUT = 124
    """The job had not ended when the time was over; it goes on."""
    INFRASTRUCTURE = 125
    """The server could not be reached or started, or something broke."""
    INTERRUPTED = 130
    """Ctrl-C; the job is left as it is."""


OF_STATE = {
    "Complete": ExitCode.OK,
    "Failed": ExitCode.JOB_FAILED,
    "Cancelled": ExitCode.CANCELLED,
}
"""The exit code of each final state of a job."""


class Problem(JobTasksError):
    """One line that says what went wrong, one that says what to do about it."""

    def __init__(
        self,
        message: str,
        hint: str = "",
        exit_code: ExitCode = ExitCode.INFRASTRUCTURE,
        code: str = "",
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.code_to_exit_with = exit_code
        self.code_for_programs = code or exit_code.name.lower()


HINTS = {
    401: "the token does not belong to this server: check JOBTASKS_TOKEN, or use --state",
    403: "use the token of the job's owner, or the administrator's",
    404: "`jobtasks job list` and `jobtasks job tasks JOB` show what there is",
    503: "repeat it in a while",
}
"""What to do about a refusal, by HTTP status."""

_EXIT_CODES = {401: ExitCode.INFRASTRUCTURE, 404: ExitCode.NOT_FOUND}


def hint_of(error: JobTasksError) -> str:
    """What the user can do about it; empty when there is nothing to add."""
    return error.hint if isinstance(error, Problem) else HINTS.get(error.status, "")


def as_object(error: JobTasksError) -> dict[str, Any]:
    """What a program is told of an error: ``{"error": {code, message, hint, status}}``.

    `code` is stable: the server's own (docs/reference/api.md), or ours: the exit code's name or
    ``ambiguous``. `status` is the HTTP status, null where no server spoke.
    """
    is_ours = isinstance(error, Problem)
    code = error.code_for_programs if isinstance(error, Problem) else error.code
    return error_object(code, str(error), hint_of(error), None if is_ours else error.status)


def error_object(code: str, message: str, hint: str, status: int | None = None) -> dict[str, Any]:
    """The same from its parts; an empty hint is null."""
    parts = {"code": code, "message": message, "hint": hint or None, "status": status}
    return {"error": parts}


def exit_code_of(error: JobTasksError) -> ExitCode:
    """A refused request is a usage error: nothing ran, so no job has failed."""
    if isinstance(error, Problem):
        return error.code_to_exit_with
    if 400 <= error.status < 500:
        return _EXIT_CODES.get(error.status, ExitCode.USAGE)
    return ExitCode.INFRASTRUCTURE
