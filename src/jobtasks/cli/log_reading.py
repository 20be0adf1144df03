"""Logs of many attempts, read in frames, and read on as they grow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from jobtasks.cli.client import Client
from jobtasks.cli.problems import OF_STATE
from jobtasks.protocol.frames import HEADER, TASK, parse_frames

PLACES_MAX = 500
"""Attempts in one call: their names must fit into an address."""

LOOK_SECONDS = 0.5
"""How often a follower asks for more."""

LATE_LOOKS_MAX = 60
"""So many looks after its end an attempt whose log has not come is given up."""

Place = tuple[int, int]
"""An attempt within its job: its task's qsequence, and its number."""
NOWHERE: Place = (0, 0)
"""No attempt: numbers begin at 1."""


class Printer(Protocol):
    """Shows what is read."""

    def take(self, place: Place, mark: bytes, content: bytes) -> None:
        """Show a piece of an attempt's log; `mark` says of which stream (protocol/frames.py)."""

    def close(self, place: Place) -> None:
        """Nothing more comes of this attempt."""

    def flush(self) -> None:
        """Nothing more comes for the moment."""


class Known(NamedTuple):
    """What the server said of an attempt with a piece of its log."""

    is_over: bool
    """Its end is on record."""
    is_whole: bool
    """All of its log has come, or nothing more of it will."""


class LogReader:
    """Reads logs of one job's attempts; remembers how far it is in each."""

    def __init__(self, client: Client, job: str, printer: Printer) -> None:
        self._client = client
        self._path = f"/jobs/{job}/logs"
        self._printer = printer
        self._read_bytes: dict[Place, int] = {}
        self.known: dict[Place, Known] = {}
        """What was said last; attempts that do not exist any more are missing."""

    def read(self, places: Iterable[Place]) -> None:
        """Show what is new of these attempts, in their order."""
        left = list(places)
        while left:
            self._read_some(left[:PLACES_MAX])
            left = left[PLACES_MAX:]
        self._printer.flush()

    def close(self, place: Place) -> None:
        """Nothing more is wanted of an attempt."""
        self._printer.close(place)
        self._read_bytes.pop(place, None)
        self.known.pop(place, None)

    def _read_some(self, places: list[Place]) -> None:
        # What is read is noted in the query itself: a call that is repeated after a broken answer
        # does not ask for it again.
        asked = {place: [*place, self._read_bytes.get(place, 0)] for place in places}
        for place in places:
            self.known.pop(place, None)

        def take(chunks: Iterator[bytes]) -> None:
            current = NOWHERE
            for mark, content in parse_frames(chunks):
                if mark == TASK:
                    self._close_if_whole(current)
                    current = self._note(json.loads(content))
                else:
                    asked[current][2] += HEADER.size + len(content)
                    self._read_bytes[current] = asked[current][2]
                    self._printer.take(current, mark, content)
            self._close_if_whole(current)

        self._client.stream(self._path, take, places=list(asked.values()))

    def _close_if_whole(self, place: Place) -> None:
        """What an attempt left without a line's end is shown before the next one's lines."""
        if (known := self.known.get(place)) is not None and known.is_whole:
            self._printer.close(place)

    def _note(self, about: dict[str, Any]) -> Place:
        place = (about["qsequence"], about["attempt"])
        is_over = about["state"] == "ended"
        has_all = about["stored_bytes"] >= about["log_bytes"] or about["log_removed_at"] is not None
        self.known[place] = Known(is_over, is_over and has_all)
        return place


def attempts_after(client: Client, job: str, after: int) -> tuple[list[tuple[int, Place]], int]:
    """A job's attempts that began after those of an earlier call, and what to give the next.

    Each comes with its task's sequence, in the order of their beginnings.
    """
    found: list[tuple[int, Place]] = []
    while True:
        answer = client.get(f"/jobs/{job}/attempts", after=after)
        found += [
            (item["sequence"], (item["qsequence"], item["number"])) for item in answer["items"]
        ]
        after = answer["after"]
        if not answer["items"]:
            return found, after


def follow(
    client: Client,
    job: str,
    reader: LogReader,
    find_new: Callable[[], tuple[list[Place], bool]],
) -> None:
    """Read logs as they grow, until nothing more can come.

    `find_new` returns the attempts to follow that began since it was asked last, and whether they
    are the last ones. It is asked after each look at the job.
    """
    looks: dict[Place, int] = {}
    seconds = 0.0
    while True:
        state = _state_after(client, job, seconds)
        new, is_last = find_new()
        looks.update(dict.fromkeys(new, 0))
        reader.read(looks)
        for place in list(looks):
            known = reader.known.get(place)
            looks[place] += known is not None and known.is_over
            if known is None or known.is_whole or looks[place] > LATE_LOOKS_MAX:
                reader.close(place)
                del looks[place]
        if not looks and (is_last or state in OF_STATE):
            return
        seconds = LOOK_SECONDS


def _state_after(client: Client, job: str, seconds: float) -> str:
    """A job's state so many seconds from now, or as soon as it has ended."""
    began = time.monotonic()
    state = str(client.get(f"/jobs/{job}", select=["state"], wait=seconds)["state"])
    if seconds and state in OF_STATE and time.monotonic() - began < seconds / 2:
        # It had ended before: only logs are waited for, and the server does not hold such a call.
        time.sleep(seconds)
    return state
