"""What is carried out beside the loop, with an engine that goes wrong (api/engine_keeper.py)."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.api.conftest import LIMIT_SECONDS, Api, LiveServer

from jobtasks.api import engine_line
from jobtasks.api.edge import now
from jobtasks.api.engine_keeper import EngineKeeper
from jobtasks.api.engine_line import EngineLine
from jobtasks.core.requests import Ask, RequestState, Sighting
from jobtasks.core.settings import Settings
from jobtasks.engines.base import Refused
from jobtasks.service import engines, jobs
from jobtasks.service.context import Caller, Context
from jobtasks.service.engines import RequestRow
from jobtasks.testing.engine import FakeAllocation, FakeEngine

QUICK = Settings(
    engine_poll_seconds=0.03,
    engine_settle_seconds=0.3,
    engine_asks_per_minute=10_000,
    engine_retry_seconds=0.02,
    tick_seconds=0.02,
)
ADMIN = Caller("admin", "zzzzz-tpzed-000000000000000")


class Kept:
    """A server with a fake engine and what keeps it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.server = LiveServer(folder, settings)
        self.engine = FakeEngine(number=100)
        self.server.edge.world.engine = "fake"
        self.server.edge.world.offer = self.engine.offer()
        self._keeping = self._keep()

    def _keep(self) -> Future[None]:
        self.server.edge.engine_line = EngineLine(self.engine, now)
        keeper = EngineKeeper(self.server.edge, self.server.edge.engine_line)
        return asyncio.run_coroutine_threadsafe(keeper.keep(), self.server._loop)

    def commit(self, work: Callable[[Context], Any]) -> Any:
        return self.server.run(self.server.edge.commit(work))

    def new_jobs(self, count: int) -> list[str]:
        """Queue so many jobs."""

        def create(ctx: Context) -> list[str]:
            made = [jobs.create(ctx, ADMIN, {"command": ["true"]}) for _ in range(count)]
            return [job.uuid for job in made]

        found: list[str] = self.commit(create)
        return found

    def requests(self) -> list[RequestRow]:
        return self.server.store.read(
            lambda tx: engines.open_requests(Context(tx, 0, self.server.edge.world))
        )

    def states(self) -> list[str]:
        return [row.state for row in self.requests()]

    def until(self, what: str, look: Callable[[], bool]) -> None:
        limit = time.monotonic() + LIMIT_SECONDS
        while not look():
            assert time.monotonic() < limit, (what, self.requests(), self.engine.allocations)
            time.sleep(0.01)

    def until_looked(self, times: int) -> None:
        """Wait until the engine was looked at so many times more."""
        before = self.engine.calls.count("look")
        self.until("it is looked at", lambda: self.engine.calls.count("look") >= before + times)

    def close(self) -> None:
        self.server._loop.call_soon_threadsafe(self.server.edge.hub.close)
        self._keeping.result(LIMIT_SECONDS)
        self.server.close()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path, QUICK)
    yield kept
    kept.close()


@pytest.fixture
def api(kept: Kept) -> Iterator[Api]:
    api = Api(kept.server)
    yield api
    api.close()


def test_requests_are_asked_for_and_ended(kept: Kept) -> None:
    """Each once; when their jobs are cancelled nothing is left."""
    made = kept.new_jobs(5)
    kept.until("all are granted", lambda: kept.states() == [RequestState.GRANTED] * 5)
    assert len(kept.engine.allocations) == 5
    kept.commit(lambda ctx: [jobs.cancel(ctx, ADMIN, uuid, None) for uuid in made])
    kept.until("all are over", lambda: kept.states() == [])
    assert kept.engine.live() == []


@pytest.mark.rule("R35", "R37")
def test_fifty_requests_that_time_out_after_they_were_taken_start_nothing_twice(
    kept: Kept,
) -> None:
    """They are looked for by name before anything is asked again."""
    kept.engine.times_out = True
    kept.new_jobs(50)
    kept.until("all are granted", lambda: kept.states() == [RequestState.GRANTED] * 50)
    names = [one.name for one in kept.engine.allocations]
    assert len(names) == len(set(names)) == 50


def test_a_request_that_was_lost_is_made_again(kept: Kept) -> None:
    """When the engine has shown for long enough that it has nothing of that name."""
    kept.engine.loses = True
    kept.new_jobs(1)
    kept.until("it is unknown", lambda: kept.states() == [RequestState.UNKNOWN])
    kept.until_looked(3)
    assert kept.engine.calls.count("ask") <= 2
    kept.engine.loses = False
    kept.until("it is granted", lambda: kept.states() == [RequestState.GRANTED])
    assert len(kept.engine.allocations) == 1


@pytest.mark.rule("R35")
@pytest.mark.parametrize("silence", ["is_silent", "is_empty"])
def test_silence_ends_nothing(kept: Kept, silence: str) -> None:
    """Whether the engine gives no answer, or one in which all is missing."""
    kept.new_jobs(3)
    kept.until("all are granted", lambda: kept.states() == [RequestState.GRANTED] * 3)
    setattr(kept.engine, silence, True)
    kept.until_looked(20)
    assert kept.states() == [RequestState.GRANTED] * 3
    assert kept.engine.calls.count("ask") == 3
    setattr(kept.engine, silence, False)
    kept.until_looked(2)
    assert kept.states() == [RequestState.GRANTED] * 3


def test_what_the_engine_says_is_gone_is_over(kept: Kept) -> None:
    """It was ended by somebody else, and forgotten; the job asks anew."""
    kept.new_jobs(1)
    kept.until("it is granted", lambda: kept.states() == [RequestState.GRANTED])
    kept.engine.allocations.clear()
    kept.until("another is granted", lambda: len(kept.engine.allocations) == 1)


def test_a_refusal_is_told_and_tried_again_later(kept: Kept) -> None:
    """What was refused is over; the next one may be granted."""
    kept.engine.refuse = "no money left"
    kept.new_jobs(1)
    kept.until("it is refused", lambda: kept.engine.calls.count("ask") >= 2)
    kept.engine.refuse = ""
    kept.until("it is granted", lambda: kept.states() == [RequestState.GRANTED])


def test_of_two_allocations_for_one_request_one_is_ended(kept: Kept) -> None:
    """A request that arrived after it had been given up."""
    kept.new_jobs(1)
    kept.until("it is granted", lambda: kept.states() == [RequestState.GRANTED])
    (first,) = kept.engine.allocations
    kept.engine.ask(first.name, first.ask)
    kept.until("one is left", lambda: kept.engine.live() == [first])
    assert kept.states() == [RequestState.GRANTED]


def test_the_next_server_goes_on(kept: Kept) -> None:
    """One that died before the engine's answer was written: the request is unknown, and found."""
    kept.engine.is_silent = True
    kept.new_jobs(1)
    kept.until("it is unknown", lambda: kept.states() == [RequestState.UNKNOWN])
    (row,) = kept.requests()
    taken = FakeAllocation("100", row.name, msgspec.json.decode(row.ask, type=Ask))
    kept.engine.allocations.append(taken)
    kept.engine.is_silent = False
    kept.until("it is granted", lambda: kept.states() == [RequestState.GRANTED])
    assert [one.id for one in kept.engine.allocations] == [taken.id]


def test_an_engine_is_not_asked_more_often_than_it_may_be(tmp_path: Path) -> None:
    """The rest waits for the next minute; jobs that are cancelled meanwhile ask for nothing."""
    settings = Settings(engine_asks_per_minute=3, engine_poll_seconds=0.03, tick_seconds=0.02)
    kept = Kept(tmp_path, settings)
    kept.new_jobs(6)
    kept.until("three are asked for", lambda: kept.engine.calls.count("ask") == 3)
    kept.until_looked(5)
    assert kept.engine.calls.count("ask") == 3
    assert kept.states().count(RequestState.WANTED) == 3
    kept.close()


def test_hosts_have_a_request_each(kept: Kept) -> None:
    """Whatever jobs there are; one that is over is asked for again."""
    kept.engine.hosts = ("a", "b")
    kept.until("both are granted", lambda: kept.states() == [RequestState.GRANTED] * 2)
    kept.engine.end(kept.engine.allocations[0].id, "REBOOT")
    kept.until("another", lambda: len(kept.engine.allocations) == 3)
    kept.until("both are granted", lambda: kept.states() == [RequestState.GRANTED] * 2)


def state_of(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.get("sys/engine")
    return found


def silent_seconds(api: Api) -> float:
    pattern = r"^jobtasks_engine_silent_seconds (.*)$"
    (value,) = re.findall(pattern, api.http.get("/metrics").text, re.MULTILINE)
    return float(value)


def test_people_are_told_what_became_of_requests(kept: Kept, api: Api) -> None:
    """How many are in which state, and why others brought no node."""
    kept.engine.refuse = "no such partition"
    kept.new_jobs(1)
    kept.until("it was refused", lambda: state_of(api)["failures"] != [])
    assert [failure["reason"] for failure in state_of(api)["failures"]] == ["no such partition"]
    kept.engine.refuse = ""
    kept.until("it is granted", lambda: state_of(api)["requests"]["granted"] == 1)
    found = state_of(api)
    assert (found["engine"], found["silence"], found["silent_since"]) == ("fake", None, None)
    assert found["heard_at"] is not None


def test_silence_is_told_while_it_lasts(kept: Kept, api: Api) -> None:
    """Though nothing is wanted of the engine: it is asked because somebody wants to know."""
    kept.engine.is_silent = True
    kept.until("it is noticed", lambda: state_of(api)["silence"] is not None)
    found = state_of(api)
    assert (found["silence"], silent_seconds(api) > 0) == ("it says nothing", True)
    assert state_of(api)["silent_since"] == found["silent_since"]
    kept.engine.is_silent = False
    kept.until("it is heard", lambda: state_of(api)["silence"] is None)
    assert silent_seconds(api) == 0


def test_who_asks_an_engine_that_hangs_is_told_so(
    kept: Kept, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a limited time; however many ask, one question stands in line."""
    monkeypatch.setattr(engine_line, "ANSWER_SECONDS", 0.05)
    go_on = threading.Event()
    asked = []

    def hang(names: Sequence[str]) -> list[Sighting]:
        asked.append(names)
        assert go_on.wait(LIMIT_SECONDS)
        return []

    monkeypatch.setattr(kept.engine, "look", hang)
    kept.until("it hangs", lambda: state_of(api)["silence"] == "nothing within 0.05 s")
    for _ in range(5):
        assert state_of(api)["silence"] is not None
    assert len(asked) == 1
    go_on.set()
    kept.until("it is heard", lambda: state_of(api)["silence"] is None)


def test_a_refusal_is_an_answer(kept: Kept, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that will not end something now is not silent; it is told again."""
    (made,) = kept.new_jobs(1)
    kept.until("it is granted", lambda: kept.states() == [RequestState.GRANTED])
    refusals = []

    def refuse(engine_id: str) -> None:
        refusals.append(engine_id)
        raise Refused("not now")

    with monkeypatch.context() as patched:
        patched.setattr(kept.engine, "cancel", refuse)
        kept.commit(lambda ctx: jobs.cancel(ctx, ADMIN, made, None))
        kept.until("it was refused twice", lambda: len(refusals) >= 2)
        assert state_of(api)["silence"] is None
    kept.until("it is over", lambda: kept.states() == [])
