"""An agent that waits takes new work in the commit that brings it (api/edge.py)."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from tests.api.conftest import LIMIT_SECONDS, Api, LiveServer, Node

from jobtasks.core.settings import Settings
from jobtasks.protocol.messages import Orders
from jobtasks.service.context import Context
from jobtasks.store import drivers


class Quiet:
    """A server at which nobody writes but the test, and how many pieces went into each commit."""

    def __init__(self, folder: Path) -> None:
        self.server = LiveServer(folder, Settings(tick_seconds=3600.0, lease_seconds=7200.0))
        self.api = Api(self.server)
        self.node = self.api.node(slots=1)
        self.commits: list[int] = []
        self.server.store.count_commits(lambda seconds, pieces: self.commits.append(pieces))
        self._threads = ThreadPoolExecutor(1)

    def waiting(self) -> None:
        """Return when the node's sync waits at the server."""
        seats = self.server.edge.hub.seats
        self.orders = self._threads.submit(self.node.sync, wait_seconds=LIMIT_SECONDS)
        until = threading.Event()
        while not any(seat._event._waiters for seat in seats._waiting):
            until.wait(0.001)

    def given(self) -> Orders:
        """Return what the waiting sync is answered with."""
        return self.orders.result(LIMIT_SECONDS)

    def close(self) -> None:
        self.api.close()
        self._threads.shutdown()
        self.server.close()


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Quiet]:
    monkeypatch.setattr(drivers, "LOOP_SECONDS", LIMIT_SECONDS)
    quiet = Quiet(tmp_path)
    # The tokens' first use is noted in commits of their own.
    end_one(quiet, quiet.node)
    yield quiet
    quiet.close()


def end_one(quiet: Quiet, node: Node) -> None:
    quiet.api.job()
    node.end(node.next_assignment().attempt)


def test_a_new_job_starts_in_the_commit_that_creates_it(quiet: Quiet) -> None:
    """One commit holds both, and both are answered; the end is another.

    Not where the writer is a thread's, as on PostgreSQL.
    """
    together = [1, 1] if quiet.server.store.is_shared else [2]
    quiet.waiting()
    del quiet.commits[:]
    job = quiet.api.job()
    (given,) = quiet.given().start
    assert (given.job, quiet.commits) == (job["uuid"], together)
    quiet.node.end(given.attempt)
    assert quiet.api.get(f"jobs/{job['uuid']}")["state"] == "Complete"
    assert quiet.commits == [*together, 1]


def test_what_a_write_brings_is_freed_with_it(quiet: Quiet) -> None:
    """Without the collector, which comes seldom: slices of a large create are megabytes."""
    edge = quiet.server.edge

    async def write() -> weakref.ref[Brought]:
        brought = Brought()
        freed = weakref.ref(brought)
        await edge.commit(partial(take, brought), brief=True)
        del brought
        await edge.commit(lambda ctx: None, brief=True)
        return freed

    gc.disable()
    try:
        assert quiet.server.run(write())() is None
    finally:
        gc.enable()


class Brought:
    """What a write brings."""


def take(brought: Brought, ctx: Context) -> None:
    assert brought is not None


def test_what_is_refused_calls_nobody(quiet: Quiet) -> None:
    """A rehearsal, and a job that cannot be."""
    quiet.waiting()
    del quiet.commits[:]
    for query, status in (("?dry_run=true", 200), ("", 422)):
        body = {"command": ["true"]} if status == 200 else {"command": []}
        answer = quiet.api.http.post("/arvados/v1/jobs" + query, json=body)
        assert answer.status_code == status
    assert (quiet.commits, quiet.orders.done()) == ([], False)
    quiet.api.job()
    assert len(quiet.given().start) == 1
