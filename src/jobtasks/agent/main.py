"""The agent: `python -m jobtasks.agent.main`, started by the keeper.

Exit codes: 0 it was told to go and went; 1 its keeper died; 3 the server sent it away: its keeper
goes, too; 125 it cannot work here.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import importlib.util
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jobtasks.agent import cgroups, environment, group_files, machine, procfs, trees
from jobtasks.agent.access import TaskAccess
from jobtasks.agent.attempts import Attempts
from jobtasks.agent.channel import Server
from jobtasks.agent.cleaner import Cleaner
from jobtasks.agent.ends import Ends
from jobtasks.agent.exclusive import Exclusive
from jobtasks.agent.jobs import Jobs
from jobtasks.agent.logs import Log, left_over
from jobtasks.agent.loop import Loop
from jobtasks.agent.pushing import Pusher
from jobtasks.agent.reconcile import Reconciler
from jobtasks.agent.room import Room
from jobtasks.agent.scripts import Scripts
from jobtasks.agent.settle import settle
from jobtasks.agent.slot_table import SlotTable
from jobtasks.agent.slots import Slot
from jobtasks.agent.starters import Starters
from jobtasks.agent.trees import Trees
from jobtasks.agent.warm import Warm
from jobtasks.protocol.messages import VERSION, Join

logger = logging.getLogger("jobtasks.agent")

CANNOT_WORK = 125
KEEPER_DIED = 1
SENT_AWAY = 3

LOCK_SECONDS = 3.0
"""How long to wait for an earlier agent of the node to end."""

WATCH_SECONDS = 1.0
"""How often trees, memory and patience are looked at when nothing else happens."""


ACCESS_SECONDS = 60.0
"""How often is looked whether tasks are to trust other authorities."""


class AgentError(Exception):
    """The agent cannot work with what it was given; the message is one line."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options, those that keeper and agent share."""
    result = argparse.ArgumentParser(prog="jobtasks-agent", description="Runs tasks on this node.")
    result.add_argument("--server", required=True, metavar="URL")
    result.add_argument("--token-file", required=True, type=Path, metavar="FILE")
    result.add_argument("--node-dir", required=True, type=Path, metavar="DIR")
    result.add_argument("--ca-file", type=Path, metavar="FILE", help="whom an https server must be")
    result.add_argument("--slots", type=int, default=0, help="0: as many as there are cores")
    result.add_argument("--cores", type=int, default=0, help="0: as many as there are")
    result.add_argument("--memory-kib", type=int, default=0, help="0: as much as there is")
    result.add_argument("--pass-env", action="append", default=[], metavar="NAME")
    result.add_argument("--cgroups", default=cgroups.AUTO, metavar="auto|all|off|DIR")
    result.add_argument("--in-place", action="store_true", help="start scripts where they are")
    result.add_argument("--request", default="", metavar="NAME", help="the engine's request")
    result.add_argument("--place", default="", metavar="NAME", help="the engine's name of the node")
    result.add_argument("--keeper", type=int, default=0, metavar="PID", help=argparse.SUPPRESS)
    result.add_argument("--keeper-fd", type=int, default=-1, help=argparse.SUPPRESS)
    return result


class Agent:
    """The parts of the agent, put together; `run` returns the exit code."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._node: Path = options.node_dir.resolve()
        self._cores = options.cores or machine.cores()
        self._slots = options.slots or self._cores
        self._hostname = socket.gethostname()
        self._loop = Loop()
        self._keeper_died = False
        self._lock = -1
        self._groups: cgroups.NodeGroups | None = None

    def run(self) -> int:
        """Take the node, settle what an earlier agent left, join, and work until told to go."""
        self._make_directories()
        self._take_lock()
        procfs.become_subreaper()
        self._loop.take_signals(signal.SIGTERM)
        signal.signal(signal.SIGINT, signal.SIG_IGN if self._options.keeper else self._interrupt)
        self._watch_keeper()
        found = group_files.end(self._node)
        found += settle(f"{self._node}/slots.table", f"{self._node}/work")
        if found:
            logger.warning("ended %d processes that an earlier agent had left", found)
        self._open_groups()
        try:
            self._build()
            gc.freeze()
            self._work()
        finally:
            if self._groups is not None:
                self._groups.close(self._node)
        if self._keeper_died:
            return KEEPER_DIED
        return SENT_AWAY if self._reconciler.is_sent_away else 0

    def _open_groups(self) -> None:
        where = self._options.cgroups
        try:
            self._groups = cgroups.open_groups(where, self._node_id, self._node)
        except cgroups.GroupsError as error:
            if where not in (cgroups.AUTO, cgroups.ALL, cgroups.OFF):
                raise AgentError(f"no control groups in {where}: {error}") from None
            logger.info("control groups are not used: %s", error)
        else:
            used = self._groups.abilities.describe()
            logger.info("control groups in %s: %s", self._groups.directory, used)

    def _interrupt(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def _make_directories(self) -> None:
        try:
            for name in ("", "work", "jobs", "logs", "sdk", "scripts"):
                (self._node / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._node_id = self._lasting_id()
            self._link_sdk()
        except OSError as error:
            raise AgentError(f"cannot use the node's directory: {error}") from None

    def _lasting_id(self) -> str:
        """Return the node's id, made once (R12: nodes are told apart by it)."""
        path = self._node / "node.id"
        if not path.exists():
            new = path.with_suffix(".new")
            new.write_text(secrets.token_hex(16) + "\n")
            new.rename(path)
        return path.read_text().strip()

    def _link_sdk(self) -> None:
        """Make a directory for PYTHONPATH with the SDK alone in it (R38)."""
        found = importlib.util.find_spec("jobtasks_sdk")
        if found is None or not found.submodule_search_locations:
            logger.warning("the SDK for scripts is not installed: tasks go without")
            return
        link = self._node / "sdk" / "jobtasks_sdk"
        target = found.submodule_search_locations[0]
        if not link.is_symlink() or str(link.readlink()) != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)

    def _take_lock(self) -> None:
        """Take the node's lock for the life of this process."""
        self._lock = os.open(self._node / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        limit = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > limit:
                    raise AgentError(f"another agent has the node {self._node}") from None
                time.sleep(0.02)

    def _watch_keeper(self) -> None:
        """When the keeper dies, nobody would clean up after us: so we end, too."""
        keeper = self._options.keeper
        if not keeper:
            return
        try:
            pidfd = os.pidfd_open(keeper)
        except OSError:
            raise AgentError("the keeper has died") from None
        if os.getppid() != keeper:
            raise AgentError("the keeper has died")
        self._loop.watch(pidfd, self._note_keeper_died)

    def _note_keeper_died(self, events: int) -> None:
        self._keeper_died = True

    def _build(self) -> None:
        try:
            self._put_together()
        except OSError as error:
            raise AgentError(f"cannot use the node's directory: {error}") from None

    def _put_together(self) -> None:
        loop, options = self._loop, self._options
        try:
            server = Server(
                options.server, options.token_file, self._node / "server.url", options.ca_file
            )
        except (ValueError, OSError) as error:
            raise AgentError(str(error)) from None
        self._access = TaskAccess(self._node / "ca-bundle.pem", options.ca_file, os.environ)
        cleaner = Cleaner(f"{self._node}/work")
        cleaner.take_leftovers()
        ends = Ends(f"{self._node}/ends.journal")
        room = Room(str(self._node))
        self._pusher = Pusher(loop, server)
        self._add_left_over_logs()
        self._trees = Trees()
        table = SlotTable(f"{self._node}/slots.table", self._slots)
        slots = self._make_slots(cleaner)
        exclusive = Exclusive(loop, options.keeper_fd)
        self._attempts = Attempts(
            loop, slots, table, self._trees, ends, self._pusher.add, room, exclusive
        )
        if Starters.are_there():
            self._attempts.starters = Starters(loop)
        self._attempts.log_directory = f"{self._node}/logs"
        if self._groups is not None:
            self._attempts.groups_name = self._groups.prefix
            self._attempts.groups_all = options.cgroups != cgroups.AUTO
            self._groups.births.register(self._trees.leaders)
        base = self._base_environment()
        self._attempts.warm = self._warm = Warm(loop, self._trees.leaders, base)
        jobs = Jobs(f"{self._node}/jobs", base, cleaner)
        scripts = Scripts(
            f"{self._node}/scripts", loop, server, room, cleaner, in_place=options.in_place
        )
        self._reconciler = Reconciler(
            loop,
            server,
            self._access,
            self._attempts,
            ends,
            jobs,
            self._pusher,
            room,
            self._join,
            scripts=scripts,
        )

    def _make_slots(self, cleaner: Cleaner) -> list[Slot]:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        parent = f"{self._node}/work"
        group = self._groups.slot if self._groups is not None else lambda number: None
        numbers = range(1, self._slots + 1)
        return [Slot(n, parent, self._loop, null, cleaner, group(n)) for n in numbers]

    def _base_environment(self) -> dict[str, str]:
        own = environment.inherited(os.environ, self._options.pass_env)
        sdk = f"{self._node}/sdk"
        return environment.node_variables(self._hostname, self._slots, sdk, own)

    def _add_left_over_logs(self) -> None:
        """Whose end the server has not heard is told by the journal; the log is pushed anyway."""
        logs: list[Log] = left_over(f"{self._node}/logs")
        for log in logs:
            self._pusher.add(log)

    def _join(self) -> Join:
        return Join(
            version=VERSION,
            node=self._node_id,
            hostname=self._hostname,
            incarnation=secrets.token_hex(8),
            slots=self._slots,
            memory_kib=min(self._options.memory_kib or sys.maxsize, machine.memory_kib()),
            cores=self._cores,
            scratch_mb=machine.scratch_mb(str(self._node)),
            request=self._options.request,
            place=self._options.place,
        )

    def _work(self) -> None:
        loop, attempts, reconciler = self._loop, self._attempts, self._reconciler
        pusher = self._pusher
        self._watch()
        self._watch_access()
        while not reconciler.is_over():
            attempts.settle()
            reconciler.pump()
            pusher.pump()
            loop.turn()
            if loop.signalled:
                loop.signalled.clear()
                reconciler.leave()
            if self._keeper_died:
                logger.warning("the keeper has died: ending everything")
                break
        attempts.finish_starts()
        trees.end_all()

    def _watch(self) -> None:
        self._attempts.watch_trees()
        self._attempts.watch_memory()
        self._warm.tidy()
        self._reconciler.watch_patience()
        self._loop.after(WATCH_SECONDS, self._watch)

    def _watch_access(self) -> None:
        self._access.look()
        self._loop.after(ACCESS_SECONDS, self._watch_access)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent; return its exit code."""
    logging.basicConfig(
        format="%(asctime)s agent[%(process)d] %(levelname)s %(message)s", level=logging.INFO
    )
    try:
        return Agent(parser().parse_args(arguments)).run()
    except AgentError as error:
        logger.error("%s", error)
        return CANNOT_WORK


if __name__ == "__main__":
    sys.exit(main())
