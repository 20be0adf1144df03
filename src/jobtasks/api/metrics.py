"""``/metrics``: what the server counted and what the database says, as Prometheus reads it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from itertools import accumulate

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.edge import Edge
from jobtasks.api.meters import BOUNDS_SECONDS, Histogram, Meters
from jobtasks.service import census
from jobtasks.service.census import Census
from jobtasks.store.pause import Pause

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = dict[str, str]
Sample = tuple[Labels, float]


class Metrics:
    """The handler of ``/metrics``."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> list[Route]:
        """Return the route of the metrics."""
        return [Route("/metrics", self.show, methods=["GET"])]

    async def show(self, request: Request) -> Response:
        """Answer with counts, times and ages for Prometheus; for administrators' tokens."""
        found = await self._edge.read(request, census.take)
        room = await self._edge.in_thread(self._room)
        pauses = _of_pauses(self._edge.pauses)
        engine = self._engine()
        lines = [*_of_census(found), *room, *_of_meters(self._edge.meters), *pauses, *engine]
        return Response("\n".join([*lines, ""]), media_type=CONTENT_TYPE)

    def _engine(self) -> Iterable[str]:
        """Return how long the engine has been silent, if there is one."""
        line = self._edge.engine_line
        if line is None:
            return ()
        text = "Since the engine gives no answer; 0 while it does."
        value = line.silent_seconds()
        return _family("jobtasks_engine_silent_seconds", "gauge", text, [({}, value)])

    def _room(self) -> list[str]:
        """Return what things take on disk; logs as they were measured last, if ever."""
        database = self._edge.store.space()
        logs_bytes = self._edge.meters.logs_disk_bytes
        free_bytes = shutil.disk_usage(self._edge.world.log_dir).free
        gauges = (
            ("jobtasks_database_bytes", "The database on disk.", database.bytes),
            (
                "jobtasks_database_free_bytes",
                "Of these, what is used again before it grows.",
                database.free_bytes,
            ),
            ("jobtasks_logs_disk_bytes", "Attempts' logs on disk, at times.", logs_bytes),
            ("jobtasks_disk_free_bytes", "Free space where the logs are.", free_bytes),
        )
        return [
            line
            for name, text, value in gauges
            if value is not None
            for line in _family(name, "gauge", text, [({}, value)])
        ]


def _of_census(found: Census) -> Iterator[str]:
    yield from _family("jobtasks_jobs", "gauge", "Jobs by state.", _by("state", found.jobs.items()))
    yield from _family(
        "jobtasks_tasks", "gauge", "Tasks by state.", _by("state", found.tasks.items())
    )
    yield from _family(
        "jobtasks_nodes", "gauge", "Nodes by state.", _by("state", found.nodes.items())
    )
    gauges = (
        ("jobtasks_attempts_live", "Attempts that may have a process.", found.attempts_live),
        ("jobtasks_nodes_live", "Nodes whose agent is heard.", found.nodes_live),
        ("jobtasks_slots_live", "Slots of these nodes.", found.slots_live),
        (
            "jobtasks_notifications_waiting",
            "Notifications that were not delivered yet.",
            found.notices_waiting,
        ),
        (
            "jobtasks_oldest_queued_job_seconds",
            "Since the oldest queued job was created; 0 when none is.",
            found.oldest_job_seconds,
        ),
        (
            "jobtasks_oldest_ready_task_seconds",
            "Since the oldest task was created that could start were a slot free; 0 when none is.",
            found.oldest_task_seconds,
        ),
    )
    for name, text, value in gauges:
        yield from _family(name, "gauge", text, [({}, value)])


def _of_meters(meters: Meters) -> Iterator[str]:
    ended = _by("cause", sorted(meters.attempts_ended.copy().items()))
    name = "jobtasks_attempts_ended_total"
    yield from _family(name, "counter", "Attempts that ended, by cause.", ended)
    told = _by("outcome", sorted(meters.notices.copy().items()))
    name = "jobtasks_notifications_total"
    text = "Tries to tell somebody of a job's end, by outcome."
    yield from _family(name, "counter", text, told)
    counters = (
        ("jobtasks_lease_renewals_total", "Syncs that renewed leases.", meters.lease_renewals),
        ("jobtasks_log_bytes_total", "Bytes of attempts' logs that arrived.", meters.log_bytes),
        ("jobtasks_writes_total", "Writing calls that were committed.", meters.writes),
    )
    for name, text, value in counters:
        yield from _family(name, "counter", text, [({}, value)])
    requests = sorted(meters.requests.copy().items())
    samples = [
        ({"method": method, "route": route, "status": str(status)}, count)
        for (method, route, status), count in requests
    ]
    text = "Requests that were answered; route is empty for addresses that do not exist."
    yield from _family("jobtasks_requests_total", "counter", text, samples)
    text = "Streams of events that are open."
    yield from _family("jobtasks_streams_open", "gauge", text, [({}, meters.streams_open)])
    text = "Requests under way, those of agents left out."
    yield from _family("jobtasks_requests_open", "gauge", text, [({}, meters.requests_open)])
    text = "Time that a sync took to choose tasks for free slots."
    yield from _histogram("jobtasks_claim_seconds", text, meters.claims)
    text = "Time that a commit took to be on disk."
    yield from _histogram("jobtasks_commit_seconds", text, meters.commits)


def _of_pauses(pauses: Iterable[Pause]) -> Iterator[str]:
    paused = [({"what": pause.what}, int(bool(pause.reason))) for pause in pauses]
    yield from _family("jobtasks_paused", "gauge", "1 while it cannot be written.", paused)
    failed = [({"what": pause.what}, pause.failures) for pause in pauses]
    text = "Writes that failed or were refused, as the disk takes no more."
    yield from _family("jobtasks_failed_writes_total", "counter", text, failed)


def _by(label: str, values: Iterable[tuple[str, int]]) -> list[Sample]:
    return [({label: name}, count) for name, count in values]


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield _line(name, labels, value)


def _histogram(name: str, text: str, histogram: Histogram) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} histogram"
    bounds = (*(f"{bound:g}" for bound in BOUNDS_SECONDS), "+Inf")
    total = 0
    for bound, total in zip(bounds, accumulate(list(histogram.buckets)), strict=True):
        yield _line(f"{name}_bucket", {"le": bound}, total)
    yield _line(f"{name}_sum", {}, histogram.seconds)
    yield _line(f"{name}_count", {}, total)


def _line(name: str, labels: Labels, value: float) -> str:
    """Return one sample; no label's value of ours needs escapes but quotes and backslashes."""
    inner = ",".join(
        '{}="{}"'.format(key, text.replace("\\", r"\\").replace('"', r"\""))
        for key, text in labels.items()
    )
    return f"{name}{{{inner}}} {value}" if inner else f"{name} {value}"
