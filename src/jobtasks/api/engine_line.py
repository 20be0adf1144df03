"""The one line to an engine: its commands, one after the other, and whether it answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from jobtasks.core.requests import Sighting
from jobtasks.engines.base import Engine, Refused, Unclear

T = TypeVar("T")
MICROSECONDS = 1_000_000
ANSWER_SECONDS = 5.0
"""How long somebody who asks whether an engine answers waits for it."""

logger = logging.getLogger(__name__)


class Question(StrEnum):
    """What an engine is asked that changes nothing; it may know one and not the other."""

    LIMITS = "limits"
    REQUESTS = "requests"


class Silence(NamedTuple):
    """That an engine gives no answer to a question."""

    reason: str
    since: int
    """Unix microseconds: when it was found first."""


class EngineLine:
    """Has an engine's commands run in a thread of their own; all methods are the loop's."""

    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        self.engine = engine
        self._clock = clock
        self.heard_at: int | None = None
        """When it told last what was asked for, Unix microseconds; None: not yet."""
        self._silences: dict[Question, Silence] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._is_closed = False
        self._checking: asyncio.Future[Any] | None = None

    @property
    def silence(self) -> Silence | None:
        """What it gives no answer to, the longest; None: it answers, or was not asked yet."""
        return min(self._silences.values(), key=lambda one: one.since, default=None)

    def silent_seconds(self) -> float:
        """Return for how long it has given no answer, 0 when it answers."""
        silence = self.silence
        return (self._clock() - silence.since) / MICROSECONDS if silence else 0.0

    async def command(self, call: Callable[[], T]) -> T:
        """Return what the engine answers; errors: Refused, Unclear, as the engine's method."""
        if self._is_closed:
            raise Unclear("the server ends")
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def close(self) -> None:
        """Begin no further command."""
        self._is_closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def learn_limits(self) -> bool:
        """Ask what it can grant at most (R30); return whether it answered."""
        return await self._ask(Question.LIMITS, self.engine.limits) is not None

    async def look(self, names: Sequence[str]) -> list[Sighting] | None:
        """Return what it has of requests of these names, None when it gives no answer."""
        return await self._ask(Question.REQUESTS, lambda: self.engine.look(names))

    async def check(self, names: Sequence[str], seconds: float) -> None:
        """Find out whether it answers, unless it did within so many seconds; in a limited time."""
        is_news = self.heard_at is None or self._clock() > self.heard_at + seconds * MICROSECONDS
        if not is_news and self.silence is None:
            return
        if self._checking is None or self._checking.done():
            # One for all who ask: commands that hang would stand in line before the keeper's.
            self._checking = asyncio.gather(self.learn_limits(), self.look(names))
        try:
            await asyncio.wait_for(asyncio.shield(self._checking), ANSWER_SECONDS)
        except TimeoutError:
            self._unheard(Question.REQUESTS, f"nothing within {ANSWER_SECONDS:g} s")

    async def tell(self, call: Callable[[], T]) -> T | None:
        """Have something done of which looking tells what came; None when it gives no answer."""
        try:
            return await self.command(call)
        except Refused as refused:
            logger.warning("%s refused: %s", self.engine.name, refused)
        except Unclear as unclear:
            self._unheard(Question.REQUESTS, str(unclear))
        return None

    def _unheard(self, question: Question, reason: str) -> None:
        """Note that it gives no answer, and why; each reason is logged once."""
        known = self._silences.get(question)
        if known is None or known.reason != reason:
            logger.warning("%s gives no answer: %s", self.engine.name, reason)
            self._silences[question] = Silence(reason, known.since if known else self._clock())

    async def _ask(self, question: Question, call: Callable[[], T]) -> T | None:
        try:
            answer = await self.command(call)
        except (Refused, Unclear) as problem:
            self._unheard(question, str(problem))
            return None
        self.heard_at = self._clock()
        if self._silences.pop(question, None):
            logger.info("%s answers again", self.engine.name)
        return answer
