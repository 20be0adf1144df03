"""One task: what it was given and gave, its attempts, their logs, and why it waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.job_tasks import JobTasks
from jobtasks.core.resources import is_digits
from jobtasks.core.states import JobState, TaskState
from jobtasks.service import explain, jobs, tasks, tree
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import AttemptRecord
from jobtasks.web import words
from jobtasks.web.pages import Pages

CHILDREN = 50
"""Of a task, that are shown at once."""


class TaskPages:
    """Request handlers of ``/tasks/{uuid}``."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._api = JobTasks(pages.edge)

    def routes(self) -> list[Route]:
        """Return the routes."""
        path = "/tasks/{uuid}"
        return [
            self._pages.route(path, self.show),
            self._pages.route(path + "/panel", self.panel),
            self._pages.route(path + "/log", self.log),
            self._pages.route(path + "/tree", self.generations),
            self._pages.route(path + "/tree/{sequence:int}", self.children),
        ]

    async def show(self, request: Request) -> Response:
        """Answer with a page of the task alone."""
        return await self._pages.page(request, "task.html", _loaded(request))

    async def panel(self, request: Request) -> Response:
        """Answer with what stands beside a list when a task of it was chosen."""
        return await self._pages.part(request, "_task.html", _loaded(request))

    async def generations(self, request: Request) -> Response:
        """Answer with how many tasks it created in each sequence."""
        uuid = request.path_params["uuid"]

        def load(ctx: Context, caller: Caller) -> Mapping[str, Any]:
            found = tree.children_by_sequence(ctx, caller, uuid)
            return {"task": tasks.show(ctx, caller, uuid), "generations": found}

        return await self._pages.part(request, "_generations.html", load)

    async def children(self, request: Request) -> Response:
        """Answer with some of the tasks that it created in one sequence."""
        uuid, sequence = request.path_params["uuid"], request.path_params["sequence"]
        given = request.query_params.get("after", "")
        after = int(given) if is_digits(given) and len(given) < 11 else -1

        def load(ctx: Context, caller: Caller) -> Mapping[str, Any]:
            found = tree.children(ctx, caller, uuid, sequence, after, CHILDREN + 1)
            more = found[CHILDREN - 1].qsequence if len(found) > CHILDREN else None
            return {
                "task": uuid,
                "sequence": sequence,
                "children": found[:CHILDREN],
                "more_after": more,
            }

        return await self._pages.part(request, "_children.html", load)

    async def log(self, request: Request) -> Response:
        """Answer with an attempt's log as the API has it: plain text."""
        answer = await self._api.log(request)
        if answer.status_code == 416:
            # The end of an empty log was asked for.
            return Response(b"", media_type="text/plain")
        if request.query_params.get("download"):
            answer.headers["Content-Disposition"] = "attachment; filename=task.log"
        return answer


def _loaded(request: Request) -> Any:
    uuid = request.path_params["uuid"]
    given = request.query_params.get("attempt", "")
    number = int(given[:9]) if is_digits(given) else None

    def load(ctx: Context, caller: Caller) -> Mapping[str, Any]:
        task = tasks.show(ctx, caller, uuid)
        attempts = tasks.attempts(ctx, caller, uuid)
        job = jobs.show(ctx, caller, task.job_uuid)
        is_waiting = task.state == TaskState.WAITING
        return {
            "task": task,
            "job": job,
            "state": words.task_word(task.state),
            "attempts": attempts,
            "chosen": _chosen(attempts, number),
            "reasons": explain.task_reasons(ctx, caller, uuid) if is_waiting else [],
            "may_retry": JobState(job.state) in (JobState.FAILED, JobState.CANCELLED)
            and task.state != TaskState.COMPLETE,
        }

    return load


def _chosen(attempts: list[AttemptRecord], number: int | None) -> AttemptRecord | None:
    """Return the attempt whose log is shown: the one asked for, else the newest."""
    for attempt in attempts:
        if attempt.number == number:
            return attempt
    return attempts[-1] if attempts else None
