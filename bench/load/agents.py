"""Simulated agents: each keeps its node and the server in step, as a real one does."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

import msgspec

from bench.load.line import Line
from jobtasks.agent.pace import Pace
from jobtasks.protocol.messages import VERSION, Alive, Ended, EndKind, Join, Joined, Stop, Sync

MSGPACK = "application/msgpack"
RETRY_SECONDS = 0.5


class Given(msgspec.Struct):
    """What is read of an `Assignment`."""

    attempt: int
    token: str
    job: str
    sequence: int
    slot: int


class Told(msgspec.Struct):
    """What is read of `Orders`."""

    rejoin: bool = False
    acknowledged: list[int] = []
    start: list[Given] = []
    stop: list[Stop] = []
    ask: list[int] = []
    jobs_over: list[str] = []


_encode = msgspec.msgpack.Encoder().encode
_told = msgspec.msgpack.Decoder(Told)
_joined = msgspec.msgpack.Decoder(Joined)


@dataclass
class Watched:
    """What all agents together did."""

    started: int = 0
    """Attempts, the seed's not counted."""
    acknowledged: int = 0
    """Ends that are on record."""
    syncs: int = 0
    busy_seconds: float = 0.0
    """Slot time at work, of attempts that have ended."""
    first_start: float = 0.0
    last_acknowledged: float = 0.0
    """Both by the monotonic clock."""
    troubles: Counter[str] = field(default_factory=Counter)
    """Answers other than 200, attempts that the server gave up, agents that had to join again."""


Plant = Callable[[Given, Callable[[], None]], None]
"""Creates a job's tasks for its seed; then calls what ends the seed."""


class Agent:
    """One node's agent; its tasks take `task_seconds` each."""

    def __init__(
        self,
        address: tuple[str, int],
        token: str,
        slots: int,
        task_seconds: float,
        watched: Watched,
        plant: Plant,
    ) -> None:
        def line(call: str) -> Line:
            return Line(address, f"/agent/v1/{call}", token, MSGPACK)

        self._name = secrets.token_hex(8)
        self._joining = line("join")
        self._lines = (line("sync"), line("sync"))
        self._slots = slots
        self._task_seconds = task_seconds
        self._watched = watched
        self._plant = plant
        self._number = 0
        self._running: dict[int, tuple[int, float]] = {}
        """Slot and start of each attempt that runs."""
        self._ended: dict[int, Ended] = {}
        self._untold = 0
        """Of these, those that no sync has named yet."""
        self._pace = Pace(slots)
        """Ends go together as those of real agents do."""
        self._free = set(range(1, slots + 1))
        self._recent: deque[int] = deque(maxlen=4 * slots)
        """Attempts that are over: an answer that was overtaken may name them once more."""
        self._unknown: list[int] = []
        self._jobs: set[str] = set()
        self._news = False
        self._gathering = False
        self._leaving = False

    async def join(self) -> None:
        """Present itself and begin."""
        message = Join(
            VERSION, self._name, self._name, self._name, self._slots, 1_000_000, 64, 1000
        )
        status, body = await self._joining.ask(_encode(message))
        if status != 200:
            raise RuntimeError(f"join: {status} {body[:200]!r}")
        self._joining.close()
        joined = _joined.decode(body)
        self._agent, self._wait_seconds = joined.agent, joined.renew_seconds
        self._sync()

    def leave(self) -> None:
        """Say nothing more."""
        self._leaving = True
        for line in self._lines:
            line.close()

    def busy_seconds(self, now: float) -> float:
        """Return the slot time at work of what runs now, at most what each task takes."""
        return sum(min(now - start, self._task_seconds) for _, start in self._running.values())

    def _sync(self) -> None:
        """Say what is to be said, beside the call that waits when there is news."""
        first, second = self._lines
        busy = first.busy + second.busy
        if self._leaving or busy == 2 or (busy and not self._news):
            return
        line = second if first.busy else first
        self._news = False
        self._untold = 0
        self._number += 1
        self._watched.syncs += 1
        message = Sync(
            self._agent,
            self._number,
            running=[Alive(attempt) for attempt in self._running],
            ended=list(self._ended.values()),
            unknown=self._unknown,
            free_slots=list(self._free),
            jobs_known=list(self._jobs),
            wait_seconds=self._wait_seconds,
        )
        self._unknown = []
        line.post(_encode(message), self._take)

    def _take(self, status: int, body: bytes) -> None:
        if status != 200:
            self._watched.troubles[f"status {status}"] += 1
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._sync)
            return
        told = _told.decode(body)
        if told.acknowledged:
            self._forget(told.acknowledged)
        if told.start:
            self._start(told.start)
        if told.rejoin or told.stop or told.ask or told.jobs_over:
            self._take_rare(told)
        self._sync()

    def _forget(self, acknowledged: list[int]) -> None:
        for attempt in acknowledged:
            if self._ended.pop(attempt, None) is not None:
                self._watched.acknowledged += 1
                self._recent.append(attempt)
        self._watched.last_acknowledged = monotonic()

    def _take_rare(self, told: Told) -> None:
        if told.rejoin:
            self._watched.troubles["unknown to the server"] += 1
        for stop in told.stop:
            slot, _ = self._running.pop(stop.attempt, (0, 0.0))
            if slot:
                self._free.add(slot)
                self._watched.troubles["stopped"] += 1
                if not stop.discard:
                    self._ended[stop.attempt] = Ended(stop.attempt, EndKind.STOPPED)
        live = self._running.keys() | self._ended.keys()
        self._unknown += [attempt for attempt in told.ask if attempt not in live]
        self._jobs.difference_update(told.jobs_over)

    def _start(self, given: list[Given]) -> None:
        """Start what is new: a seed plants its job, anything else ends when its time is over."""
        now = monotonic()
        loop = asyncio.get_running_loop()
        for one in given:
            attempt = one.attempt
            if attempt in self._running or attempt in self._ended or attempt in self._recent:
                continue
            self._jobs.add(one.job)
            self._running[attempt] = (one.slot, now)
            self._free.discard(one.slot)
            self._news = True
            if one.sequence == 0:
                self._plant(one, partial(self._expire, attempt))
                continue
            self._watched.started += 1
            self._watched.first_start = self._watched.first_start or now
            if self._task_seconds:
                loop.call_later(self._task_seconds, self._expire, attempt)
            else:
                self._end(attempt)

    def _end(self, attempt: int) -> None:
        """The process of an attempt ends, with success."""
        slot, start = self._running.pop(attempt, (0, 0.0))
        if not slot:
            return
        self._free.add(slot)
        self._ended[attempt] = Ended(attempt, EndKind.EXIT, exit_code=0)
        self._untold += 1
        seconds = monotonic() - start
        self._pace.note(seconds, is_success=True)
        self._watched.busy_seconds += min(seconds, self._task_seconds)

    def _expire(self, attempt: int) -> None:
        """The time of an attempt is over; what ends in the next moment goes along."""
        self._end(attempt)
        self._news = True
        seconds = self._pace.gather_seconds(self._untold, is_busy=bool(self._running))
        if not seconds:
            self._sync()
        elif not self._gathering:
            self._gathering = True
            asyncio.get_running_loop().call_later(seconds, self._gathered)

    def _gathered(self) -> None:
        self._gathering = False
        if self._news:
            self._sync()
