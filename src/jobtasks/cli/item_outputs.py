"""What the tasks of a `jobtasks map` print: whole, each once, as they end or in order of items."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, takewhile
from typing import Any, BinaryIO

import msgspec

from jobtasks.cli.client import Client
from jobtasks.protocol.frames import STDOUT, TASK, parse_frames

FIRST_ITEMS = 32
"""Tasks in the first call of a look."""

PAGE_ITEMS = 500
"""Tasks in one call."""

LOG_SECONDS_MAX = 30.0
"""How long the log of a task that has ended is waited for: it comes right after the end."""

ENDED = ("complete", "failed")
ITEMS_SEQUENCE = 1
"""The level of the tasks; the seed that makes them is level 0."""

Item = dict[str, Any]
"""Qsequence, state and number of attempts of a task."""


class ItemOutputs:
    """Writes stdout of each task to `out`, stderr to `error`; remembers what is written."""

    def __init__(
        self,
        client: Client,
        job_uuid: str,
        keep_order: bool,
        out: BinaryIO,
        error: Callable[[bytes], None],
    ) -> None:
        self._client = client
        self._path = f"/jobs/{job_uuid}/logs"
        self._filters: list[list[Any]] = [
            ["job_uuid", "=", job_uuid],
            ["sequence", "=", ITEMS_SEQUENCE],
        ]
        self._keep_order = keep_order
        self._out = out
        self._error = error
        self._front = -1
        """All tasks up to this qsequence were looked at; in order: and are written."""
        self._open: list[int] = []
        """Those before the front that are not written yet."""
        self._written = (-1, 0)
        """The task whose output is being written, and how much of it is."""
        self._missing_since: dict[int, float] = {}

    def look(self, is_over: bool = False) -> bool:
        """Write what has ended meanwhile; whether all is written that will ever be.

        `is_over`: the job is final, what has not ended never will.
        """
        more = self._look_in_order if self._keep_order else self._look_at_ends
        more(is_over)
        self._out.flush()
        return is_over and not self._open and not self._page(self._front, 1)

    def _look_in_order(self, is_over: bool) -> None:
        for page in self._pages():
            ended = [item for item in page if _is_ended(item)]
            if not is_over:
                ended = list(takewhile(_is_ended, page))
            missing = self._write(_numbers(ended))
            if missing:
                self._front = missing[0] - 1
                return
            if ended or is_over:
                self._front = (page if is_over else ended)[-1]["qsequence"]
            if len(ended) < len(page) and not is_over:
                return

    def _look_at_ends(self, is_over: bool) -> None:
        known, self._open = self._open, []
        for start in range(0, len(known), PAGE_ITEMS):
            some = [["qsequence", "in", known[start : start + PAGE_ITEMS]]]
            self._take(self._list(some, PAGE_ITEMS), is_over)
        for page in self._pages():
            # Tasks start in order of qsequence: behind one that never started is nothing to see.
            begun = page if is_over else list(takewhile(lambda item: item["attempts"], page))
            self._take(begun, is_over)
            if begun:
                self._front = begun[-1]["qsequence"]
            if len(begun) < len(page):
                return

    def _take(self, items: list[Item], is_over: bool) -> None:
        missing = self._write(_numbers(filter(_is_ended, items)))
        going_on = [] if is_over else _numbers(item for item in items if not _is_ended(item))
        self._open += sorted([*missing, *going_on])

    def _pages(self) -> Iterator[list[Item]]:
        """What follows the front, wherever it is by then; mostly the first few are all."""
        limit = FIRST_ITEMS
        while page := self._page(self._front, limit):
            yield page
            limit = min(limit * 4, PAGE_ITEMS)

    def _page(self, after: int, limit: int) -> list[Item]:
        return self._list([["qsequence", ">", after]], limit)

    def _list(self, filters: list[list[Any]], limit: int) -> list[Item]:
        items: list[Item] = self._client.get(
            "/job_tasks",
            filters=[*self._filters, *filters],
            order=["qsequence"],
            select=["qsequence", "state", "attempts"],
            count="none",
            limit=limit,
        )["items"]
        return items

    def _write(self, numbers: list[int]) -> list[int]:
        """Write the outputs of these tasks; return those whose log is not here yet.

        In order, what follows such a task is not written either.
        """
        if not numbers:
            return []
        left = set(numbers)
        missing: list[int] = []

        def take(pieces: Iterator[bytes]) -> None:
            missing.clear()
            for about, frames in logs_in(pieces):
                number = about["qsequence"]
                if number not in left:
                    continue
                if (missing and self._keep_order) or not self._is_whole(about):
                    missing.append(number)
                    continue
                self._copy(number, frames)
                left.remove(number)

        self._client.stream(self._path, take, qsequences=numbers)
        return missing

    def _is_whole(self, about: dict[str, Any]) -> bool:
        if about["stored_bytes"] >= about["log_bytes"] or about.get("log_removed_at"):
            return True
        now = time.monotonic()
        since = self._missing_since.setdefault(about["qsequence"], now)
        if now - since < LOG_SECONDS_MAX:
            return False
        lost = about["log_bytes"] - about["stored_bytes"]
        self._error(f"jobtasks: {lost} bytes of {about['job_task_uuid']} are lost\n".encode())
        return True

    def _copy(self, number: int, frames: Iterable[tuple[bytes, bytes]]) -> None:
        """Write a task's frames; those written before the connection broke are skipped."""
        done = self._written[1] if self._written[0] == number else 0
        for place, (stream, data) in enumerate(frames, start=1):
            if place > done:
                if stream == STDOUT:
                    self._out.write(data)
                else:
                    self._error(data)
                self._written = (number, place)


def logs_in(
    pieces: Iterable[bytes],
) -> Iterator[tuple[dict[str, Any], Iterator[tuple[bytes, bytes]]]]:
    """Yield what an answer with the logs of many tasks says of each, with the frames of its log."""
    tasks = 0

    def place(frame: tuple[bytes, bytes]) -> int:
        nonlocal tasks
        tasks += frame[0] == TASK
        return tasks

    for _, group in groupby(parse_frames(pieces), place):
        frames = iter(group)
        yield msgspec.json.decode(next(frames)[1]), frames


def _is_ended(item: Item) -> bool:
    return item["state"] in ENDED


def _numbers(items: Iterable[Item]) -> list[int]:
    return [item["qsequence"] for item in items]
