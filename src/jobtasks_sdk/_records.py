"""Jobs and tasks as a script sees them."""

from __future__ import annotations

import json
import os
import sys
from itertools import islice

from jobtasks_sdk._connection import environment, server

TYPE_CHECKING = False  # as in typing, which takes longer to import than this package
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

BULK_TASKS_MAX = 100_000
"""The most tasks that one call creates; `CurrentTask.create_many` makes several calls of more."""

BULK_BYTES_MAX = 32 * 1024 * 1024
"""The most bytes in one call of `CurrentTask.create_many`, unless one task alone is larger."""

RUN_TASKS = 100
"""Tasks that `CurrentTask.create_many` encodes at once."""

RUN_BYTES_MAX = 256 * 1024
"""The longest text of so many that is sent in one piece."""

PAGE_ITEMS = 1000
"""Tasks in one page of `Job.tasks`."""

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class Record:
    """A record of the API: its attributes, as attributes or by ``record["name"]``.

    It is fetched when an attribute is first looked at, and then kept; `refresh` forgets it.
    """

    resource = ""

    def __init__(self, uuid: str, known: dict[str, Any] | None = None, whole: bool = True) -> None:
        self.uuid = uuid
        self._known = known or {}
        self._whole = known is not None and whole

    def __getitem__(self, name: str) -> Any:
        if name not in self._known and not self._whole:
            self._fetch()
        return self._known[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"a {type(self).__name__} has no {name!r}") from None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uuid}>"

    def refresh(self) -> None:
        """Forget what is known; the next look at an attribute asks the server."""
        self._known, self._whole = {}, False

    def _fetch(self) -> None:
        self._learn(server().call("GET", f"/{self.resource}/{self.uuid}"))

    def _learn(self, record: dict[str, Any]) -> None:
        self._known, self._whole = record, True


class Job(Record):
    """A job: `script_parameters`, `runtime_constraints`, `state`, and all its other attributes."""

    resource = "jobs"

    def tasks(self, sequence: int | None = None) -> Iterator[Task]:
        """The job's tasks in order of arrival, all or those of one sequence; read page by page."""
        last = -1
        while True:
            page = self._page(sequence, last)
            for item in page:
                yield Task(item["uuid"], item)
            if len(page) < PAGE_ITEMS:
                return
            last = page[-1]["qsequence"]

    def attachment(self) -> bytes:
        """What the job's owner attached to it; raises `NotFound` until that has arrived."""
        return server().exchange("GET", f"/jobs/{self.uuid}/attachment")

    def _page(self, sequence: int | None, after: int) -> list[dict[str, Any]]:
        filters: list[list[Any]] = [["job_uuid", "=", self.uuid], ["qsequence", ">", after]]
        if sequence is not None:
            filters.append(["sequence", "=", sequence])
        query = {"filters": filters, "order": ["qsequence"], "limit": PAGE_ITEMS, "count": "none"}
        page: list[dict[str, Any]] = server().call("GET", "/job_tasks?" + _query(query))["items"]
        return page


class Task(Record):
    """A task: `sequence`, `parameters`, `output`, `success`, and all its other attributes."""

    resource = "job_tasks"


class CurrentTask(Task):
    """The task that this process runs: what only it may do (R7)."""

    def create(
        self,
        parameters: dict[str, Any] | None = None,
        sequence: int | None = None,
        runtime_constraints: dict[str, Any] | None = None,
        command: list[str] | None = None,
    ) -> Task:
        """Create a task of this job; it starts after this task is complete (R2, R3).

        `sequence` defaults to this task's + 1. Raises `Refused`, `ServerAway`.
        """
        body = _new_task(parameters, sequence, runtime_constraints, command)
        record = server().call("POST", "/job_tasks", {"job_task": body})
        return Task(record["uuid"], record)

    def create_many(self, tasks: Iterable[dict[str, Any]]) -> list[str]:
        """Create many tasks in few calls, each given as the arguments of `create`; their uuids.

        Up to 100,000 go in one call. None of them exists for others before this task is
        complete, so a process that dies between two calls leaves nothing behind (R4).
        """
        uuids: list[str] = []
        for body in _bulk_bodies(tasks):
            uuids += server().call("POST", "/job_tasks", body)["uuids"]
        return uuids

    def progress(self, fraction: float) -> None:
        """Say how much is done, from 0 to 1; people see it. It is no verdict: see `complete`."""
        self._report({"progress": fraction})

    def complete(self, output: str | None = None) -> None:
        """Say that this task succeeded, with its part of the job's output (None leaves it alone).

        The verdict counts when the process has ended (R10); it may still write until then.
        """
        verdict: dict[str, Any] = {"success": True, "progress": 1.0}
        if output is not None:
            verdict["output"] = output
        self._report(verdict)

    def fail(self, reason: str) -> None:
        """Say that this task has failed for good: nothing is retried, the job will fail (R11).

        The reason goes to stderr, so it ends up in the task's `failed_log`; `output` is left
        alone. The process goes on: return from it afterwards. To be tried again instead, end
        without a verdict (raise, or exit with 75).
        """
        sys.stderr.write(f"{reason}\n")
        sys.stderr.flush()
        self._report({"success": False})

    def _report(self, changes: dict[str, Any]) -> None:
        self._learn(server().call("PATCH", f"/job_tasks/{self.uuid}", {"job_task": changes}))


def _new_task(
    parameters: dict[str, Any] | None = None,
    sequence: int | None = None,
    runtime_constraints: dict[str, Any] | None = None,
    command: list[str] | None = None,
) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if parameters is not None:
        given["parameters"] = parameters
    if sequence is not None:
        given["sequence"] = sequence
    if runtime_constraints is not None:
        given["runtime_constraints"] = runtime_constraints
    if command is not None:
        given["command"] = command
    return given


def _bulk_bodies(tasks: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Bodies of bulk creates, each within both limits."""
    parts: list[str] = []
    count = size = 0
    for part, more in _encoded_runs(tasks):
        if parts and (count + more > BULK_TASKS_MAX or size + len(part) > BULK_BYTES_MAX):
            yield _bulk_body(parts)
            parts, count, size = [], 0, 0
        parts.append(part)
        count += more
        size += len(part) + 1
    if parts:
        yield _bulk_body(parts)


def _encoded_runs(tasks: Iterable[dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """The tasks as JSON, neighbours in one piece, and how many these are.

    To encode a hundred small ones at once takes a third of the time. Large ones come one by one,
    so that they can go in different calls.
    """
    left = iter(tasks)
    while True:
        run = [_new_task(**task) for task in islice(left, min(RUN_TASKS, BULK_TASKS_MAX))]
        if not run:
            return
        text = _encode(run)
        if len(text) <= min(RUN_BYTES_MAX, BULK_BYTES_MAX):
            yield text[1:-1], len(run)
        else:
            for task in run:
                yield _encode(task), 1


def _bulk_body(parts: list[str]) -> bytes:
    return ('{"job_tasks":[' + ",".join(parts) + "]}").encode("ascii")


def _query(values: dict[str, Any]) -> str:
    """A query string, every value as JSON but plain text as it is."""
    return "&".join(
        f"{name}={_quoted(value if isinstance(value, str) else json.dumps(value))}"
        for name, value in values.items()
    )


def _quoted(text: str) -> str:
    """Percent-encoding without `urllib`, which takes long to import."""
    return "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 else f"%{byte:02X}"
        for byte in text.encode("utf-8")
    )


_job: Job | None = None
_task: CurrentTask | None = None


def current_job() -> Job:
    """The job of this process's task; the same object at every call. Raises `NotInATask`."""
    global _job
    if _job is None:
        _job = Job(environment("JOB_UUID"))
    return _job


def current_task() -> CurrentTask:
    """The task of this process; the same object at every call. Raises `NotInATask`.

    Its `sequence` and `qsequence` are in the environment already and cost no request.
    """
    global _task
    if _task is None:
        uuid = environment("TASK_UUID")
        known = {
            name: int(os.environ[variable])
            for name, variable in (("sequence", "TASK_SEQUENCE"), ("qsequence", "TASK_QSEQUENCE"))
            if os.environ.get(variable, "").isdigit()
        }
        _task = CurrentTask(uuid, known, whole=False)
    return _task
