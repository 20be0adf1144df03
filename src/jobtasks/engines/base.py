"""What an engine is: something that places agents on nodes, and nothing else.

An engine is found by its name through the entry points of group ``jobtasks.engines``; each is a
callable that takes a `Setting` and returns an `Engine`. All methods but `close` are called from one
thread, never from the one that writes; what they cannot find out they say so (`Unclear`): that is
no end of anything (R35). `jobtasks.testing.engine_contract` tells whether an engine keeps to this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from jobtasks.core.errors import Invalid
from jobtasks.core.growth import Offer
from jobtasks.core.requests import Ask, Limits, Sighting

GROUP = "jobtasks.engines"
Options = TypeVar("Options")


class Refused(Exception):
    """The engine will not do what it was asked, and says why; nothing was begun."""


class Unclear(Exception):
    """No answer, or none that can be read: what was asked may have been done or not."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What an engine is made with."""

    url: str
    """Where agents find the server."""
    token_file: Path
    """Holds the agents' token; nodes must see it under this path, unless the engine carries it."""
    state: Path
    """A directory of the engine's own, on the server."""
    command_seconds: float = 30.0
    """How long one command may take."""
    authorities: str = ""
    """PEM by which agents know an https server; "": what their system trusts."""
    pass_env: Sequence[str] = ()
    """Names of variables that tasks inherit from their agent."""
    slots: int | None = None
    """Attempts at a time on each node; None: the engine's own default."""
    cgroups: str = "auto"
    in_place: bool = False
    """Whether nodes see the server's directories, and start scripts where they are."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The engine's own, as given by ``--engine-option NAME=VALUE``."""


class Engine(Protocol):
    """Places agents on nodes."""

    name: str

    @property
    def hosts(self) -> Sequence[str]:
        """The hosts of a standing engine, each of which is asked for once, for all jobs; () of one
        that is asked for nodes by job.
        """
        ...

    def offer(self) -> Offer:
        """Return what a node of this engine is, and its limits when they are known (R30)."""
        ...

    def limits(self) -> Limits:
        """Return what can be granted at most; errors: Unclear."""
        ...

    def ask(self, name: str, ask: Ask) -> str:
        """Ask for nodes; on each an agent joins for request `name`. Return the engine's own id.

        Nothing is asked twice: the caller looks first when an earlier call was unclear.

        Raises:
            Refused: the engine will not, and has begun nothing.
            Unclear: it may have begun.
        """
        ...

    def look(self, names: Sequence[str]) -> list[Sighting]:
        """Return what the engine has of these requests and of any other of ours; errors: Unclear.

        One that is missing in the answer is not known to the engine now, which ends nothing.
        """
        ...

    def is_gone(self, engine_id: str) -> bool:
        """Return whether the engine says that it knows no such thing any more; errors: Unclear."""
        ...

    def give_back(self, engine_id: str, places: Sequence[str]) -> None:
        """Give some nodes of a request back, not its first; errors: Refused, Unclear."""
        ...

    def cancel(self, engine_id: str) -> None:
        """End a request with all its nodes; harmless when it is over. Errors: Refused, Unclear."""
        ...

    def close(self) -> None:
        """The server ends: let go of what belongs to this process alone.

        Another call may be under way in its thread; it ends now, and may be `Unclear`.
        """
        ...


EngineMaker = Callable[[Setting], Engine]


def engine_names() -> list[str]:
    """Return the names of the engines that are installed."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def make_engine(name: str, setting: Setting) -> Engine:
    """Return the engine of that name; errors: Invalid, for a wrong name or option."""
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        raise Invalid(f"There is no engine {name!r}; there are {', '.join(engine_names())}.")
    maker: EngineMaker = found[0].load()
    return maker(setting)


def read_options(engine: str, shape: type[Options], given: Mapping[str, Any]) -> Options:
    """Return an engine's options, of the right types; errors: Invalid."""
    unknown = given.keys() - {each.encode_name for each in msgspec.structs.fields(shape)}  # type: ignore[arg-type]
    if unknown:
        raise Invalid(f"Engine {engine} has no option {sorted(unknown)[0]!r}.")
    try:
        return msgspec.convert(given, shape, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"Engine option: {error}") from None
