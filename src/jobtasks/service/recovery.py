"""What a database must forget when it comes back from a backup: whom it believed to live.

Since the backup was made, attempts have ended, and others began of which it knows nothing. Their
processes may still be there, with tokens that are derived from their ids: so no id of an attempt
or agent that was given meanwhile may be given again.
"""

from __future__ import annotations

from typing import NamedTuple

from jobtasks.protocol.messages import EndKind
from jobtasks.service import nodes
from jobtasks.service.context import Context

NUMBERED = ("attempt", "agent")
"""Tables whose ids processes carry."""
EPOCH = 1_577_836_800_000_000
"""2020-01-01 in Unix microseconds."""
ID_MICROSECONDS = 100
"""An id for so much time: more than a server gives, and they fit into tokens until 2075."""
RESTORED = "the server was restored from a backup"


class LiveAgent(NamedTuple):
    """An agent that lived when the backup was made."""

    id: int
    node_id: int


def begin_anew(ctx: Context, *, has_logs: bool) -> int:
    """End every agent with its attempts (R12, R14: lost), before anything else uses the database.

    Ids of attempts and agents go on above what the time amounts to, which no earlier life of this
    database can have reached. Without `has_logs` the logs of the past are recorded as removed.
    Return how many agents ended.
    """
    agents = ctx.tx.all(LiveAgent, "agents_live")
    for agent in agents:
        nodes.lose_agent(ctx, agent.id, agent.node_id, EndKind.AGENT_LOST, RESTORED)
    for name in NUMBERED:
        ctx.tx.run("ids_begun", name=name)
        ctx.tx.run("ids_leap", name=name, floor=max(0, ctx.now - EPOCH) // ID_MICROSECONDS)
    if not has_logs:
        ctx.tx.run("logs_left_behind", now=ctx.now)
    return len(agents)
