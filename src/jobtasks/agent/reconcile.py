"""Keeps the node and the server in step: join, sync, leave."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import TypeVar

import msgspec

from jobtasks.agent import freezer
from jobtasks.agent.access import TaskAccess
from jobtasks.agent.attempts import Attempts
from jobtasks.agent.channel import Answered, Connection, Server
from jobtasks.agent.ends import Ends
from jobtasks.agent.jobs import Jobs
from jobtasks.agent.loop import Loop
from jobtasks.agent.orders import OrderBook
from jobtasks.agent.pushing import Pusher
from jobtasks.agent.room import Room
from jobtasks.agent.scripts import Scripts
from jobtasks.protocol.messages import EndKind, Join, Joined, Orders, Sync

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 15.0
"""How long an answer may take beyond the time that the server may hold it."""

LINGER_SECONDS = 0.01
"""After starting something the next sync waits so long for an end that it can carry."""

GATHER_WAITING_SECONDS = 0.015
"""An end waits so long for others while work waits behind the slots: nobody needs the answer."""

LEAVE_SECONDS = 5.0
"""Beyond the grace: how long a leaving agent tries to tell the server."""

LEAVING_WAIT_SECONDS = 0.5
"""How long the server may hold a sync of an agent that is about to go."""

LAST_WORD_SECONDS = 2.0
"""Of these, how long before the end logs are given up and only the ends are told."""

RETRY_SECONDS_MIN = 0.05
RETRY_SECONDS_MAX = 1.0

_encode = msgspec.msgpack.Encoder().encode
_orders = msgspec.msgpack.Decoder(Orders)
_joined = msgspec.msgpack.Decoder(Joined)

Message = TypeVar("Message")


class Phase(Enum):
    """Where the agent stands with the server."""

    JOINING = "joining"
    """Until a join is answered; nothing runs."""
    JOINED = "joined"
    ENDING = "ending"
    """The server does not know us: what runs is ended, then joined anew."""
    LEAVING = "leaving"
    """Told to go: everything is ended and reported."""
    GONE = "gone"


class Reconciler:
    """The agent's side of the sync; `pump` is called once a turn of the loop.

    Every sync says the whole state of affairs, so a lost or doubled one does no harm. At most one
    waits at the server; when there is news the next is sent beside it, and when both lines are
    busy, news gather. Without contact it goes on trying for ever; attempts go on for `patience`
    (R34).
    """

    def __init__(
        self,
        loop: Loop,
        server: Server,
        access: TaskAccess,
        attempts: Attempts,
        ends: Ends,
        jobs: Jobs,
        pusher: Pusher,
        room: Room,
        make_join: Callable[[], Join],
        connect: Callable[[Loop, Server], Connection] = Connection,
        scripts: Scripts | None = None,
    ) -> None:
        self._loop = loop
        self._server = server
        self._access = access
        self._attempts = attempts
        self._ends = ends
        self._jobs = jobs
        self._pusher = pusher
        self._make_join = make_join
        self._book = OrderBook(loop, server, access, attempts, ends, jobs, pusher, room, self._tell)
        if scripts is not None:
            self._book.scripts = scripts
            scripts.in_use = self._book.packs_in_use
        self._lines = (connect(loop, server), connect(loop, server))
        self._agent = 0
        """The number that the server has given; 0 until a join is answered."""
        self._number = 0
        self._reported = 0
        self._news = False
        self._news_since = 0.0
        self._quiet_until = 0.0
        self._retry_at = 0.0
        self._retry_seconds = RETRY_SECONDS_MIN
        self._away = ""
        self._wake_at = 0.0
        self._awaited = 0
        """Number of the newest sync that told of ends: such are answered at once."""
        self._answered = 0
        """Number of the newest that is over."""
        self._enough = 0
        """More attempts than these that wait behind slots need no further ones soon."""
        self._renewed_at = loop.now()
        self._renew_seconds = 5.0
        self._patience_seconds = 900.0
        self._leave_until = 0.0
        self._goodbye = False
        self.is_sent_away = False
        """Whether the server has no use for this node any more."""
        self.phase = Phase.JOINING

    # The turn of the loop

    def pump(self) -> None:
        """Start what is at hand, and say what is to be said now."""
        if self._book.behind:
            self._book.advance()
        if self._book.fetching:
            self._book.look_for_scripts()
        if self._book.to_start:
            self._book.start_some()
        if self._ends.changes != self._reported:
            self._tell()
        now = self._loop.now()
        if now < self._retry_at:
            self._wake(self._retry_at)
        elif self.phase is Phase.JOINED:
            self._sync_if_due(now)
        elif self.phase is Phase.JOINING:
            self._send_join()
        elif self.phase is Phase.LEAVING:
            self._sync_or_leave(now)
        elif self.phase is Phase.ENDING and not self._attempts.live:
            self.phase = Phase.JOINING
            self._send_join()
        if self._book.to_start:
            self._wake(now)

    def _tell(self) -> None:
        """There is something that the server should hear soon."""
        if not self._news:
            self._news = True
            self._news_since = self._loop.now()

    def _tell_untold(self) -> None:
        if self._attempts.has_untold():
            self._tell()

    def _wake(self, when: float) -> None:
        """Turn the loop at `when` at the latest."""
        if not self._loop.now() < self._wake_at <= when:
            self._wake_at = when
            self._loop.at(when, lambda: None)

    def _busy_lines(self) -> int:
        return self._lines[0].busy + self._lines[1].busy

    def _sync_if_due(self, now: float) -> None:
        busy = self._busy_lines()
        if busy == 2 or (busy and not self._news):
            return
        due = self._news_since + self._gather_seconds() if self._news else self._quiet_until
        if now >= due:
            self._send_sync()
        else:
            self._wake(due)

    def _gather_seconds(self) -> float:
        """How long news may wait for more of it: until enough slots are idle to be worth a call."""
        is_answered_soon = self._enough and self._awaited > self._answered
        if len(self._book.behind) > self._enough or is_answered_soon:
            return GATHER_WAITING_SECONDS
        told = self._ends.changes - self._reported
        attempts = self._attempts
        is_busy = bool(attempts.live or attempts.starting or self._book.to_start)
        return attempts.gather_seconds(told, is_busy=is_busy)

    # Join

    def _send_join(self) -> None:
        line = self._lines[0]
        if line.busy:
            return
        self._agent = 0
        join = self._make_join()
        join.ended = list(self._ends.pending.values())
        answered = partial(self._take_joined, self._loop.now(), freezer.now())
        self._post(line, "/agent/v1/join", _encode(join), 0.0, answered)

    def _take_joined(self, sent_at: float, sent_boot: float, status: int, body: bytes) -> None:
        joined = self._read(_joined, status, body)
        if joined is None or self.phase not in (Phase.JOINING, Phase.LEAVING):
            return
        if joined.leave:
            logger.info("not let in: the request for this node is over")
            self.is_sent_away = True
            self.phase = Phase.GONE
            return
        self._agent = self._pusher.agent = joined.agent
        self._renew_seconds = joined.renew_seconds
        self._patience_seconds = joined.patience_seconds
        self._attempts.grace_seconds = joined.grace_seconds
        self._attempts.log_bytes_max = joined.log_bytes_max
        self._renewed_at = sent_at
        exclusive = self._attempts.exclusive
        exclusive.set_limits(joined.freeze_seconds, joined.patience_seconds)
        exclusive.renewed(sent_boot)
        self._book.forget()
        self._book.acknowledge(joined.acknowledged)
        self._reported = self._ends.changes
        self._news = False
        if self.phase is Phase.JOINING:
            self.phase = Phase.JOINED
        logger.info("joined %s as agent %d", self._server.url, joined.agent)

    # Sync

    def _send_sync(self, leaving: bool = False) -> None:
        line = self._lines[1] if self._lines[0].busy else self._lines[0]
        wait_seconds = 0.0 if leaving else self._renew_seconds
        if self._book.closed:
            wait_seconds = min(wait_seconds, LEAVING_WAIT_SECONDS)
        self._number += 1
        running, young = self._attempts.alive()
        if young:
            self._loop.after(LINGER_SECONDS, self._tell_untold)
        places = 1 if self._book.closed else self._attempts.places()
        self._enough = self._attempts.size * (places - 1) // 2
        sync = Sync(
            agent=self._agent,
            number=self._number,
            running=running,
            ended=list(self._ends.pending.values()),
            refused=self._book.refused.name(self._number),
            unknown=self._book.unknown.name(self._number),
            free_slots=[] if self._book.closed else self._attempts.free_slots(),
            places=places,
            held=young + self._book.held(),
            jobs_known=list(self._jobs.known),
            wait_seconds=wait_seconds,
            leaving=leaving,
            trust=self._access.mark,
        )
        self._news = False
        self._reported = self._ends.changes
        if sync.ended:
            self._awaited = sync.number
        answered = partial(self._take_orders, self._loop.now(), freezer.now(), leaving)
        self._post(line, "/agent/v1/sync", _encode(sync), wait_seconds, answered)

    def _take_orders(
        self, sent_at: float, sent_boot: float, leaving: bool, status: int, body: bytes
    ) -> None:
        orders = self._read(_orders, status, body)
        if orders is None:
            return
        self._answered = max(self._answered, orders.number)
        if orders.rejoin:
            self._rejoin()
        elif orders.stale:
            # Of two under way the newer has said it all.
            if not self._busy_lines():
                self._tell()
        else:
            if orders.renewed:
                self._renewed_at = max(self._renewed_at, sent_at)
            # Who is to stop must not be thawed first.
            self._book.obey(orders, sent_at)
            if orders.renewed:
                self._attempts.exclusive.renewed(sent_boot)
            if orders.start:
                self._quiet_until = self._loop.now() + LINGER_SECONDS
            if orders.leave and self.phase is Phase.JOINED:
                self.is_sent_away = True
                self.leave()
        if leaving and not orders.stale:
            self.phase = Phase.GONE

    def _rejoin(self) -> None:
        if self.phase is Phase.JOINED:
            logger.warning("the server does not know this agent: ending what runs, joining anew")
            self.phase = Phase.ENDING
            self._book.forget()
            reason = "the server no longer knew this agent"
            self._attempts.stop_all(EndKind.AGENT_LOST, reason)
        elif self.phase is Phase.LEAVING:
            self.phase = Phase.GONE

    # Calls

    def _post(
        self, line: Connection, path: str, body: bytes, wait_seconds: float, answered: Answered
    ) -> None:
        line.post(path, body, wait_seconds + ANSWER_SECONDS, answered, self._failed)

    def _read(
        self, decoder: msgspec.msgpack.Decoder[Message], status: int, body: bytes
    ) -> Message | None:
        """Return the decoded answer; None, and trouble noted, when it is none."""
        try:
            if status != 200:
                raise ValueError(f"status {status}: {_said(body)}")
            answer = decoder.decode(body)
        except (ValueError, msgspec.DecodeError) as error:
            self._failed(str(error))
            return None
        if self._away:
            logger.info("in contact with the server again")
            self._away = ""
            self._retry_seconds = RETRY_SECONDS_MIN
        return answer

    def _failed(self, reason: str) -> None:
        if self._away != reason:
            self._away = reason
            logger.warning("no contact with %s: %s", self._server.url, reason)
        self._server.look_again()
        self._answered = self._number
        self._retry_at = self._loop.now() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS_MAX)
        self._attempts.repeat_tails()
        self._goodbye = False
        self._tell()

    # Time, and the end

    def watch_patience(self) -> None:
        """End all attempts when no renewal was acknowledged for too long (R34)."""
        if not self._attempts.live:
            self._renewed_at = self._loop.now()
        elif self._loop.now() - self._renewed_at > self._patience_seconds:
            self._attempts.stop_all(EndKind.AGENT_LOST, "no contact with the server")

    def leave(self) -> None:
        """Begin to go: end everything as *stopped* (R14), report it, say goodbye.

        A join under way is waited for: the server would keep a node that has gone until its lease
        is over.
        """
        if self.phase in (Phase.LEAVING, Phase.GONE):
            return
        logger.info("leaving: ending %d attempts", len(self._attempts.live))
        self._book.close()
        self._attempts.stop_all(EndKind.STOPPED, "the agent was told to stop")
        joining = self.phase is Phase.JOINING and self._lines[0].busy
        is_told = joining or self.phase is Phase.JOINED or self._attempts.live
        self.phase = Phase.LEAVING if is_told else Phase.GONE
        grace_seconds = 0.0 if joining else self._attempts.grace_seconds
        self._leave_until = self._loop.now() + grace_seconds + LEAVE_SECONDS
        for when in (self._leave_until - LAST_WORD_SECONDS, self._leave_until):
            self._loop.at(when + 0.001, lambda: None)
        self._tell()

    def _sync_or_leave(self, now: float) -> None:
        if not self._agent:
            if not self._lines[0].busy:
                self.phase = Phase.GONE
            return
        last = now > self._leave_until - LAST_WORD_SECONDS
        said = not self._ends.pending and (self._pusher.idle or last)
        if self._attempts.live or not said:
            self._sync_if_due(now)
        elif not self._goodbye and self._busy_lines() < 2:
            self._goodbye = True
            self._send_sync(leaving=True)

    def is_over(self) -> bool:
        """May the process end now?"""
        if self.phase is Phase.LEAVING and self._loop.now() > self._leave_until:
            logger.warning("leaving without the server's answer")
            self.phase = Phase.GONE
        return self.phase is Phase.GONE


def _said(body: bytes) -> str:
    """Return what a refusal says, without what differs from one to the next."""
    try:
        return "; ".join(map(str, msgspec.json.decode(body)["errors"]))
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeError):
        return body[:300].decode(errors="replace")
