"""P2: the same tasks beside other systems, with as many slots.

For each peer by itself, so that only two systems live at a time: floor, ours, floor, peer, … Both
are timed as their clients see it, from the submit to the end of all tasks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from bench.conductor import OURS, Contender, Rounds, alternate
from bench.floor import TRUE
from bench.goals import Goal, Outcome, at_least
from bench.peers.seat import TITLES, PeerFailed, Seat, seated
from bench.service import Service, with_slots
from bench.session import Session
from bench.workloads.commands import WARM_UP, run_flat, run_tree
from bench.workloads.one_task import PAUSE_SECONDS, run_one, spread

GOALS = {"hyperqueue": 3.0, "ray": 1.5}
"""How many times the rate of a peer is wanted."""
SINGLES_MAX = 30


def beside(session: Session) -> Outcome:
    """Every peer that is set up; one that is not is left out with a line that says why."""
    figures: dict[str, Any] = {}
    goals: list[Goal] = []
    for name in session.peers:
        title = TITLES[name]
        try:
            with seated(name, session.sizes.in_flight) as peer:
                with with_slots(session.sizes.in_flight) as service:
                    found = Beside(session, service, peer).measure()
        except PeerFailed as error:
            session.say(f"  {title} is left out: {error}")
            figures[name] = {"title": title, "left_out": str(error)}
            continue
        figures[name] = {"title": title, **found}
        goals += rows(title, found, GOALS.get(name))
    return Outcome(figures, goals)


def rows(title: str, found: dict[str, Any], wanted: float | None) -> list[Goal]:
    """Return how many times a peer's rates ours are."""
    kinds = (("commands", "`/bin/true`", wanted), ("tree", "a seed, children, a last task", None))
    return [
        at_least(f"times {title}, {label}", found[kind]["times"], goal, "×")
        for kind, label, goal in kinds
        if "times" in found[kind]
    ]


class Beside:
    """Ours and one peer, both running."""

    def __init__(self, session: Session, service: Service, peer: Seat) -> None:
        self._session = session
        self._service = service
        self._peer = peer

    def measure(self) -> dict[str, Any]:
        """Run the commands, the tree, and tasks one at a time."""
        peer, sizes, service = self._peer, self._session.sizes, self._service
        version, setting = str(peer.call("version")), str(peer.call("setting"))
        self._session.say(f"  {peer.title} {version}: {setting}")
        run_flat(service, min(WARM_UP, sizes.commands))
        commands = self._alternate(
            sizes.commands,
            self._part("share", sizes.commands),
            lambda count: run_flat(service, count)["whole"],
            lambda count: peer.seconds("run_commands", count, list(TRUE)),
        )
        tree: dict[str, Any] = {}
        if peer.call("has_tree"):
            tree = self._alternate(
                sizes.tree,
                self._part("tree_share", sizes.tree),
                lambda count: run_tree(service, count)["whole"],
                lambda count: peer.seconds("run_tree", count),
            )
        return {
            "version": version,
            "setting": setting,
            "slots": sizes.in_flight,
            "commands": commands,
            "tree": tree,
            "one_task_ms": self._singles(),
        }

    def _part(self, share: str, count: int) -> int:
        """Return how many tasks a peer gets of so many, as it would take too long with all."""
        least = min(count, int(self._peer.call("count_min")))
        return max(least, round(count * float(self._peer.call(share))))

    def _alternate(
        self,
        our_count: int,
        their_count: int,
        ours: Callable[[int], float],
        theirs: Callable[[int], float],
    ) -> dict[str, Any]:
        title = self._peer.title
        rounds: Rounds = alternate(
            lambda: self._session.floor.per_second(our_count, self._session.sizes.in_flight),
            [Contender(OURS, our_count, ours), Contender(title, their_count, theirs)],
            self._session.sizes.rounds,
            self._session.say,
        )
        figures = {"ours": rounds.figures()[OURS], "peer": rounds.figures()[title]}
        if not rounds.failures:
            figures["times"] = rounds.against(OURS, title)
        return figures

    def _singles(self) -> dict[str, Any]:
        """One task at a time on both idle systems, in turn; milliseconds to its end."""
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for _ in range(min(SINGLES_MAX, self._session.sizes.singles)):
            time.sleep(PAUSE_SECONDS)
            begin = time.perf_counter()
            run_one(self._service)
            times["ours"].append((time.perf_counter() - begin) * 1000)
            time.sleep(PAUSE_SECONDS)
            times["peer"].append(self._peer.seconds("run_one", list(TRUE)) * 1000)
        medians = {name: statistics.median(found) for name, found in times.items()}
        told = ", ".join(f"{name} {value:.1f}" for name, value in medians.items())
        self._session.say(f"  one task, ms: {told}")
        return {name: spread(found) for name, found in times.items()}
