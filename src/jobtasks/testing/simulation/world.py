"""One simulated world: made from a seed, run with faults, then until everything has ended."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

from jobtasks.core.errors import JobTasksError, Unavailable
from jobtasks.core.settings import Settings
from jobtasks.service import jobs, steering
from jobtasks.store.checks import load_looks
from jobtasks.testing.service import ADMIN_TOKEN
from jobtasks.testing.simulation.happenings import Happenings
from jobtasks.testing.simulation.network import Faults, Network
from jobtasks.testing.simulation.node import Node
from jobtasks.testing.simulation.oracle import FINAL, Oracle, Violation
from jobtasks.testing.simulation.process import Misfortune
from jobtasks.testing.simulation.server import Site

SETTINGS = replace(Settings(), patience_seconds=90.0, delay_seconds_max=20.0, avoid_seconds=30.0)
FAULT_SECONDS = 150.0
"""How long faults last."""
PATIENT_SECONDS = 600.0
"""How long agents go on without a server where only servers have faults: longer than all of them
together, since an agent that gives up after its patience (R34) has not been lost by an error.
"""
CALM_SECONDS_MAX = 1500.0
"""How long after the last fault everything may take to end: liveness."""
TRACE_LINES = 150
"""Lines of the trace that a failure shows."""
CONSTRAINTS: list[dict[str, Any]] = [
    *([{}] * 3),
    *({"max_tasks_per_node": 2}, {"min_ram_per_task": 400_000}, {"max_nodes": 1}),
    *({"on_failure": "cancel"}, {"on_failure": "continue"}, {"max_attempts": 1}),
]
"""What jobs ask for."""
TREES = [[3], [6], [2, 2], [3, 3], [1, 2, 2], [8]]
"""How many children each task of a level creates."""


class World:
    """A server, nodes and jobs; everything is drawn from `seed`.

    With `kinds` only these faults happen, and the network has none.
    """

    def __init__(self, seed: int, kinds: Collection[str] | None = None) -> None:
        self.seed = seed
        self._kinds = kinds
        self.random = random.Random(seed)
        self.happenings = Happenings()
        self.oracle = Oracle(self.happenings.note)
        self.network = Network(self.happenings, self.random, self._network_faults())
        self.misfortune = self._misfortune()
        settings = SETTINGS
        if kinds is not None:
            settings = replace(SETTINGS, patience_seconds=PATIENT_SECONDS)
        self.site = Site(self.happenings, self.random, settings, self.oracle)
        self.nodes = [self._node(f"n{number}") for number in range(self.random.randint(1, 4))]
        self.trees: dict[str, list[int]] = {}
        """The trees of submitted jobs, by their submit_id."""
        self.uuids: dict[str, str] = {}
        self.seen: dict[str, int] = {}
        """How often each kind of fault has happened."""

    def close(self) -> None:
        """Forget the world."""
        self.site.service.close()

    def run(self) -> None:
        """Run the world to its end.

        Raises:
            Violation: a promise was broken; with the seed and the end of the trace.
        """
        try:
            self._begin()
            self._run_until(FAULT_SECONDS)
            self._heal()
            self._run_until_calm()
            self._judge()
        except Exception as error:
            lines = "\n".join(self.happenings.trace[-TRACE_LINES:])
            error.add_note(f"{lines}\nseed {self.seed}: replay with SIM_SEED={self.seed}")
            raise

    # What there is

    def _network_faults(self) -> Faults:
        draw = self.random
        if self._kinds is not None or draw.random() < 0.2:
            return Faults()
        return Faults(
            lost=draw.choice((0, 0.01, 0.05)),
            reset=draw.choice((0, 0.02, 0.1)),
            doubled=draw.choice((0, 0.05, 0.3)),
            slow=draw.choice((0, 0.02, 0.1)),
        )

    def _misfortune(self) -> Misfortune:
        draw = self.random
        return Misfortune(
            crash=draw.choice((0, 0.05, 0.2)),
            asks=draw.choice((0, 0.05)),
            memory=draw.choice((0, 0.03)),
            hasty=draw.choice((0, 0.1)),
            gives_up=draw.choice((0, 0.02, 0.05)),
        )

    def _node(self, name: str) -> Node:
        draw = self.random
        return Node(
            name, draw.randint(1, 4), 1_000_000, self.happenings, draw, self.network,
            self.site.receive, self.misfortune, self.oracle.start, self.oracle.succeeded.add,
            clock_ahead_seconds=draw.uniform(0, 1e6),
            places=draw.choice(((1,), (1, 2, 3))),
        )  # fmt: skip

    def _begin(self) -> None:
        self.site.start()
        for node in self.nodes:
            self.happenings.after(self.random.uniform(0, 5), node.boot)
        for number in range(self.random.randint(1, 3)):
            seconds = self.random.uniform(0, FAULT_SECONDS / 2)
            self.happenings.after(seconds, partial(self._submit, f"job-{number}"))
        faults = sorted(self._kinds or ())
        if self._kinds is None:
            faults = [kind for kind in sorted(FAULTS) if self.random.random() < 0.5]
        if faults:
            self._next_fault(faults, self.random.uniform(2, 30))

    def _submit(self, name: str) -> None:
        """Submit a job until the server has answered (R22)."""
        self.trees.setdefault(name, self.random.choice(TREES))
        constraints = self.random.choice(CONSTRAINTS)
        body = {
            "submit_id": name,
            "script": "run",
            "script_version": "/srv/scripts",
            "script_parameters": {"tree": self.trees[name]},
            "runtime_constraints": constraints,
        }
        self._post_job(name, json.dumps(body).encode())

    def _post_job(self, name: str, body: bytes) -> None:
        def answered(status: int, answer: bytes) -> None:
            if status == 200:
                uuid = json.loads(answer)["uuid"]
                if self.uuids.setdefault(name, uuid) != uuid:
                    raise Violation(f"{name} was submitted as {self.uuids[name]} and {uuid} (R22)")

        self.network.call(
            "user",
            lambda respond, fail: self.site.receive("/jobs", ADMIN_TOKEN, body, respond, fail),
            answered,
            lambda reason: None,
        )
        self.happenings.after(
            5.0, lambda: None if name in self.uuids else self._post_job(name, body)
        )

    # Faults

    def _next_fault(self, kinds: list[str], mean_seconds: float) -> None:
        seconds = self.random.expovariate(1 / mean_seconds)
        if self.happenings.now + seconds < FAULT_SECONDS:
            self.happenings.after(seconds, lambda: self._fault(kinds, mean_seconds))

    def _fault(self, kinds: list[str], mean_seconds: float) -> None:
        kind = self.random.choice(kinds)
        self.happenings.note(f"fault: {kind}")
        self.seen[kind] = self.seen.get(kind, 0) + 1
        FAULTS[kind](self)
        self._next_fault(kinds, mean_seconds)

    def some_node(self) -> Node:
        """Return one of the nodes."""
        return self.random.choice(self.nodes)

    def later(self, seconds_max: float, action: Callable[[], None]) -> None:
        """Let something happen within so many seconds."""
        self.happenings.after(self.random.uniform(0, seconds_max), action)

    def kill_agent(self) -> None:
        """An agent dies; its keeper starts another."""
        node = self.some_node()
        node.kill_agent()
        self.later(1.0, node.boot)

    def end_agent(self) -> None:
        """An agent is told to stop; another begins after it has gone."""
        self.some_node().end_agent()

    def steer_node(self) -> None:
        """An administrator holds or drains a node, and releases it later."""
        known = self._rows("nodes_there")
        if known and self.site.serving is not None and not self.site.store.full:
            uuid, _ = self.random.choice(known)
            if self.random.random() < 0.5:
                self.site.as_admin(steering.hold, uuid, self.random.uniform(1, 60))
                # Its end is a time of the server's clock, which may have been set back since.
                self.happenings.after(60.0, lambda: self._release(uuid))
            else:
                self.site.as_admin(steering.drain, uuid)
                self.later(60.0, lambda: self._release(uuid))

    def _release(self, uuid: str) -> None:
        try:
            self.site.as_admin(steering.release, uuid)
        except Unavailable:
            self.happenings.after(1.0, lambda: self._release(uuid))

    def crash_machine(self) -> None:
        """A machine fails and comes back."""
        node = self.some_node()
        node.crash()
        self.later(60.0, node.boot)

    def stop_machine(self) -> None:
        """A machine is frozen for a while."""
        node = self.some_node()
        node.stop()
        self.later(70.0, node.go_on)

    def part_node(self) -> None:
        """A node reaches nobody for a while."""
        name = self.some_node().name
        self.network.parted.add(name)
        self.later(120.0, lambda: self.network.parted.discard(name))

    def kill_server(self) -> None:
        """The server dies and is started again."""
        self.site.kill()
        self.later(40.0, self.start_server)

    def start_server(self) -> None:
        """Start a server unless one serves."""
        if self.site.serving is None:
            self.site.start()

    def stop_server(self) -> None:
        """The server's machine is frozen for a while."""
        server = self.site.serving
        if server is not None:
            server.stop()
            self.later(40.0, server.go_on)

    def second_server(self) -> None:
        """A server stops, another takes over; the first goes on and believes to hold the term."""
        first = self.site.serving
        if first is not None:
            first.stop()
            self.site.start()
            self.later(20.0, first.go_on)

    def step_clock(self) -> None:
        """The server's wall clock is set."""
        self.site.clock_ahead_seconds += self.random.choice((-3600, 3600, -20, 20, 40, -2))

    def fill_disk(self) -> None:
        """The server's disk takes nothing for a while."""
        self.site.store.full = True
        self.later(40.0, self.free_disk)

    def free_disk(self) -> None:
        """There is room again."""
        self.site.store.full = False

    def cancel_job(self) -> None:
        """Somebody cancels a job, and retries it perhaps."""
        running = [uuid for uuid, state in self.oracle.states.items() if state == "Running"]
        if running and self.site.serving is not None and not self.site.store.full:
            uuid = self.random.choice(running)
            self.site.as_admin(jobs.cancel, uuid, None)
            self.later(30.0, lambda: self._retry(uuid))

    def _retry(self, uuid: str) -> None:
        if self.random.random() < 0.5 and self.oracle.states[uuid] in FINAL:
            self.oracle.reopened.add(uuid)
            try:
                self.site.as_admin(jobs.retry, uuid, None, None)
            except JobTasksError as error:
                self.happenings.note(f"no retry: {error}")
                self.oracle.reopened.discard(uuid)

    # The end

    def lost(self) -> list[tuple[Any, ...]]:
        """Return the attempts that ended without a word of their agent, and why."""
        return self._rows("attempts_lost")

    def _run_until(self, seconds: float) -> None:
        while self.happenings.now < seconds and self.happenings.step():
            pass

    def _heal(self) -> None:
        """Nothing bad happens any more."""
        self.happenings.note("calm")
        self.network.faults = Faults()
        self.network.parted.clear()
        self.misfortune.__init__()  # type: ignore[misc]
        self.free_disk()
        if self.site.serving is not None:
            self.site.serving.go_on()
        self.start_server()
        for node in self.nodes:
            node.go_on()
            node.boot()

    def _run_until_calm(self) -> None:
        limit = self.happenings.now + CALM_SECONDS_MAX
        while not self._is_calm():
            if self.happenings.now > limit or not self.happenings.step():
                raise Violation(f"not everything has ended: {self._left()}")

    def _is_calm(self) -> bool:
        return (
            len(self.uuids) == len(self.trees)
            and all(state in FINAL for state in self.oracle.states.values())
            and not any(node.agent and node.agent.processes.live for node in self.nodes)
            and not any(row[2] for row in self._rows("jobs_at_last"))
        )

    def _left(self) -> str:
        running = {node.name: list(node.agent.processes.live) for node in self.nodes if node.agent}
        return f"{self._rows('jobs_at_last')}; running {running}; submitted {self.uuids}"

    def _rows(self, look: str) -> list[tuple[Any, ...]]:
        return self.site.store.read(lambda tx: tx.text(load_looks()[look].sql, {}))

    def _judge(self) -> None:
        """Nothing is lost, nothing is there twice, and every counter is right."""
        self.site.store.read(self.oracle.recount)
        rows = {row[0]: row for row in self._rows("jobs_at_last")}
        if sorted(rows) != sorted(self.uuids.values()):
            raise Violation(f"jobs {sorted(rows)}, submitted were {self.uuids}")
        for name, uuid in self.uuids.items():
            _, state, _, count = rows[uuid]
            if state == "Complete" and count != size_of(self.trees[name]):
                raise Violation(f"{name} has {count} tasks, not {size_of(self.trees[name])} (R4)")


def size_of(tree: list[int]) -> int:
    """Return how many tasks a job has whose tasks create so many children, level by level."""
    total = level = 1
    for count in tree:
        level *= count
        total += level
    return total


FAULTS: dict[str, Callable[[World], None]] = {
    "agent dies": World.kill_agent,
    "agent is told to stop": World.end_agent,
    "clock is set": World.step_clock,
    "disk is full": World.fill_disk,
    "job is cancelled": World.cancel_job,
    "machine fails": World.crash_machine,
    "machine is frozen": World.stop_machine,
    "node is cut off": World.part_node,
    "node is steered": World.steer_node,
    "second server": World.second_server,
    "server dies": World.kill_server,
    "server is frozen": World.stop_server,
}


SERVERS_FAULTS = (
    "clock is set",
    "disk is full",
    "second server",
    "server dies",
    "server is frozen",
)
"""What happens to the server alone: no attempt may be lost by it (R33)."""
