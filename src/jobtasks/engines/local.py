"""The engine of this machine: an agent is placed by starting its keeper.

`jobtasks serve` watches over the keeper of its own node itself (api/node.py), by what is here; the
class serves where this machine is to be asked for as any other engine is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from jobtasks.core.growth import Offer
from jobtasks.core.requests import Ask, Limits, RequestState, Sighting
from jobtasks.engines.base import Refused, Setting, Unclear, read_options

START_TIME_FIELD = 19
"""Place of the start time in /proc/PID/stat, after the name of the program."""
PLACE = "localhost"
AWAIT_SECONDS = 0.01
"""How often is looked whether a keeper has begun."""


def keeper_words(
    url: str,
    slots: int | None,
    pass_env: Sequence[str],
    cgroups: str = "auto",
    *,
    in_place: bool = False,
) -> list[str]:
    """Return a keeper's command line but for its node's directory, token and authorities.

    `slots` None: as many as the machine has cores. `pass_env` names variables that tasks inherit.
    `cgroups`: `auto`, `all`, `off`, or a directory for the node's group. `in_place`: the node sees
    the server's directories, and starts scripts where they are.
    """
    command = [sys.executable, "-m", "jobtasks.agent.keeper", "--server", url]
    if slots is not None:
        command += ["--slots", str(slots)]
    if cgroups != "auto":
        command += ["--cgroups", cgroups]
    for name in pass_env:
        command += ["--pass-env", name]
    return [*command, "--in-place"] if in_place else command


def keeper_command(
    url: str,
    token_file: Path,
    node_dir: Path,
    slots: int | None,
    pass_env: Sequence[str],
    ca_file: Path | None = None,
    cgroups: str = "auto",
    *,
    in_place: bool = False,
) -> list[str]:
    """Return the command line of a node's keeper, which starts and watches the agent.

    `ca_file` holds the certificates by which a server at an https address is known; None: it must
    be known to the system. The rest is as for `keeper_words`.
    """
    command = keeper_words(url, slots, pass_env, cgroups, in_place=in_place)
    command += ["--token-file", str(token_file), "--node-dir", str(node_dir)]
    return [*command, "--ca-file", str(ca_file)] if ca_file is not None else command


def start_time(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[START_TIME_FIELD])


def find_keeper(node_dir: Path) -> int | None:
    """Return a pidfd of a node's keeper, None when there is none."""
    try:
        pid, started = map(int, (node_dir / "keeper.pid").read_text(encoding="ascii").split())
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return None
    # Compared after the pidfd is held: from here on it cannot become another process.
    if start_time(pid) == started:
        return pidfd
    os.close(pidfd)
    return None


def start_keeper(node_dir: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a keeper in a session of its own, which inherits nothing but its log.

    So it outlives a server that is killed; the next one finds it. Errors: OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    log = os.open(node_dir / "agent.log", flags, 0o600)
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    finally:
        os.close(log)


class LocalOptions(msgspec.Struct, frozen=True):
    """The engine of this machine has no options."""


class LocalEngine:
    """Has one node, this machine, in the engine's own directory; it serves all jobs."""

    name = "local"
    hosts: Sequence[str] = (PLACE,)

    def __init__(self, setting: Setting) -> None:
        read_options(self.name, LocalOptions, setting.options)
        self._setting = setting
        self._node = setting.state / "node"
        self._request = self._node / "request"
        self._children: list[subprocess.Popen[bytes]] = []

    def offer(self) -> Offer:
        """Return what its node has."""
        return Offer(self._setting.slots or len(os.sched_getaffinity(0)), nodes_max=1)

    def limits(self) -> Limits:
        """Return that nothing is known: nodes say themselves what they have."""
        return Limits(nodes_max=1)

    def ask(self, name: str, ask: Ask) -> str:
        """Start the keeper."""
        if self._is_there():
            raise Refused("this machine has its node already")
        setting = self._setting
        self._node.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = keeper_command(
            setting.url,
            setting.token_file,
            self._node,
            setting.slots,
            setting.pass_env,
            self._authorities(),
            setting.cgroups,
            in_place=True,
        )
        self._request.write_text(name)
        try:
            child = start_keeper(self._node, [*command, "--request", name, "--place", PLACE])
        except OSError as error:
            raise Refused(f"the keeper cannot be started: {error}") from None
        self._children.append(child)
        self._await(child)
        return name

    def _await(self, child: subprocess.Popen[bytes]) -> None:
        """Return when the keeper has said who it is; errors: Refused, Unclear."""
        limit = time.monotonic() + self._setting.command_seconds
        while (pidfd := find_keeper(self._node)) is None:
            if child.poll() is not None:
                raise Refused(f"the keeper ended at once ({child.returncode})")
            if time.monotonic() > limit:
                raise Unclear("the keeper does not begin")
            time.sleep(AWAIT_SECONDS)
        os.close(pidfd)

    def _authorities(self) -> Path | None:
        """Return the file by which the agent knows the server, written anew."""
        if not self._setting.authorities:
            return None
        path = self._node / "ca.pem"
        path.write_text(self._setting.authorities, encoding="ascii")
        return path

    def look(self, names: Sequence[str]) -> list[Sighting]:
        """Return the one request that was granted last, or is over."""
        try:
            name = self._request.read_text()
        except OSError:
            return []
        state = RequestState.GRANTED if self._is_there() else RequestState.OVER
        places = (PLACE,) if state is RequestState.GRANTED else ()
        return [Sighting(name, name, state, state.value, "", places)]

    def _is_there(self) -> bool:
        self._children = [child for child in self._children if child.poll() is None]
        pidfd = find_keeper(self._node)
        if pidfd is not None:
            os.close(pidfd)
        return pidfd is not None

    def is_gone(self, engine_id: str) -> bool:
        """Return whether no keeper of that request is there."""
        return not any(
            one.engine_id == engine_id and one.state is not RequestState.OVER
            for one in self.look([])
        )

    def give_back(self, engine_id: str, places: Sequence[str]) -> None:
        """Do nothing: it has one node."""

    def cancel(self, engine_id: str) -> None:
        """End the keeper and its agent in good order."""
        if self.is_gone(engine_id):
            return
        pidfd = find_keeper(self._node)
        if pidfd is None:
            raise Unclear("the keeper has not begun yet")
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        os.close(pidfd)

    def close(self) -> None:
        """Leave the keeper to the next server."""
        for child in self._children:
            # It goes on without us: nobody is to be warned of that.
            child.returncode = child.poll() or 0
