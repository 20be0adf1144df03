"""An engine that a test drives: it has nodes of one size, and does what it is told to do wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from jobtasks.core.growth import Offer
from jobtasks.core.requests import Ask, Limits, NodeKind, RequestState, Sighting
from jobtasks.engines.base import Refused, Unclear


@dataclass(slots=True)
class FakeAllocation:
    """What the engine holds for a request, or held."""

    id: str
    name: str
    ask: Ask
    state: RequestState = RequestState.ASKED
    reason: str = "Priority"
    places: tuple[str, ...] = ()
    ends_at: int | None = None


@dataclass
class FakeEngine:
    """Grants a request when so many of its nodes are free; nothing runs anywhere.

    A test starts the agents itself, for the `places` of what was granted.
    """

    number: int = 4
    """Nodes that there are."""
    cores: int = 4
    memory_kib: int = 4_000_000
    """Of each."""
    nodes_max: int = 0
    """Of one request; 0: all."""
    hosts: Sequence[str] = ()
    name: str = "fake"
    allocations: list[FakeAllocation] = field(default_factory=list)
    refuse: str = ""
    """Why the next requests are refused; "": they are not."""
    is_silent: bool = False
    """Whether no call is answered at all."""
    is_empty: bool = False
    """Whether what is there is not shown."""
    times_out: bool = False
    """Whether requests are taken, and the answer that says so is lost."""
    loses: bool = False
    """Whether requests are lost, as is the answer."""
    calls: list[str] = field(default_factory=list)
    """Names of the methods called, in order."""

    def offer(self) -> Offer:
        """Return one core, no memory in particular, and the limits."""
        return Offer(1, 0, 64, self._limits())

    def _limits(self) -> Limits:
        kind = NodeKind(self.number, self.cores, self.memory_kib)
        return Limits(self.nodes_max, (kind,))

    def limits(self) -> Limits:
        """Return what there is."""
        self._called("limits")
        return self._limits()

    def ask(self, name: str, ask: Ask) -> str:
        """Take a request, unless told otherwise."""
        self._called("ask")
        if self.refuse:
            raise Refused(self.refuse)
        if self.loses:
            raise Unclear("the request was lost")
        made = FakeAllocation(f"{100 + len(self.allocations)}", name, ask)
        self.allocations.append(made)
        if self.times_out:
            raise Unclear("it did not answer in time")
        return made.id

    def look(self, names: Sequence[str]) -> list[Sighting]:
        """Grant what can be granted, and return everything."""
        self._called("look")
        if self.is_empty:
            return []
        for one in self.allocations:
            if one.state is RequestState.ASKED:
                self._grant(one)
        return [
            Sighting(
                one.name, one.id, one.state, one.state.name, one.reason, one.places, one.ends_at
            )
            for one in self.allocations
        ]

    def _grant(self, one: FakeAllocation) -> None:
        free = self.free_places(one.ask.without)
        if len(free) < one.ask.min_nodes:
            one.reason = "Resources"
            return
        one.state, one.reason = RequestState.GRANTED, ""
        one.places = tuple(free[: one.ask.max_nodes])

    def free_places(self, without: Sequence[str] = ()) -> list[str]:
        """Return the nodes that no request has."""
        held = {place for one in self.live() for place in one.places} | set(without)
        names = [f"n{number}" for number in range(1, self.number + 1)]
        return [name for name in self.hosts or names if name not in held]

    def live(self) -> list[FakeAllocation]:
        """Return what is not over."""
        return [one for one in self.allocations if one.state is not RequestState.OVER]

    def is_gone(self, engine_id: str) -> bool:
        """Return whether it never had such a thing."""
        self._called("is_gone")
        return all(one.id != engine_id for one in self.allocations)

    def give_back(self, engine_id: str, places: Sequence[str]) -> None:
        """Make a request smaller."""
        self._called("give_back")
        for one in self.live():
            if one.id == engine_id:
                one.places = tuple(place for place in one.places if place not in places)

    def cancel(self, engine_id: str) -> None:
        """End a request."""
        self._called("cancel")
        self.end(engine_id, "CANCELLED")

    def end(self, engine_id: str, reason: str) -> None:
        """Have a request be over, as if somebody else had ended it."""
        for place, one in enumerate(self.allocations):
            if one.id == engine_id:
                self.allocations[place] = replace(
                    one, state=RequestState.OVER, reason=reason, places=()
                )

    def close(self) -> None:
        """Let go of nothing."""

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if self.is_silent:
            raise Unclear("it says nothing")
