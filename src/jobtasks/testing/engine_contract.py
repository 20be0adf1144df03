"""What every engine keeps to, as tests: whoever writes one derives a class from `EngineContract`.

The class needs a fixture ``bench`` that gives an `EngineBench`; pytest finds the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from jobtasks.core.requests import Ask, RequestState, Sighting
from jobtasks.engines.base import Engine, Refused, Unclear

NAME = "jobtasks-contract-{place}-1"


@dataclass
class EngineBench:
    """An engine to be tried."""

    engine: Engine
    ask: Ask
    """Something that it can grant soon."""
    too_much: Ask | None = None
    """Something that it refuses at once; None: it takes everything."""
    seconds: float = 60.0
    """How long it may take to do what it was asked."""
    make: Callable[[], Engine] | None = None
    """Makes the engine anew, as the next server does."""

    @property
    def name(self) -> str:
        """A request's name, as the service makes them."""
        return NAME.format(place=self.ask.place or "job")

    def until(self, what: str, look: Callable[[], bool]) -> None:
        """Return when it is so; errors: AssertionError, after `seconds`."""
        limit = time.monotonic() + self.seconds
        while True:
            try:
                if look():
                    return
            except Unclear as unclear:
                what = f"{what} ({unclear})"
            assert time.monotonic() < limit, f"not within {self.seconds:g} s: {what}"
            time.sleep(0.05)

    def seen(self, name: str) -> Sighting | None:
        """Return what the engine shows of a request that is not over."""
        found = [one for one in self.engine.look([name]) if one.name == name]
        live = [one for one in found if one.state is not RequestState.OVER]
        assert len(live) <= 1, live
        return live[0] if live else None

    def is_granted(self) -> bool:
        """Whether the engine says so of the request."""
        found = self.seen(self.name)
        return found is not None and found.state is RequestState.GRANTED

    def granted(self) -> str:
        """Ask, and wait until it is granted; return the engine's id."""
        engine_id = self.engine.ask(self.name, self.ask)
        self.until("it is granted", self.is_granted)
        return engine_id

    def end(self, engine_id: str) -> None:
        """End a request, and wait until it is over."""

        def is_over() -> bool:
            self.engine.cancel(engine_id)
            return self.seen(self.name) is None

        self.until("it is over", is_over)


class EngineContract:
    """One suite for every engine."""

    def test_a_request_lives_and_ends(self, bench: EngineBench) -> None:
        """It is asked for, seen by its name, granted with its nodes, ended, and seen no more."""
        assert bench.seen(bench.name) is None
        engine_id = bench.granted()
        found = bench.seen(bench.name)
        assert found is not None
        assert found.engine_id == engine_id
        assert bench.ask.min_nodes <= len(found.places) <= bench.ask.max_nodes
        assert not bench.engine.is_gone(engine_id)
        bench.end(engine_id)

    def test_to_end_what_is_over_does_no_harm(self, bench: EngineBench) -> None:
        """A cancel may be repeated, also of what never was."""
        engine_id = bench.granted()
        bench.end(engine_id)
        bench.engine.cancel(engine_id)

    def test_the_next_server_finds_what_is_there(self, bench: EngineBench) -> None:
        """An engine that is made anew shows what the one before was asked for."""
        engine_id = bench.granted()
        bench.engine.close()
        if bench.make is not None:
            bench.engine = bench.make()
        found = bench.seen(bench.name)
        assert found is not None
        assert (found.engine_id, found.state) == (engine_id, RequestState.GRANTED)
        bench.end(engine_id)

    def test_what_cannot_be_is_refused(self, bench: EngineBench) -> None:
        """With a reason, and nothing was begun."""
        if bench.too_much is None:
            return
        try:
            bench.engine.ask(bench.name, bench.too_much)
        except Refused as refused:
            assert str(refused)
        else:
            raise AssertionError("it was taken")
        assert bench.seen(bench.name) is None

    def test_limits_name_what_is_offered(self, bench: EngineBench) -> None:
        """What a node is for a job that asks for nothing is within what there is."""
        limits, offer = bench.engine.limits(), bench.engine.offer()
        assert offer.cores >= 1
        if limits.kinds:
            assert offer.cores <= max(kind.cores for kind in limits.kinds)
