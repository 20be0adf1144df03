"""What the server counts while it works, for ``/metrics``; plain dicts, written by any thread.

Small and our own: the usual library costs 65 ms at every start and several locks per observation,
and the text format is a page (tests read it with that library). Lost updates are excluded by the
interpreter's lock only for single operations, hence one lock of our own for what has more steps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Lock

BOUNDS_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0)
"""Upper bounds of the histograms' buckets."""
OTHER_METHODS = "other"
METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"})

Measured = tuple[str, str, float]
"""What a service method measured: name, label's value ("" for none), amount."""


@dataclass
class Histogram:
    """How often something took how long."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_SECONDS) + 1))
    """Per bound, and one for all that is longer; not cumulative."""
    seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.seconds += seconds


class Meters:
    """Counts of one server process, from its start."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.requests_open = 0
        """Requests under way, those of agents left out; the event loop's thread alone writes it."""
        self.streams_open = 0
        """Streams of events; the event loop's thread alone writes it."""
        self.requests: Counter[tuple[str, str, int]] = Counter()
        """By method, pattern of the address, status."""
        self.attempts_ended: Counter[str] = Counter()
        """By cause."""
        self.notices: Counter[str] = Counter()
        """By outcome of a try."""
        self.lease_renewals = 0
        self.log_bytes = 0
        """Of attempts' logs, as they arrived, repeated pieces included."""
        self.logs_disk_bytes: int | None = None
        """What attempts' logs take on disk, when it was measured last; None: not yet."""
        self.claims = Histogram()
        self.commits = Histogram()
        self.writes = 0
        """Pieces of work that were committed."""

    def count_request(self, method: str, route: str, status: int) -> None:
        """Count a request that was answered; methods that do not exist share one name."""
        known = method if method in METHODS else OTHER_METHODS
        self.requests[known, route, status] += 1

    def committed(self, seconds: float, pieces: int) -> None:
        """Count one commit of the store's writer, its only caller."""
        self.commits.observe(seconds)
        self.writes += pieces

    def take(self, measured: Iterable[Measured]) -> None:
        """Take what a transaction measured, after its commit."""
        with self._lock:
            for name, label, amount in measured:
                if name == "attempts_ended":
                    self.attempts_ended[label] += int(amount)
                elif name == "notices":
                    self.notices[label] += int(amount)
                elif name == "claim_seconds":
                    self.claims.observe(amount)
                elif name == "lease_renewals":
                    self.lease_renewals += int(amount)

    def add_log_bytes(self, count: int) -> None:
        """Count bytes of logs that are on disk now."""
        with self._lock:
            self.log_bytes += count
