"""An agent without processes: it joins, syncs, and ends its attempts as a test says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jobtasks.protocol.messages import (
    VERSION,
    Alive,
    Assignment,
    Ended,
    EndKind,
    Join,
    Joined,
    Orders,
    Sync,
)
from jobtasks.service import nodes, tasks
from jobtasks.service.creation import BulkCreated
from jobtasks.store.records import TaskRecord
from jobtasks.testing.service import AGENT_TOKEN, LocalService


class SimulatedAgent:
    """One node's agent; `running` are the attempts whose processes "live" here.

    Sizes are in KiB (memory) and MiB (scratch), as in `Join`.
    """

    def __init__(
        self,
        service: LocalService,
        node: str = "n1",
        *,
        slots: int = 4,
        memory_kib: int = 1_000_000,
        cores: int = 8,
        scratch_mb: int = 1000,
        request: str = "",
    ) -> None:
        self.service = service
        self.node = node
        self.slots = slots
        self.memory_kib = memory_kib
        self.cores = cores
        self.scratch_mb = scratch_mb
        self.request = request
        self.running: dict[int, Assignment] = {}
        self.ended: list[Ended] = []
        self.number = 0
        self.incarnation = 0
        self.joined = self.join()

    def join(self, running: Iterable[int] = ()) -> Joined:
        """Start the agent, or start it again: only what `running` names goes on."""
        self.incarnation += 1
        self.number = 0
        going_on = set(running)
        self.running = {k: v for k, v in self.running.items() if k in going_on}
        message = Join(
            version=VERSION,
            node=self.node,
            hostname=f"{self.node}.example",
            incarnation=f"{self.node}-{self.incarnation}",
            slots=self.slots,
            memory_kib=self.memory_kib,
            cores=self.cores,
            scratch_mb=self.scratch_mb,
            running=[Alive(attempt) for attempt in self.running],
            ended=self.ended,
            request=self.request,
            place=self.node if self.request else "",
        )
        self.joined = self.service.as_token(AGENT_TOKEN, nodes.join, message)
        self.ended = [end for end in self.ended if end.attempt not in self.joined.acknowledged]
        return self.joined

    @property
    def free_slots(self) -> list[int]:
        """Numbers of the slots that no attempt has."""
        taken = {assignment.slot for assignment in self.running.values()}
        return [slot for slot in range(1, self.slots + 1) if slot not in taken]

    def message(self, **changes: Any) -> Sync:
        """Return the next sync message; `changes` replace what an honest agent would say."""
        self.number += 1
        values: dict[str, Any] = {
            "agent": self.joined.agent,
            "number": self.number,
            "running": [Alive(attempt) for attempt in self.running],
            "ended": list(self.ended),
            "free_slots": self.free_slots,
        }
        return Sync(**{**values, **changes})

    def send(self, message: Sync) -> Orders:
        """Send one message; nothing is done with the answer."""
        return self.service.as_token(AGENT_TOKEN, nodes.sync, message)

    def obey(self, orders: Orders) -> None:
        """Start what is ordered, forget what is acknowledged, as an agent does."""
        self.ended = [end for end in self.ended if end.attempt not in orders.acknowledged]
        for assignment in orders.start:
            self.running[assignment.attempt] = assignment

    def sync(self, **changes: Any) -> Orders:
        """Send the next message and obey; ordered stops are left to the test."""
        orders = self.send(self.message(**changes))
        self.obey(orders)
        return orders

    def renew(self) -> None:
        """Renew the leases without asking for work."""
        self.sync(free_slots=[])

    def take(self, **changes: Any) -> list[Assignment]:
        """Sync twice: return what was started, the server knowing that it runs."""
        started = self.sync(**changes).start
        self.renew()
        return started

    def take_one(self) -> Assignment:
        """Sync and return the one attempt that it starts."""
        (assignment,) = self.take()
        return assignment

    def write(self, assignment: Assignment, **values: Any) -> TaskRecord:
        """PATCH the attempt's own task with its own token."""
        return self.service.as_token(
            assignment.token, tasks.update, assignment.task, values, whole=False
        )

    def create(self, assignment: Assignment, *items: dict[str, Any]) -> BulkCreated:
        """Create tasks with the attempt's token."""
        return self.service.as_token(assignment.token, tasks.create_many, list(items))

    def end(
        self,
        assignment: Assignment,
        kind: EndKind = EndKind.EXIT,
        exit_code: int | None = None,
        *,
        sync: bool = True,
        **facts: Any,
    ) -> None:
        """Let the process end; the next sync, sent at once unless told otherwise, says how."""
        self.running.pop(assignment.attempt, None)
        if kind is EndKind.EXIT and exit_code is None and "signal" not in facts:
            exit_code = 0
        self.ended.append(Ended(assignment.attempt, kind, exit_code=exit_code, **facts))
        if sync:
            self.renew()

    def grow(self, *items: dict[str, Any]) -> list[str]:
        """Start the one task there is, let it create `items` and complete; return their UUIDs."""
        creator = self.take_one()
        created = self.create(creator, *items)
        self.complete(creator)
        return created.uuids

    def complete(self, assignment: Assignment, output: str | None = None) -> None:
        """Report success and end."""
        self.write(assignment, success=True, output=output)
        self.end(assignment)

    def fail(self, assignment: Assignment) -> None:
        """Report success=false and end: a permanent failure (R11)."""
        self.write(assignment, success=False)
        self.end(assignment)

    def crash(self, assignment: Assignment, exit_code: int = 2, **facts: Any) -> None:
        """End without a verdict: a temporary failure of the process's own (R12).

        The job must run a script: a command's exit code is its verdict (R39).
        """
        self.end(assignment, exit_code=exit_code, **facts)
