"""What every method of the service gets: its transaction, the time, the settings, the caller."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jobtasks.core.growth import Offer
from jobtasks.core.identifiers import UuidMaker
from jobtasks.core.notifying import NOBODY, Notifying
from jobtasks.core.settings import Settings
from jobtasks.protocol.messages import Trust
from jobtasks.store.base import Tx

MICROSECONDS = 1_000_000


@dataclass(slots=True)
class World:
    """What lasts as long as the server process; holds no state that matters."""

    settings: Settings
    uuids: UuidMaker
    token_key: bytes
    """Secret from which attempt tokens are derived."""
    random: Callable[[], float]
    """Uniform in [0, 1)."""
    log_dir: Path
    """Where attempts' logs are kept."""
    pack_dir: Path | None = None
    """Where scripts' directories are kept that are sent to nodes; None: none are."""
    private: tuple[Path, ...] = ()
    """The server's own directories, which are never sent."""
    external_url: str = "http://localhost"
    """What clients call the server, ``http(s)://HOST[:PORT]`` without a slash at its end: as it was
    configured, else as it listens; never what a request says."""
    trust: Trust | None = None
    """What agents hand on to tasks; None: tasks call the server as their agent does."""
    notifying: Notifying = NOBODY
    """Who is told of the ends of jobs."""
    engine: str = "local"
    """Name of the engine that is asked for nodes."""
    offer: Offer | None = None
    """What it gives; None: nodes are not asked for by job."""
    manages: bool = True
    """Whether our manager runs jobs; else every new job is foreign (R7b)."""
    random_below: Callable[[int], int] = secrets.randbelow
    """Where new tokens' secrets come from."""


class Event(NamedTuple):
    """One thing that happened, as it is stored (service/events.py)."""

    type: str
    """"create", "update" or "delete"."""
    job_id: int | None
    task_id: int | None
    node_id: int | None
    summary: str
    properties: dict[str, Any]


@dataclass(slots=True)
class Context:
    """One call of a service method."""

    tx: Tx
    now: int
    """Unix time in microseconds, read once per call."""
    world: World
    wake: set[str] = field(default_factory=set)
    """Whom to wake after the commit: "nodes", "manager", or a job's uuid."""
    events: list[Event] = field(default_factory=list)
    """What happened, for those who watch."""
    measured: list[tuple[str, str, float]] = field(default_factory=list)
    """What is to be counted after the commit: name, label's value, amount (api/meters.py)."""

    @property
    def lease_until(self) -> int:
        """When a lease ends that is given now, in Unix microseconds (R33)."""
        return self.now + round(self.settings.lease_seconds * MICROSECONDS)

    @property
    def settings(self) -> Settings:
        """Times and limits."""
        return self.world.settings


class Token(NamedTuple):
    """What bounds a call beside the role of its caller."""

    uuid: str
    scopes: tuple[str, ...]
    expires_at: int | None
    last_used_at: int | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the token says; looked up in the transaction of the call (R32)."""

    role: str
    """"admin", "user", "agent" or "attempt"."""
    user_uuid: str
    attempt_id: int | None = None
    task_id: int | None = None
    job_id: int | None = None
    token: Token | None = None
    """What is known of the token of a person or an agent."""

    @property
    def is_admin(self) -> bool:
        """Whether the token may do everything that rules allow anyone."""
        return self.role == "admin"
