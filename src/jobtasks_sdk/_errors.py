"""Every error a script can meet, as one tree.

JobTasksError
├── NotInATask            JOB_UUID, TASK_UUID or the server's address is not in the environment
├── ServerAway            the server stayed away for all of the patience
└── Refused               the server said no; repeating the call would not help
    ├── Forbidden         403
    │   └── StaleAttempt  403  this attempt is over: stop, another one may be at work
    └── NotFound          404
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, which takes longer to import than this package
if TYPE_CHECKING:
    from collections.abc import Sequence


class JobTasksError(Exception):
    """Anything that this package raises."""


class NotInATask(JobTasksError):
    """This process was not started as a task: a variable of its environment is missing."""


class ServerAway(JobTasksError):
    """The server could not be reached, or could not serve, until the patience was over."""


class Refused(JobTasksError):
    """The server refused the call.

    `status` is the HTTP status, `messages` say why, `code` is the same in one word for programs.
    """

    def __init__(self, status: int, messages: Sequence[str], code: str = "") -> None:
        self.status = status
        self.messages = list(messages)
        self.code = code
        super().__init__("{}: {}".format(status, "; ".join(messages) or "no reason given"))


class Forbidden(Refused):
    """This task's token may not do that (403)."""


class StaleAttempt(Forbidden):
    """This attempt is over and its token dead; nothing was changed (R32)."""


class NotFound(Refused):
    """There is no such record, or this task may not see it (404)."""
